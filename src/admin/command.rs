//! The commands: what they are, who may give them, and what a text means.
//!
//! Owns: [`COMMANDS`], the one table that says which right a command needs; a command without a row cannot be read.
//! Does not own: carrying them out.

use std::sync::Arc;

use super::operations::{Command, ShutdownMode};
use super::table::Table;
use super::words::{self, Word};
pub use crate::config::ConsoleRight as Right;
use crate::config::parse_duration;
use crate::fault::{Code, Fault};
use crate::tenant::{FreezeReason, TenantId, TenantKind};

/// What a text asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing.
    Empty,
    /// A table.
    Show(Table),
    /// A setting that drivers ask a server for.
    ShowSetting(&'static str, &'static str),
    /// A setting that drivers send, accepted and dropped.
    Set,
    /// Something is to be done.
    Perform(Command),
}

impl Request {
    /// The tag of CommandComplete.
    #[must_use]
    pub const fn tag(&self) -> &'static str {
        match self {
            Request::Empty => "",
            Request::Show(_) | Request::ShowSetting(..) => "SHOW",
            Request::Set => "SET",
            Request::Perform(command) => match command {
                Command::Pause(_) => "PAUSE",
                Command::Resume(_) => "RESUME",
                Command::Reconnect(_) => "RECONNECT",
                Command::Kill(_) => "KILL",
                Command::KillClient(_) => "KILL_CLIENT",
                Command::Reload => "RELOAD",
                Command::Shutdown(_) => "SHUTDOWN",
                Command::Freeze { .. } | Command::FreezeBypass { .. } => "FREEZE",
                Command::Thaw { .. } | Command::ThawBypass { .. } => "THAW",
                Command::OpenEmergency { .. } | Command::CloseEmergency { .. } => "EMERGENCY",
            },
        }
    }
}

/// One command.
#[derive(Clone, Copy)]
pub struct CommandRow {
    /// Its first word, lower case.
    pub verb: &'static str,
    /// Its form, for SHOW HELP and the documentation.
    pub syntax: &'static str,
    /// The least right that may give it.
    pub right: Right,
    /// What it does.
    pub meaning: &'static str,
    read: fn(&mut Arguments<'_>) -> Result<Request, Fault>,
}

const fn row(
    verb: &'static str,
    syntax: &'static str,
    right: Right,
    meaning: &'static str,
    read: fn(&mut Arguments<'_>) -> Result<Request, Fault>,
) -> CommandRow {
    CommandRow { verb, syntax, right, meaning, read }
}

/// Every command.
pub const COMMANDS: &[CommandRow] = &[
    row("show", "SHOW <table>", Right::Stats, "Shows a table.", read_show),
    row(
        "set",
        "SET <setting> = <value>",
        Right::Stats,
        "Accepts and drops what drivers set when they connect.",
        read_set,
    ),
    row("pause", "PAUSE [<database>]", Right::Admin, "Lends no server any more; done when none is on loan.", |it| {
        it.database().map(Command::Pause).map(Request::Perform)
    }),
    row("resume", "RESUME [<database>]", Right::Admin, "Ends PAUSE and KILL.", |it| {
        it.database().map(Command::Resume).map(Request::Perform)
    }),
    row("reconnect", "RECONNECT [<database>]", Right::Admin, "Replaces every server when it is next free.", |it| {
        it.database().map(Command::Reconnect).map(Request::Perform)
    }),
    row(
        "kill",
        "KILL [<database>]",
        Right::Admin,
        "Drops clients and servers at once; newcomers wait until RESUME.",
        |it| it.database().map(Command::Kill).map(Request::Perform),
    ),
    row(
        "kill_client",
        "KILL_CLIENT <id>",
        Right::Admin,
        "Drops one client, by the id of SHOW CLIENTS.",
        read_kill_client,
    ),
    row("reload", "RELOAD", Right::Admin, "Reads the configuration again; on an error the old one stays.", |_| {
        Ok(Request::Perform(Command::Reload))
    }),
    row(
        "shutdown",
        "SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]",
        Right::Admin,
        "Ends the proxy: at once, between transactions, or when the last client has left.",
        read_shutdown,
    ),
    row(
        "freeze",
        "FREEZE {TENANT '<tenant>' | BYPASS} REASON '<why>'",
        Right::Admin,
        "Ends a tenant's sessions and lets nobody log in for it, or ends every bypass and emergency and lets none begin; also after a restart.",
        |it| match it.bypass_reason()? {
            Some(reason) => Ok(Request::Perform(Command::FreezeBypass { reason })),
            None => it.tenant_and_reason().map(|(tenant, reason)| Request::Perform(Command::Freeze { tenant, reason })),
        },
    ),
    row("thaw", "THAW {TENANT '<tenant>' | BYPASS} REASON '<why>'", Right::Admin, "Ends a freeze.", |it| {
        match it.bypass_reason()? {
            Some(reason) => Ok(Request::Perform(Command::ThawBypass { reason })),
            None => it.tenant_and_reason().map(|(tenant, reason)| Request::Perform(Command::Thaw { tenant, reason })),
        }
    }),
    row(
        "emergency",
        "EMERGENCY {OPEN '<login>' FOR '<time>' REASON '<why>' | CLOSE '<login or id>'}",
        Right::Admin,
        "Lets a bypass login go beyond its rules for a while, or no longer.",
        read_emergency,
    ),
];

/// Settings that drivers set on whatever they connect to: they mean nothing here.
const SETTINGS_DROPPED: [&str; 14] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
];

/// Settings that drivers ask for; always the same here.
pub(super) const SETTINGS_SHOWN: [(&str, &str); 6] = [
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("timezone", "UTC"),
    ("transaction_isolation", "read committed"),
];

/// Reads a command and checks that `right` suffices for it.
///
/// # Errors
/// It is none, its arguments are wrong, or somebody with more rights must give it.
pub fn parse(text: &str, right: Right, kind: TenantKind) -> Result<Request, Fault> {
    let words = words::cut(text).map_err(|fault| unknown().with_detail(fault.to_string()))?;
    let (verb, rest) = match words.split_first() {
        None => return Ok(Request::Empty),
        Some((Word::Bare(verb), rest)) => (verb, rest),
        Some(_) => return Err(unknown()),
    };
    let Some(row) = COMMANDS.iter().find(|row| row.verb.eq_ignore_ascii_case(verb)) else {
        return Err(unknown());
    };
    if right < row.right {
        return Err(Fault::of(Code::ConsoleRightMissing));
    }
    let mut arguments = Arguments { words: rest, row, kind };
    let request = (row.read)(&mut arguments)?;
    if arguments.words.is_empty() { Ok(request) } else { Err(arguments.wrong("too many words")) }
}

fn unknown() -> Fault {
    Fault::of(Code::ConsoleCommandUnknown)
}

/// The words behind a command's first.
struct Arguments<'w> {
    words: &'w [Word],
    row: &'static CommandRow,
    kind: TenantKind,
}

