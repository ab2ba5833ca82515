//! What a client should have been told: the model alone with its bytes, beside what it was told.
//!
//! Owns: the comparison, and which differences a cancel, a refusal or a failure excuses. Does not own: what happened.

use crate::backend::{Backend, Database, Failure, Failures, TENANT};
use std::collections::BTreeMap;
use tenantgate::time::Moment;
use tenantgate::wire::backend::Fields;
use tenantgate::wire::frame::{HEAD_BYTES, Head};

/// One message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Message {
    pub fn sqlstate(&self) -> String {
        Fields::new(&self.body).sqlstate().map(|state| state.as_str().to_owned()).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(Fields::new(&self.body).find(b'M').unwrap_or_default()).into_owned()
    }

    pub fn is_fatal(&self) -> bool {
        self.tag == b'E' && Fields::new(&self.body).is_fatal()
    }

    /// Its type, and what matters of it.
    pub fn words(&self) -> String {
        let tag = char::from(self.tag);
        match self.tag {
            b'E' | b'N' => format!("{tag}({} {})", self.sqlstate(), self.text()),
            b'Z' | b'C' | b'S' | b'D' | b'd' => {
                let text = String::from_utf8_lossy(&self.body).replace('\0', " ");
                format!("{tag}({})", text.chars().take(60).collect::<String>().trim())
            }
            _ => tag.to_string(),
        }
    }
}

/// A client's message, in words.
pub fn request_words(message: &Message) -> String {
    let text = String::from_utf8_lossy(&message.body);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(90).collect();
    format!("{}[{}]", char::from(message.tag), text.trim())
}

/// A stream that is listened to: whole messages come out when their last byte goes in.
#[derive(Debug, Default)]
pub struct Tap(Vec<u8>);

impl Tap {
    pub fn hear(&mut self, bytes: &[u8], words: fn(&Message) -> String) -> String {
        self.0.extend_from_slice(bytes);
        let (found, _) = messages(&self.0);
        let used: usize = found.iter().map(|message| message.body.len() + HEAD_BYTES).sum();
        self.0.drain(..used);
        let words: Vec<String> = found.iter().map(words).collect();
        words.join(" ")
    }
}

/// The notice that a server of the model may send at any time.
pub const OUT_OF_THE_BLUE: &str = "out of the blue";

/// Whole messages of a stream, and whether a part of one is left.
pub fn messages(bytes: &[u8]) -> (Vec<Message>, bool) {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Ok(Some(head)) = Head::read(rest) {
        let Some(body) = rest.get(HEAD_BYTES..head.frame_bytes()) else { break };
        found.push(Message { tag: head.tag, body: body.to_vec() });
        rest = &rest[head.frame_bytes()..];
    }
    (found, !rest.is_empty())
}

/// One client's story, to be judged.
#[derive(Debug)]
pub struct Story<'a> {
    pub version: u32,
    pub parameters: &'a [(&'a str, &'a str)],
    pub tenant: &'a str,
    /// It says so itself, by SQL.
    pub has_claims: bool,
    pub sent: &'a [u8],
    pub received: &'a [u8],
    /// How many errors of that SQLSTATE its own cancels and the pool's refusals may have made.
    pub excused: BTreeMap<String, usize>,
    /// A server failed it, or it was ended: it was told so and no more.
    pub may_end_early: bool,
    /// It had said that it sends nothing more: it need not be told why it ends early.
    pub may_end_silently: bool,
    /// It left by itself: no more than a part was to be heard.
    pub has_left: bool,
    pub mark: &'a str,
    /// What its servers have sent it of notifications.
    pub notified: &'a [String],
}

/// What the model alone says, and what the client has committed by then.
fn alone(story: &Story<'_>, failures: &Failures) -> (Vec<Message>, Database) {
    let mut parameters = story.parameters.to_vec();
    if !story.has_claims {
        parameters.push((TENANT, story.tenant));
    }
    let mut backend = Backend::new(story.version, true, &parameters);
    backend.has_claims = story.has_claims;
    backend.failures.clone_from(failures);
    let mut database = Database::default();
    backend.receive(story.sent);
    while backend.step(&mut database, Moment::START) {}
    (messages(&backend.everything()).0, database)
}

