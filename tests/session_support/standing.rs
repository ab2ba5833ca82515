//! The question in front of a COMMIT, answered as if it had not been asked: for tests that are about something else.

use super::session_support::reply;
use bytes::BytesMut;

/// DataRow: a transaction has this id, and the write-ahead log ends here.
fn standing_row() -> Vec<u8> {
    reply(b'D', b"\0\x03\0\0\0\x03731\0\0\0\x090/15A3B48\0\0\0\x017")
}

/// Takes the question how a transaction stands out of what a server is sent; gives its answer, if it was there.
pub fn without_question(out: &mut BytesMut) -> Option<Vec<u8>> {
    let sent = out.split();
    let (mut rest, mut answer, mut was_question) = (&sent[..], Vec::new(), false);
    while let [tag, a, b, c, d, ..] = *rest {
        let (frame, behind) = rest.split_at(1 + u32::from_be_bytes([a, b, c, d]) as usize);
        rest = behind;
        let has = |part: &[u8]| frame.windows(part.len()).any(|window| window == part);
        let is_question = has(b"pg_current_xact_id_if_assigned") || has(b"tg_xact") || (was_question && tag == b'H');
        let done = reply(b'C', b"SELECT 1\0");
        match (is_question, tag) {
            (false, _) => out.extend_from_slice(frame),
            (true, b'Q') => answer.extend([reply(b'T', b"\0\0"), standing_row(), done, reply(b'Z', b"T")].concat()),
            (true, b'P') => answer.extend(reply(b'1', b"")),
            (true, b'B') => answer.extend(reply(b'2', b"")),
            (true, b'E') => answer.extend([standing_row(), done].concat()),
            (true, b'C') => answer.extend(reply(b'3', b"")),
            (true, _) => {}
        }
        was_question = is_question;
    }
    (!answer.is_empty()).then_some(answer)
}
