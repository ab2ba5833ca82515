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
