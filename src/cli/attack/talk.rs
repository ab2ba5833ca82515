//! How a technique is said, and what is heard.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, SimpleQueryMessage};

use super::secure::Stream;
use super::target::Way;

/// A line that takes longer is given up: it may wait for a lock, which shows nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the lines of a technique are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each as a Query.
    Simple,
    /// Each in the extended protocol, where it takes no parameters.
    Extended,
    /// All in one Query.
    Together,
    /// Each behind a COMMIT in the same Query.
    BehindCommit,
    /// In other letters, with comments in between.
    Disguised,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 5] = [Self::Simple, Self::Extended, Self::Together, Self::BehindCommit, Self::Disguised];

    /// For the report.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Together => "together",
            Self::BehindCommit => "behind commit",
            Self::Disguised => "disguised",
        }
    }
}

/// What a technique was told.
#[derive(Debug, Default)]
pub struct Said {
    /// Rows, notices and errors.
    pub heard: String,
    /// A line that must not help succeeded.
    pub has_helped: bool,
    /// One was refused: by the proxy, or by the server for what it is.
    pub was_refused: bool,
}

/// Errors of a server that tell of nothing but that there is not what the line needs: syntax, function, table, column, schema,
/// object, file, feature, cursor, prepared statement, a block or none. (The proxy's have a code of their own in front.)
const NOT_THERE: [&str; 12] =
    ["42601", "42883", "42P01", "42703", "3F000", "42704", "58P01", "0A000", "34000", "26000", "25P01", "25001"];

/// Whether an error is a refusal, and not that something is missing which the technique needs.
fn is_refusal(error: &Error) -> bool {
    error.as_db_error().is_some_and(|said| said.message().starts_with("TG") || !NOT_THERE.contains(&said.code().code()))
}

/// A connection whose notices are kept.
pub struct Talker {
    pub client: Client,
    notices: Arc<Mutex<String>>,
    copied: Arc<Mutex<String>>,
}

impl Talker {
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(way: &Way) -> Result<Self, String> {
        let stream = Stream::connect(&way.secure, &way.config).await.map_err(|error| error.to_string())?;
        let copied = stream.copied();
        let mut config = way.config.clone();
        // It is done.
        config.ssl_mode(SslMode::Disable);
        let (client, mut connection) = config.connect_raw(stream, NoTls).await.map_err(|error| words(&error))?;
        let notices = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&notices);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    let text = format!("notice: {} {}\n", notice.message(), notice.detail().unwrap_or_default());
                    kept.lock().push_str(&text);
                }
            }
        });
        Ok(Self { client, notices, copied })
    }
}

/// Any value, as its bytes: only to be looked through.
struct Raw(String);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Says the lines over a connection of their own.
///
/// # Errors
/// There is no connection, or it could not be heard what the answer was.
pub async fn say(way: &Way, lines: &[(bool, String)], form: Form) -> Result<Said, String> {
    let talker = Talker::connect(way).await.map_err(|error| format!("--as-a: {error}"))?;
    let mut said = Said::default();
    for (must_not_help, text) in texts(lines, form) {
        let (mut rows, mut is_ok) = (String::new(), false);
        let told = match tokio::time::timeout(PATIENCE, hear(&talker.client, &text, form, &mut rows)).await {
            Err(_) => "nothing in time".to_owned(),
            Ok(Ok(())) => {
                is_ok = true;
                "done".to_owned()
            }
            Ok(Err(error)) if is_unheard(&error) => return Err(format!("{text}: {}", words(&error))),
            Ok(Err(error)) => {
                said.was_refused |= must_not_help && is_refusal(&error);
                words(&error)
            }
        };
        rows.push_str(&std::mem::take(&mut *talker.copied.lock()));
        said.has_helped |= is_ok && must_not_help;
        said.heard.push_str(&format!("{text}\n{rows}  {told}\n"));
        if talker.client.is_closed() {
            break;
        }
    }
    said.heard.push_str(&talker.notices.lock());
    Ok(said)
}

/// The answer came and this client does not understand it: nothing is known of what it showed.
fn is_unheard(error: &Error) -> bool {
    error.as_db_error().is_none() && error.to_string().contains("unexpected message")
}

fn texts(lines: &[(bool, String)], form: Form) -> Vec<(bool, String)> {
    match form {
        Form::Simple | Form::Extended => lines.to_vec(),
        Form::Together => {
            let all: Vec<&str> = lines.iter().map(|(_, text)| text.as_str()).collect();
            vec![(true, all.join("; "))]
        }
        Form::BehindCommit => lines.iter().map(|(hit, text)| (*hit, format!("SELECT 1; COMMIT; {text}"))).collect(),
        Form::Disguised => lines.iter().map(|(hit, text)| (*hit, disguised(text))).collect(),
    }
}

/// The same statement to PostgreSQL: words outside of quotes in mixed case, a comment for each blank there.
fn disguised(text: &str) -> String {
    let (mut out, mut quote, mut place) = (String::new(), None, 0_usize);
    for letter in text.chars() {
        if quote.is_none() && matches!(letter, '\'' | '"' | '$') {
            quote = Some(letter);
        } else if quote == Some(letter) {
            quote = None;
        }
        place += 1;
        match (quote, letter) {
            (None, ' ') => out.push_str("/* /* */ */\t"),
            (None, letter) if place % 2 == 0 => out.extend(letter.to_uppercase()),
            (_, letter) => out.push(letter),
        }
    }
    out
}

/// Rows are kept as they come: what stands in front of an error was shown, too.
async fn hear(client: &Client, text: &str, form: Form, rows: &mut String) -> Result<(), Error> {
    match form {
        Form::Extended => bound(client, text, rows).await,
        Form::Simple | Form::Together | Form::BehindCommit | Form::Disguised => simple(client, text, rows).await,
    }
}

async fn simple(client: &Client, text: &str, rows: &mut String) -> Result<(), Error> {
    let mut stream = pin!(client.simple_query_raw(text).await?);
    while let Some(message) = stream.next().await {
        if let SimpleQueryMessage::Row(row) = message? {
            (0..row.len()).for_each(|column| rows.push_str(row.get(column).unwrap_or("NULL")));
            rows.push('\n');
        }
    }
    Ok(())
}

async fn bound(client: &Client, text: &str, rows: &mut String) -> Result<(), Error> {
    let nothing: [&str; 0] = [];
    let mut stream = pin!(client.query_raw(text, nothing).await?);
    while let Some(row) = stream.next().await {
        let row = row?;
        for column in 0..row.len() {
            rows.push_str(&row.try_get::<_, Option<Raw>>(column)?.map_or_else(String::new, |raw| raw.0));
        }
        rows.push('\n');
    }
    Ok(())
}

/// What the database or the proxy said.
pub fn words(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            let more = [said.detail(), said.hint()];
            let more: Vec<&str> = more.into_iter().flatten().collect();
            format!("{} {} {}", said.code().code(), said.message(), more.join(" "))
        }
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_stays_as_it_is() {
        assert_eq!(disguised("set x = 'a b'"), "sEt/* /* */ */\tx/* /* */ */\t=/* /* */ */\t'a b'");
    }
}