impl Arguments<'_> {
    fn next(&mut self) -> Option<&Word> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn wrong(&self, detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
        let hint = format!("The command's form is: {}", self.row.syntax);
        Fault::of(Code::ConsoleArgumentWrong).with_detail(detail).with_hint(hint)
    }

    /// A name in any quoting.
    fn name(&mut self) -> Option<String> {
        match self.next()? {
            Word::Bare(name) | Word::Name(name) | Word::Text(name) => Some(name.clone()),
            Word::Sign(_) => None,
        }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        matches!(self.next(), Some(Word::Bare(word)) if word.eq_ignore_ascii_case(keyword))
    }

    fn database(&mut self) -> Result<Option<Arc<str>>, Fault> {
        if self.words.is_empty() {
            return Ok(None);
        }
        let name = self.name().filter(|name| !name.is_empty());
        name.map(|name| Some(name.into())).ok_or_else(|| self.wrong("a database's name is expected"))
    }

    fn tenant_and_reason(&mut self) -> Result<(TenantId, FreezeReason), Fault> {
        if !self.keyword("tenant") {
            return Err(self.wrong("the word TENANT is expected"));
        }
        let name = self.name().ok_or_else(|| self.wrong("a tenant is expected"))?;
        let tenant = TenantId::parse(self.kind, &name).map_err(|_| self.wrong("this is no tenant's name"))?;
        Ok((tenant, self.reason()?))
    }

    fn reason(&mut self) -> Result<FreezeReason, Fault> {
        if !self.keyword("reason") {
            return Err(self.wrong("a reason is expected"));
        }
        let Some(Word::Text(reason)) = self.next() else {
            return Err(self.wrong("the reason is expected in single quotes"));
        };
        FreezeReason::parse(reason).map_err(|fault| self.wrong(fault.to_string()))
    }

    /// `BYPASS REASON …`; `None`: it is about something else.
    fn bypass_reason(&mut self) -> Result<Option<FreezeReason>, Fault> {
        if !matches!(self.words.first(), Some(Word::Bare(word)) if word.eq_ignore_ascii_case("bypass")) {
            return Ok(None);
        }
        self.words = self.words.get(1..).unwrap_or_default();
        self.reason().map(Some)
    }
}

