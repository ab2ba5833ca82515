//! The table of stable codes.

use super::Severity;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct CodeRow {
    /// `TG` and three digits, never reused for anything else.
    pub name: &'static str,
    /// SQLSTATE a client sees.
    pub sqlstate: &'static [u8; 5],
    /// Whether the session ends.
    pub severity: Severity,
    /// Message if the place of refusal has none of its own.
    pub message: &'static str,
    /// What the user can do.
    pub hint: &'static str,
}

macro_rules! codes {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $sqlstate:literal, $severity:ident, $message:literal, $hint:literal; )*) => {
        /// A stable code of a refusal or failure of the proxy itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $( $(#[$doc])* $variant, )* }

        impl Code {
            /// Every code, in the table's order.
            pub const ALL: &'static [Code] = &[ $( Code::$variant, )* ];

            /// This code's row.
            #[must_use]
            pub const fn row(self) -> CodeRow {
                match self {
                    $( Code::$variant => CodeRow {
                        name: $name, sqlstate: $sqlstate, severity: Severity::$severity,
                        message: $message, hint: $hint,
                    }, )*
                }
            }
        }
    };
}

codes! {
    // -- tenant identity
    /// The login needs a tenant and the client named none.
    TenantMissing = "TG001", b"28000", Fatal, "no tenant for this connection",
        "Name the tenant in the user name (login.<tenant>) or in the startup options (-c app.tenant_id=<tenant>), as the login's configuration says.";
    /// The client's tenant is not of the configured type.
    TenantMalformed = "TG002", b"28000", Fatal, "the tenant is malformed",
        "Give the tenant in the configured type (a UUID unless the configuration says text).";
    /// The login may not act for this tenant.
    TenantForbidden = "TG003", b"28000", Fatal, "this login may not act for that tenant",
        "Use a login whose configuration lists this tenant.";

    // -- the guard
    /// A kind of statement that is not on the allow-list.
    StatementRefused = "TG010", b"42501", Error, "this kind of statement is not allowed here",
        "Run it over a login whose preset allows it, or directly on the server.";
    /// Would change the tenant.
    ScopeChange = "TG011", b"42501", Error, "the tenant of a session cannot be changed by SQL",
        "The tenant comes from the login; connect as the other tenant instead.";
    /// SET ROLE, SET SESSION AUTHORIZATION, row_security.
    RoleChange = "TG012", b"42501", Error, "the role of a session cannot be changed by SQL",
        "The server role comes from the proxy's configuration; use another login instead.";
    /// A setting that is not on the allow-list.
    SettingRefused = "TG013", b"42501", Error, "this setting is not on the allow-list",
        "Add the setting to [guard] settings_allowed if every tenant may change it for itself.";
    /// A setting's value that would put the proxy and the server at odds.
    SettingValueRefused = "TG014", b"22023", Error, "this value of the setting is not allowed",
        "Use UTF8 as client_encoding, leave standard_conforming_strings on, keep pg_temp out of search_path and client_min_messages at notice or above.";
    /// A function with effects beyond the tenant's rows.
    FunctionRefused = "TG015", b"42501", Error, "this function is not allowed here",
        "Add it to [guard] functions_allowed if it is safe for every tenant.";
    /// A function or statement that runs a string as SQL.
    StringExecutor = "TG016", b"42501", Error, "running a string as SQL is not allowed here",
        "Send the statement itself instead of a string that contains it.";
    /// Would leave state on a shared server.
    SessionState = "TG017", b"0A000", Error, "session state is not available in transaction pooling",
        "Use a form that ends with the transaction (protocol-level prepared statements, CTEs, transaction-level locks), or a login with session_state = \"pin\" or pool_mode = \"session\".";
    /// Reads other sessions, statistics or secrets.
    CatalogRefused = "TG018", b"42501", Error, "this system relation is not readable here",
        "It shows other sessions or other tenants' data; read it over a direct connection.";
    /// Data definition and administration.
    DefinitionRefused = "TG019", b"42501", Error, "data definition is not allowed here",
        "Run migrations over a direct connection or a login meant for them.";
    /// COPY with a file or a program on the server.
    CopyRefused = "TG020", b"42501", Error, "COPY with a server-side file or program is not allowed here",
        "Use COPY … FROM STDIN or COPY … TO STDOUT.";
    /// The text is not SQL.
    SyntaxError = "TG021", b"42601", Error, "syntax error",
        "The statement was not sent to the server: it could not be parsed.";
    /// The text is too long to be checked.
    TextTooLong = "TG022", b"54000", Error, "the statement is too long to be checked",
        "Send values as parameters or by COPY, or raise [guard] text_bytes_max.";
    /// The text is nested too deeply to be checked.
    TooDeep = "TG023", b"54001", Error, "the statement is nested too deeply to be checked",
        "Split the statement or flatten the expression.";
    /// The text is not UTF-8.
    NotUtf8 = "TG024", b"22021", Error, "the statement is not valid UTF-8",
        "Set the client's encoding to UTF8.";
    /// EXPLAIN shows other tenants' row counts.
    ExplainRefused = "TG025", b"42501", Error, "EXPLAIN is not allowed here: its row counts show other tenants' rows",
        "Use a direct connection, or a preset that allows EXPLAIN.";
    /// Transaction control that cannot be followed by the proxy.
    TransactionRefused = "TG026", b"0A000", Error, "this transaction control is not available through the proxy",
        "Two-phase commit needs a direct connection.";

    // -- the protocol
    /// FunctionCall message.
    FunctionCallRefused = "TG030", b"0A000", Error, "the FunctionCall message is not supported",
        "Call the function in a SELECT instead.";
    /// A replication connection.
    ReplicationRefused = "TG031", b"0A000", Fatal, "replication connections are not supported",
        "Connect to the server directly for replication.";
    /// A message that breaks the protocol.
    ProtocolViolation = "TG032", b"08P01", Fatal, "protocol violation",
        "This is a defect of the client or of the network between.";
    /// A message or one of its parts is longer than allowed.
    MessageTooLong = "TG033", b"08P01", Fatal, "a protocol message is too long",
        "Shorten it; send large values as parameters or by COPY.";
    /// A client that holds more named objects than allowed.
    TooManyNames = "TG035", b"54000", Error, "too many prepared statements, portals or changes of settings in this session",
        "Close prepared statements that are no longer used.";

    // -- logging in
    /// Wrong password or unknown user: never says which.
    PasswordRefused = "TG040", b"28P01", Fatal, "password authentication failed",
        "Check the user name, the password and the database.";
    /// No rule lets this client in.
    NoRule = "TG041", b"28000", Fatal, "no rule allows this connection",
        "See [[rules]] in the proxy's configuration.";
    /// TLS is required.
    TlsRequired = "TG042", b"28000", Fatal, "this connection needs TLS",
        "Set sslmode=require (or stronger) in the client.";
    /// Too many clients.
    TooManyClients = "TG043", b"53300", Fatal, "too many client connections",
        "Raise client_connections_max, or let clients wait in their own pool.";
    /// Login took too long.
    LoginTimeout = "TG044", b"08006", Fatal, "the login took too long",
        "Raise login_timeout if the network is slow.";
    /// Unknown database.
    DatabaseUnknown = "TG045", b"3D000", Fatal, "this database is not configured",
        "See [databases] in the proxy's configuration.";
    /// A startup parameter that is not allowed.
    StartupParameterRefused = "TG046", b"22023", Fatal, "this startup parameter is not allowed",
        "Add it to [guard] settings_allowed, or to startup_parameters_ignored.";

    // -- pools and servers
    /// Waited too long for a server.
    WaitTimeout = "TG050", b"53300", Error, "no server became free in time",
        "The pool is busy: see SHOW POOLS; raise the pool's size or shorten transactions.";
    /// The waiting queue is full.
    QueueFull = "TG051", b"53300", Error, "too many clients wait for a server",
        "The pool is busy: see SHOW POOLS; raise the pool's size or shorten transactions.";
    /// No server can be reached.
    ServerUnreachable = "TG052", b"08006", Fatal, "the database server cannot be reached",
        "Look at the server and at the proxy's log.";
    /// The server closed its connection.
    ServerLost = "TG053", b"08006", Fatal, "the connection to the database server was lost",
        "The transaction's outcome is unknown if a COMMIT was under way; otherwise retry.";
    /// The proxy is shutting down.
    ShuttingDown = "TG054", b"57P01", Fatal, "the proxy is shutting down",
        "Connect again.";
    /// The scope could not be confirmed.
    ScopeFailed = "TG055", b"XX000", Fatal, "the tenant could not be set on the server; the statement did not run",
        "See the proxy's log.";
    /// The server said something that fits nothing that was sent.
    ServerProtocol = "TG056", b"08P01", Fatal, "the database server sent an unexpected message",
        "See the proxy's log.";
    /// The client's settings could not be put on a server.
    SettingsFailed = "TG057", b"22023", Fatal, "the session's settings could not be put on a server",
        "Check the startup parameters of the client.";
    /// A bypass login's first statement came without a reason.
    ReasonMissing = "TG060", b"42501", Error, "a bypass needs a reason",
        "Say SET tenantgate.reason = '…' (or SET LOCAL in the transaction), or connect with options='-c tenantgate.reason=…'.";
    /// A reason that says nothing, or too much.
    ReasonRefused = "TG061", b"22023", Error, "this reason is not accepted",
        "Give a reason of 1 to 1024 bytes in one line, which a reviewer will read.";
    /// The ledger cannot be written, so nothing that has to be in it may run.
    LedgerUnavailable = "TG062", b"58030", Error, "the ledger cannot be written, so the transaction did not run",
        "Look at the proxy's log and at the file under [ledger] path; tenants are not affected.";
    /// A bypass client that names a tenant.
    BypassNamesTenant = "TG063", b"28000", Fatal, "a bypass login acts for no tenant",
        "Leave the tenant out of the startup parameters, or use a login that has a tenant.";
    /// Could end or continue a transaction past its record.
    LedgerEscape = "TG064", b"0A000", Error, "this is not available where every transaction is recorded",
        "Use plain BEGIN and COMMIT, and plain statements.";
    /// Changes who may see what.
    NeedsBypass = "TG065", b"42501", Error, "this changes who may see what and needs a bypass login",
        "Run it over a login with preset = \"bypass\", with a reason.";

    // -- limits of a bypass
    /// No rule of the login is about the reason, or the login may bypass in an emergency only.
    BypassNotCovered = "TG175", b"42501", Error, "no rule of this login covers this bypass",
        "Give the reason in the form that the login's rules ask for, or have an emergency opened (tenantgate emergency).";
    /// The rule that fits asks for another database, address, time or ticket.
    BypassOutside = "TG176", b"42501", Error, "this bypass is not allowed here and now",
        "The detail names the limit; the rules are the login's [[logins.*.bypass]].";
    /// A table, or what may hide one, that the rule does not list.
    BypassTable = "TG177", b"42501", Error, "this bypass may not use that table",
        "Name the tables as the rule lists them, with or without a schema; functions of the database are not allowed beside such a list.";
    /// A write in a bypass that may only read.
    BypassReadOnly = "TG178", b"25006", Error, "this bypass may only read",
        "Give a reason whose rule lets the login write.";
    /// More statements, rows or time than the rule allows.
    BypassOverLimit = "TG179", b"53400", Error, "the bypass is over its limit and was ended",
        "Do it in smaller transactions, or have the rule's limit raised. What it has written is rolled back.";
    /// FREEZE BYPASS.
    BypassFrozen = "TG180", b"55000", Error, "bypasses are frozen",
        "Ask the operator: nobody bypasses the tenants until THAW BYPASS.";
    /// The emergency under which a transaction ran is over.
    EmergencyOver = "TG181", b"57P01", Fatal, "the emergency under which this ran is over",
        "What the transaction has written is rolled back; have another emergency opened if it is needed.";

    // -- the operator
    /// A reload took away what the session rests on.
    NoLongerAdmitted = "TG070", b"57P01", Fatal, "the configuration has changed and this session may not go on",
        "Connect again; if that is refused, its message says why.";
    /// KILL or KILL_CLIENT.
    Killed = "TG071", b"57P01", Fatal, "the connection was ended by an administrator",
        "Connect again.";
    /// FREEZE TENANT.
    TenantFrozen = "TG072", b"28000", Fatal, "this tenant is frozen",
        "Ask the operator: nobody works for this tenant until it is thawed.";
    /// RELOAD.
    ReloadFailed = "TG073", b"F0000", Error, "the configuration was not reloaded; the old one stays in force",
        "Mend the file, check it with tenantgate check-config, and reload again.";
    /// FREEZE or THAW whose record cannot be written.
    StateUnwritten = "TG074", b"58030", Error, "the change could not be recorded, so nothing was changed",
        "Look at the folder of [state] and at the proxy's log.";
    /// FREEZE or THAW without a place for its record.
    StateMissing = "TG075", b"55000", Error, "there is no state folder: the change would not survive a restart",
        "Set [state] folder and restart the proxy.";
    /// A command that does not fit the state of things.
    CommandRefused = "TG076", b"55000", Error, "the command cannot be carried out now",
        "See SHOW DATABASES, SHOW CLIENTS and SHOW FROZEN.";

    // -- limits per tenant and login
    /// The tenant has as many clients as it may.
    TenantConnections = "TG080", b"53300", Fatal, "this tenant has too many client connections",
        "Close connections, share them in the application's own pool, or raise the tenant's connections_max.";
    /// The login has as many clients as it may.
    LoginConnections = "TG081", b"53300", Fatal, "this login has too many client connections",
        "Close connections, share them in the application's own pool, or raise the login's connections_max.";
    /// As many of the tenant's clients wait as may.
    TenantWaiting = "TG082", b"53300", Error, "too many clients of this tenant wait for a server",
        "Send fewer transactions at once, or raise the tenant's waiting_max.";
    /// As many of the login's clients wait as may.
    LoginWaiting = "TG083", b"53300", Error, "too many clients of this login wait for a server",
        "Send fewer transactions at once, or raise the login's waiting_max.";
    /// Waited in vain because the tenant has as many servers as it may.
    TenantLeases = "TG084", b"53400", Error, "this tenant has had all the servers it may have for too long",
        "Shorten the tenant's transactions, or raise its leases_max.";
    /// Waited in vain because the login has as many servers as it may.
    LoginLeases = "TG085", b"53400", Error, "this login has had all the servers it may have for too long",
        "Shorten the login's transactions, or raise its leases_max.";
    /// The transaction lasted too long.
    TransactionTimeLimit = "TG086", b"53400", Fatal, "the transaction took longer than allowed and was rolled back",
        "Split the work into shorter transactions, or raise transaction_timeout of the tenant or login.";
    /// The client had a server and asked nothing of it for too long.
    IdleTimeLimit = "TG087", b"25P03", Fatal, "the session was idle in a transaction for longer than allowed",
        "Commit before doing something else, or raise idle_in_transaction_timeout of the tenant or login.";
    /// The statement took too long.
    StatementTimeLimit = "TG088", b"57014", Error, "the statement took longer than allowed and was cancelled",
        "Make the statement cheaper, or raise statement_timeout of the tenant or login.";

    // -- session state
    /// The tenant has as many servers that stay with its clients as it may.
    TenantPins = "TG110", b"53300", Error, "too many servers stay with clients of this tenant",
        "Release session state (DISCARD ALL, UNLISTEN, DROP) or close sessions, or raise the tenant's pins_max.";
    /// The login has as many servers that stay with its clients as it may.
    LoginPins = "TG111", b"53300", Error, "too many servers stay with clients of this login",
        "Release session state (DISCARD ALL, UNLISTEN, DROP) or close sessions, or raise the login's pins_max.";
    /// As many of the pool's servers stay with their clients as may.
    PoolPins = "TG112", b"53300", Error, "too many servers of this pool stay with their clients",
        "Release session state (DISCARD ALL, UNLISTEN, DROP) or close sessions, or raise the pool's pins_max.";
    /// A client kept a server between its transactions for too long.
    PinTimeLimit = "TG113", b"57P05", Fatal, "the session kept a server without using it for longer than allowed",
        "Release session state before pausing, or raise idle_pinned_timeout of the tenant or login.";
    /// The server with the session's state cannot be used any more.
    PinnedServerClosed = "TG114", b"08006", Fatal, "the server that kept this session's state had to be closed",
        "Connect again and make the session's state anew.";

    // -- claims
    /// A statement that reads or writes rows came before the claim of a tenant.
    ClaimMissing = "TG130", b"42501", Error, "no tenant has been named for this transaction",
        "Name it first in the same transaction: SET LOCAL <setting> = '<tenant>', or SELECT set_config('<setting>', $1, true).";
    /// What was claimed is no tenant.
    ClaimMalformed = "TG131", b"22023", Error, "the claimed tenant is malformed",
        "Give the tenant in the configured type (a UUID unless the configuration says text), bound as text.";
    /// The login may not act for the claimed tenant.
    ClaimForbidden = "TG132", b"42501", Error, "this login may not claim that tenant",
        "Use a login whose configuration lists this tenant.";
    /// The transaction acts for another tenant already.
    ClaimConflict = "TG133", b"42501", Error, "this transaction acts for another tenant already",
        "End the transaction first: one transaction acts for one tenant.";
    /// A claim that outlives its transaction, by a login that may not make one.
    ClaimOfSession = "TG134", b"42501", Error, "this login may claim a tenant for one transaction only",
        "Use SET LOCAL or set_config(…, true) inside a transaction, or give the login claims = \"session\".";
    /// What was claimed neither is a bypass nor is none.
    BypassMalformed = "TG135", b"22023", Error, "this value stands neither for a bypass nor for none",
        "Use the value of the login's claimed_bypass, or one of '', 'false', 'off', 'no', '0' for none.";
    /// A bypass was claimed where it would not end with a transaction block.
    BypassOutsideBlock = "TG136", b"42501", Error, "a bypass can be claimed for a transaction block only",
        "Begin a transaction, claim the bypass inside it with SET LOCAL or set_config(…, true), and end it.";

    // -- what `check` has found
    /// A table with tenants' rows that no policy keeps apart.
    TableUncovered = "TG150", b"42501", Error, "this table holds tenants' rows and no policy keeps them apart",
        "Mend the table as tenantgate check says, or justify it in the exceptions; then RELOAD.";
    /// A function that runs strings or has others' rights.
    ExecutorDenied = "TG151", b"42501", Error, "this function runs strings as SQL or has others' rights",
        "Revoke it from the role as tenantgate check says, or call it over a bypass login.";

    // -- what must not happen
    /// A defect of the proxy; it failed closed.
    Internal = "TG059", b"XX000", Fatal, "internal error of the proxy",
        "Please report this with the proxy's log.";

    // -- connections: TLS, certificates, several hosts
    /// A rule wants a client certificate and there is none.
    CertificateRequired = "TG090", b"28000", Fatal, "this connection needs a client certificate",
        "Connect with TLS and give the client its certificate and key (sslcert, sslkey).";
    /// The client's certificate is made out to another name.
    CertificateOfAnother = "TG091", b"28000", Fatal, "the client certificate is made out to another login",
        "Use the certificate whose common name is the login.";
    /// The client's proof does not belong to this TLS connection.
    ChannelBindingFailed = "TG092", b"28000", Fatal, "the login is not bound to this TLS connection",
        "Something between client and proxy ends the TLS connection: connect without it, or with channel_binding=disable if it is trusted.";
    /// The server wants the proxy's password in a form that the role does not allow.
    ServerMethodRefused = "TG093", b"08006", Fatal, "the database server asks for the proxy's password in a way that is not allowed",
        "Store the role's password with password_encryption = scram-sha-256 on the server, or allow the method in [roles.*] auth_allowed.";
    /// None of the group's servers is of the wanted kind.
    NoServerOfKind = "TG094", b"08006", Fatal, "no database server of the wanted kind can be reached",
        "See target_session_attrs of the server group: a fail-over may be under way; try again.";

    // -- servers that cannot be used
    /// A tenant that stays on a server needs a server of one's own.
    ServerShared = "TG115", b"08006", Fatal, "another pooler stands between the proxy and the database server",
        "Set [scope] lifetime = \"transaction\", or let the server group lead to PostgreSQL itself.";
    /// Its release is too old.
    ServerTooOld = "TG116", b"08006", Fatal, "the database server's release is too old",
        "PostgreSQL 14 and later are supported.";

    // -- sealed databases
    /// Its functions, roles or policies are not those that hold tenants apart.
    SealBroken = "TG160", b"08006", Fatal, "the database is not sealed as it should be",
        "The proxy's log says what is wrong with it; so does \"tenantgate sql verify\".";

    // -- messages that a server would take wrongly
    /// A Query where the proxy's own Execute has no Sync behind it.
    QueryInSegment = "TG118", b"08P01", Error, "a Query stands behind messages of the extended protocol without a Sync",
        "Send Sync before Query, as the protocol's description asks.";

    // -- what a configuration denies
    /// A setting, a function or a class of statements on a list of denials.
    ConfiguredDenial = "TG140", b"42501", Error, "the configuration denies this",
        "See the lists settings_denied, functions_denied and statements_denied of [guard] and of the login.";

    // -- console
    /// A text that is no command.
    ConsoleCommandUnknown = "TG100", b"42601", Error, "this is no command of the console",
        "SHOW HELP lists the commands; drivers that open transactions need autocommit.";
    /// A command for admins, from a login that may only look.
    ConsoleRightMissing = "TG101", b"42501", Error, "this command needs an admin of the console",
        "See [console] admins in the proxy's configuration.";
    /// A command whose arguments are wrong.
    ConsoleArgumentWrong = "TG102", b"22023", Error, "the command's arguments are wrong",
        "SHOW HELP lists the commands with their forms.";
    /// A feature of the protocol that the console has not.
    ConsoleUnsupported = "TG103", b"0A000", Error, "the console does not support this",
        "Send one command at a time, without parameters.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_form() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let row = code.row();
            let digits = row.name.strip_prefix("TG").unwrap_or_default();
            assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{}", row.name);
            assert!(seen.insert(row.name), "{} twice", row.name);
            assert!(!row.message.is_empty() && !row.hint.is_empty());
        }
    }
}
