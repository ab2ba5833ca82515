//! What the tests of one session share: a server to lease, and messages as bytes.

use bytes::BytesMut;
use std::sync::Arc;
use tenantgate::scope::CleanServer;
use tenantgate::upstream::{Parameters, Replies, Server, ServerId, ServerKey};
use tenantgate::wire::frontend;

/// A server that was connected just now.
pub fn server() -> CleanServer {
    let key = Arc::new(ServerKey { process_id: 99, secret: Box::from(*b"1234") });
    let server = Server::new(ServerId(7), key, 150_000, Arc::new(Parameters::default()), 10);
    CleanServer::fresh(server, Replies::<()>::default().quiet().expect("a new server owes nothing"))
}

pub fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

pub fn query(sql: &str) -> Vec<u8> {
    written(|out| frontend::put_query(out, sql.as_bytes()))
}

pub fn reply(tag: u8, body: &[u8]) -> Vec<u8> {
    written(|out| frontend::put_message(out, tag, |out| out.extend_from_slice(body)))
}

pub fn error(sqlstate: &str) -> Vec<u8> {
    reply(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0Mno\0\0").as_bytes())
}

/// DataRow: a transaction has this id, and the write-ahead log ends here.
pub fn standing_row() -> Vec<u8> {
    reply(b'D', b"\0\x02\0\0\0\x03731\0\0\0\x090/15A3B48")
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
