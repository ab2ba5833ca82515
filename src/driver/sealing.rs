//! Whether a sealed database is as it was sealed: asked on every new server connection, and once before clients are let in.
//!
//! Owns: asking, and who hears the answer. Does not own: what is asked (sql/verify.sql).

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::build::{self, PoolKey};
use super::clock::Clock;
use super::connect::{ConnectFault, Connected, connect};
use super::proxy::StartFault;
use super::reload::is_same_way;
use super::stream::Stream;
use crate::config::Config;
use crate::scope::{Gate, Prelude};
use crate::wire::backend::Fields;
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend::put_query;
use crate::wire::limits::INSPECTED_BYTES_MAX;
use crate::wire::reader::Reader;

/// Problems that are named; what there is beyond them is found when these are solved.
const PROBLEMS_MAX: usize = 10;

/// Asks a server that is logged in and owes nothing; `take_parameter` hears what it reports meanwhile. If dropped: the server
/// owes an answer, and its connection has to be closed.
///
/// # Errors
/// Something is wrong with the database, or the server does not answer.
pub(super) async fn verify(
    stream: &mut Stream,
    input: &mut BytesMut,
    question: &str,
    mut take_parameter: impl FnMut(&[u8]) -> Result<(), ()>,
) -> Result<(), ConnectFault> {
    let mut query = BytesMut::new();
    put_query(&mut query, question.as_bytes());
    stream.write_all(&query).await.map_err(ConnectFault::Io)?;
    stream.flush().await.map_err(ConnectFault::Io)?;
    let mut problems = Vec::new();
    loop {
        let head = Head::read(input).map_err(|_| ConnectFault::Closed)?;
        if head.is_some_and(|head| head.body_bytes > INSPECTED_BYTES_MAX) {
            return Err(ConnectFault::Closed);
        }
        let Some((head, body)) = head.and_then(|head| Some((head, input.get(HEAD_BYTES..head.frame_bytes())?))) else {
            if stream.read_buf(input).await.map_err(ConnectFault::Io)? == 0 {
                return Err(ConnectFault::Closed);
            }
            continue;
        };
        match head.tag {
            b'S' => take_parameter(body).map_err(|()| ConnectFault::Closed)?,
            b'D' => problems.push(first_value(body)),
            b'E' => problems.push(message(body)),
            _ => {}
        }
        input.advance(head.frame_bytes());
        if head.tag == b'Z' {
            break;
        }
    }
    problems.truncate(PROBLEMS_MAX);
    if problems.is_empty() { Ok(()) } else { Err(ConnectFault::Unsealed(problems)) }
}

/// The first column of a DataRow, as text.
fn first_value(body: &[u8]) -> String {
    let mut reader = Reader::new(body);
    let value = reader.i16("columns").and_then(|_| reader.i32("length")).and_then(|bytes| {
        let bytes = usize::try_from(bytes).unwrap_or_default();
        reader.bytes(bytes, "value")
    });
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn message(body: &[u8]) -> String {
    String::from_utf8_lossy(Fields::new(body).find(b'M').unwrap_or_default()).into_owned()
}

/// Asks the server of every pool of a sealed database that was not there `before` as it is now, so that nobody is let in to one
/// that does not hold. One that cannot be reached now is asked when it can be. If dropped: nothing is left.
///
/// # Errors
/// A database is not as it was sealed.
pub(super) async fn verify_pools(config: &Config, before: Option<&Config>) -> Result<(), StartFault> {
    let was_asked = |key: &PoolKey| before.is_some_and(|before| is_sealed_alike(before, config, key));
    let sealed = build::pool_keys(config).into_iter().filter(|(_, entry)| entry.seal.is_some());
    for (key, entry) in sealed.filter(|(key, _)| !was_asked(key)) {
        let prelude = Prelude::sealed(&config.scope.template, Gate::Tenants);
        // Nothing asked would be nothing wrong.
        let Some(question) = prelude.verification else { continue };
        let way = build::way(config, &key, &prelude, entry.prepared_statements, Clock::start())?;
        let limit = way.target.connect_timeout;
        let asked = async {
            let Connected { mut stream, leftover: mut input, .. } = connect(&way.target, way.identity.clone()).await?;
            verify(&mut stream, &mut input, question, |_| Ok(())).await
        };
        match timeout(limit, asked).await.unwrap_or(Err(ConnectFault::Timeout(limit))) {
            Ok(()) => {}
            Err(ConnectFault::Unsealed(problems)) => {
                return Err(StartFault::Unsealed {
                    database: key.database.to_string(),
                    role: key.role.to_string(),
                    problems,
                });
            }
            Err(fault) => {
                tracing::warn!(database = %key.database, %fault, "whether the database is sealed cannot be asked yet");
            }
        }
    }
    Ok(())
}

/// Whether both configurations have this pool, sealed, with the same servers and the same role. (Which key signs tickets is
/// nothing that could be asked.)
fn is_sealed_alike(before: &Config, now: &Config, key: &PoolKey) -> bool {
    let is_sealed = |config| build::pool_keys(config).get(key).is_some_and(|entry| entry.seal.is_some());
    is_sealed(before) && is_sealed(now) && is_same_way(before, now, key)
}