/// Judges a story. Gives how many notes the client has for certain if it was told everything.
pub fn judge(story: &Story<'_>) -> Result<Option<i64>, String> {
    let (mut received, is_cut) = messages(story.received);
    let Some(greeted) = received.iter().position(|message| message.tag == b'Z') else {
        let may_be = story.may_end_early || story.has_left;
        return if may_be { Ok(None) } else { Err("it was not greeted".to_owned()) };
    };
    received.drain(..=greeted);
    received.retain(|message| !(message.tag == b'N' && message.text() == OUT_OF_THE_BLUE));
    judge_notifications(story, &received)?;
    received.retain(|message| message.tag != b'A');
    explain(story, &received, is_cut, &Attempt { failures: Failures::new(), excused: story.excused.clone() })
}

/// The client hears what its server has told it, in that order, and nothing else.
fn judge_notifications(story: &Story<'_>, received: &[Message]) -> Result<(), String> {
    let payload = |message: &Message| {
        let mut parts = message.body.get(4..).unwrap_or_default().split(|byte| *byte == 0);
        let channel = parts.next().unwrap_or_default() != b"c";
        channel.then(|| String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned())
    };
    let heard: Vec<String> = received.iter().filter(|message| message.tag == b'A').filter_map(payload).collect();
    if !story.notified.starts_with(&heard) {
        return Err(format!("it was notified of {heard:?} instead of {:?}", story.notified));
    }
    Ok(())
}

/// What has been found out so far of where cancels and refusals have come.
#[derive(Clone)]
struct Attempt {
    failures: Failures,
    /// Those not yet seen.
    excused: BTreeMap<String, usize>,
}

/// Goes on to the first difference. If it is an error that may have been made, the model is asked again with it.
fn explain(story: &Story<'_>, received: &[Message], is_cut: bool, so_far: &Attempt) -> Result<Option<i64>, String> {
    let (expected, database) = alone(story, &so_far.failures);
    let differs = |at: usize| expected.get(at).is_none_or(|expected| !is_same(expected, &received[at]));
    let Some(at) = (0..received.len()).find(|at| differs(*at)) else {
        let is_all = received.len() == expected.len() && !is_cut;
        if !is_all && !story.may_end_early && !story.has_left {
            return Err(format!("it was not told {}", around(&expected, received.len())));
        }
        // Within a message nothing can be told.
        if !is_all && !is_cut && !story.may_end_silently && !story.has_left {
            return Err(format!("it has ended without an error, before {}", around(&expected, received.len())));
        }
        let count = database.notes.get(story.mark).copied().unwrap_or(0);
        return Ok(is_all.then_some(count));
    };
    let told = &received[at];
    if told.is_fatal() && at + 1 == received.len() && story.may_end_early {
        return Ok(None);
    }
    let mut next = so_far.clone();
    let left = next.excused.get_mut(&told.sqlstate()).filter(|left| **left > 0);
    let Some(left) = left.filter(|_| told.tag == b'E' && !told.is_fatal() && !so_far.failures.contains_key(&at)) else {
        let (told, expected) = (around(received, at), around(&expected, at));
        return Err(format!("it was told {told}\n      instead of {expected}"));
    };
    *left -= 1;
    let state = match told.sqlstate().as_str() {
        "57014" => "57014",
        "58030" => "58030",
        _ => "53300",
    };
    let failure = Failure { state, message: told.text(), is_early: false };
    next.failures.insert(at, failure.clone());
    let late = explain(story, received, is_cut, &next);
    if late.is_ok() || state != "57014" {
        return late;
    }
    // It may have come before a Parse was even looked at.
    next.failures.insert(at, Failure { is_early: true, ..failure });
    explain(story, received, is_cut, &next).or(late)
}

fn around(messages: &[Message], at: usize) -> String {
    let words = |message: &Message| message.words();
    let before: Vec<String> =
        messages[at.saturating_sub(4).min(messages.len())..at.min(messages.len())].iter().map(words).collect();
    let behind: Vec<String> = messages.iter().skip(at).take(4).map(words).collect();
    format!("… {} ▶ {}", before.join(" "), behind.join(" "))
}

/// Whether the client was told this, in these words; a refusal is in the proxy's own.
fn is_same(expected: &Message, told: &Message) -> bool {
    if expected.tag != told.tag {
        return false;
    }
    if told.tag == b'E' && told.text().starts_with("TG") && told.is_fatal() == expected.is_fatal() {
        // A value that is not bound is refused before PostgreSQL would have missed it.
        return told.sqlstate() == expected.sqlstate() || told.sqlstate() == "22023" && expected.sqlstate() == "08P01";
    }
    // A statement prepared again fails before PostgreSQL would have looked at its parameters.
    let is_aborted = told.tag == b'E' && told.sqlstate() == "25P02" && expected.sqlstate() == "08P01";
    is_aborted || expected.body == told.body
}