fn read_show(arguments: &mut Arguments<'_>) -> Result<Request, Fault> {
    let Some(Word::Bare(name)) = arguments.next() else {
        return Err(arguments.wrong("a table's name is expected"));
    };
    if let Some(table) = Table::find(name) {
        return Ok(Request::Show(table));
    }
    let setting = SETTINGS_SHOWN.iter().find(|(setting, _)| setting.eq_ignore_ascii_case(name));
    setting.map(|(name, value)| Request::ShowSetting(name, value)).ok_or_else(unknown)
}

/// `SET [SESSION | LOCAL] name {=|TO} value [, …]`
fn read_set(arguments: &mut Arguments<'_>) -> Result<Request, Fault> {
    let mut name = arguments.name();
    if name.as_ref().is_some_and(|word| ["session", "local"].iter().any(|it| word.eq_ignore_ascii_case(it))) {
        name = arguments.name();
    }
    let is_dropped =
        name.is_some_and(|name| SETTINGS_DROPPED.iter().any(|setting| setting.eq_ignore_ascii_case(&name)));
    if !is_dropped {
        let hint = "The proxy's settings are in its configuration file: change it and give RELOAD.";
        return Err(Fault::of(Code::ConsoleArgumentWrong).with_detail("There is no such setting.").with_hint(hint));
    }
    let has_sign = match arguments.next() {
        Some(Word::Sign('=')) => true,
        Some(Word::Bare(to)) => to.eq_ignore_ascii_case("to"),
        _ => false,
    };
    if !has_sign || arguments.words.is_empty() {
        return Err(arguments.wrong("a value is expected"));
    }
    arguments.words = &[];
    Ok(Request::Set)
}

/// `OPEN login FOR 'time' REASON 'why'`, `CLOSE login`
fn read_emergency(arguments: &mut Arguments<'_>) -> Result<Request, Fault> {
    let is_open = match arguments.next() {
        Some(Word::Bare(word)) if word.eq_ignore_ascii_case("open") => true,
        Some(Word::Bare(word)) if word.eq_ignore_ascii_case("close") => false,
        _ => return Err(arguments.wrong("OPEN or CLOSE is expected")),
    };
    let name = arguments.name().filter(|name| !name.is_empty());
    let name: Arc<str> = name.ok_or_else(|| arguments.wrong("a login is expected"))?.into();
    if !is_open {
        return Ok(Request::Perform(Command::CloseEmergency { name }));
    }
    if !arguments.keyword("for") {
        return Err(arguments.wrong("the word FOR is expected"));
    }
    let duration = arguments.name().and_then(|text| parse_duration(&text)).filter(|time| !time.is_zero());
    let duration = duration.ok_or_else(|| arguments.wrong("a length of time like '30m' is expected"))?;
    let reason = arguments.reason()?;
    Ok(Request::Perform(Command::OpenEmergency { login: name, duration, reason }))
}

fn read_kill_client(arguments: &mut Arguments<'_>) -> Result<Request, Fault> {
    let id = arguments.name().and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| arguments.wrong("the id of SHOW CLIENTS is expected"))?;
    Ok(Request::Perform(Command::KillClient(id)))
}

fn read_shutdown(arguments: &mut Arguments<'_>) -> Result<Request, Fault> {
    let mode = match arguments.next() {
        None => ShutdownMode::Now,
        Some(Word::Bare(mode)) if mode.eq_ignore_ascii_case("wait_for_servers") => ShutdownMode::WaitForServers,
        Some(Word::Bare(mode)) if mode.eq_ignore_ascii_case("wait_for_clients") => ShutdownMode::WaitForClients,
        Some(_) => return Err(arguments.wrong("this is no way to shut down")),
    };
    Ok(Request::Perform(Command::Shutdown(mode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(text: &str) -> Result<Request, Fault> {
        parse(text, Right::Admin, TenantKind::Text)
    }

    fn code(result: Result<Request, Fault>) -> Code {
        result.unwrap_err().code.unwrap()
    }

    #[test]
    fn every_command_is_read() {
        let tenant = TenantId::parse(TenantKind::Text, "acme").unwrap();
        let demo = Some(Arc::from("demo"));
        for (text, wanted) in [
            ("pause", Command::Pause(None)),
            ("PAUSE demo;", Command::Pause(demo.clone())),
            ("Resume \"demo\"", Command::Resume(demo.clone())),
            ("RECONNECT demo", Command::Reconnect(demo.clone())),
            ("kill demo", Command::Kill(demo)),
            ("KILL_CLIENT 17", Command::KillClient(17)),
            ("reload;", Command::Reload),
            ("SHUTDOWN", Command::Shutdown(ShutdownMode::Now)),
            ("shutdown wait_for_servers", Command::Shutdown(ShutdownMode::WaitForServers)),
            ("SHUTDOWN WAIT_FOR_CLIENTS;", Command::Shutdown(ShutdownMode::WaitForClients)),
            (
                "FREEZE TENANT 'acme' REASON 'it''s ours'",
                Command::Freeze { tenant: tenant.clone(), reason: FreezeReason::parse("it's ours").unwrap() },
            ),
            ("freeze bypass reason 'leak'", Command::FreezeBypass { reason: FreezeReason::parse("leak").unwrap() }),
            ("THAW BYPASS REASON 'ok'", Command::ThawBypass { reason: FreezeReason::parse("ok").unwrap() }),
            (
                "EMERGENCY OPEN 'ops' FOR '1h30m' REASON 'fire'",
                Command::OpenEmergency {
                    login: "ops".into(),
                    duration: std::time::Duration::from_secs(5_400),
                    reason: FreezeReason::parse("fire").unwrap(),
                },
            ),
            ("emergency close ops", Command::CloseEmergency { name: "ops".into() }),
            ("thaw tenant acme reason 'ok'", Command::Thaw { tenant, reason: FreezeReason::parse("ok").unwrap() }),
        ] {
            assert_eq!(admin(text), Ok(Request::Perform(wanted)), "{text}");
        }
        assert_eq!(admin("show STATS_totals ;"), Ok(Request::Show(Table::StatsTotals)));
        assert_eq!(admin("SET application_name = 'x'"), Ok(Request::Set));
        assert_eq!(admin("SET DateStyle TO ISO, DMY"), Ok(Request::Set));
        assert_eq!(admin("-- ping"), Ok(Request::Empty));
        assert!(matches!(admin("SHOW client_encoding"), Ok(Request::ShowSetting(_, "UTF8"))));
    }

    #[test]
    fn a_command_is_refused_to_whoever_has_not_its_right() {
        for row in COMMANDS {
            let refused = parse(row.verb, Right::Stats, TenantKind::Text)
                .is_err_and(|fault| fault.code == Some(Code::ConsoleRightMissing));
            assert_eq!(refused, row.right == Right::Admin, "{}", row.verb);
        }
        let admins: Vec<_> = COMMANDS.iter().filter(|row| row.right == Right::Stats).map(|row| row.verb).collect();
        assert_eq!(admins, ["show", "set"]);
    }

    #[test]
    fn wrong_arguments_are_told_with_the_form() {
        for text in [
            "KILL_CLIENT",
            "KILL_CLIENT x",
            "KILL_CLIENT 1 2",
            "KILL_CLIENT 99999999999",
            "PAUSE a b",
            "PAUSE ''",
            "SHUTDOWN now",
            "FREEZE acme",
            "FREEZE TENANT acme",
            "FREEZE TENANT acme REASON",
            "FREEZE TENANT acme REASON ''",
            "FREEZE TENANT acme REASON '  '",
            "FREEZE TENANT acme REASON why",
            "FREEZE TENANT '' REASON 'x'",
            "FREEZE TENANT acme REASON 'a\nb'",
            "FREEZE BYPASS",
            "THAW BYPASS REASON",
            "EMERGENCY ops FOR '30m' REASON 'fire'",
            "EMERGENCY OPEN ops FOR '30' REASON 'fire'",
            "EMERGENCY OPEN ops FOR '0s' REASON 'fire'",
            "EMERGENCY OPEN ops REASON 'fire'",
            "EMERGENCY OPEN ops FOR '30m'",
            "EMERGENCY CLOSE",
            "SET work_mem = 1",
            "SET timezone",
            "RELOAD now",
            "SHOW",
            "SHOW =",
        ] {
            assert_eq!(code(admin(text)), Code::ConsoleArgumentWrong, "{text}");
        }
        for text in ["SELECT 1", "BEGIN", "SHOW nothing", "'PAUSE'", "\"PAUSE\"", "PAUSE; RESUME", "PAUSE 'a"] {
            assert_eq!(code(admin(text)), Code::ConsoleCommandUnknown, "{text}");
        }
        assert_eq!(code(admin(&format!("FREEZE TENANT a REASON '{}'", "x".repeat(501)))), Code::ConsoleArgumentWrong);
        assert_eq!(
            code(parse("FREEZE TENANT acme REASON 'x'", Right::Admin, TenantKind::Uuid)),
            Code::ConsoleArgumentWrong
        );
    }
}
