//! Administrators' connections.
//!
//! Owns: their sockets, and waiting for what they want done. Does not own: the console itself
//! ([`crate::admin::Console`]), nor what is shown and done (an [`Operations`]).

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::gauge::Gauge;
use super::stream::{FAREWELL_TIMEOUT, Stream};
use crate::admin::{Command, Console, Operations, Step, View};
use crate::fault::Fault;
use crate::metrics::{Count, ShardNumber, Tally};
use crate::startup::CONSOLE_DATABASES;
use crate::wire::backend::put_error;

/// Bytes read at once: commands are short.
const READ_BYTES: usize = 1024;

/// A table is written within this time, or its reader is given up.
const WRITE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// What others want of an administrator's connection.
#[derive(Debug)]
pub enum Told {
    /// The command that is under way is waited for no longer.
    Cancelled,
    /// The connection ends, with these words.
    Ended(Fault),
}

/// Polls for what others want.
pub type Watch = dyn Fn(&mut Context<'_>) -> Poll<Told> + Send + Sync;

/// What a console needs of the proxy, but for its socket.
pub struct ConsoleParts<O> {
    /// The proxy.
    pub operations: Arc<O>,
    /// Counters and refusals.
    pub gauge: Gauge,
    /// How many connections have not logged in yet.
    pub logging_in: Box<dyn Fn() -> usize + Send + Sync>,
    /// Looks at what others want; wakes the task when there is something to look at.
    pub told: Box<Watch>,
}

/// Why a console ended otherwise than by Terminate.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleFault {
    /// The connection broke.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The administrator does not read.
    #[error("an answer could not be written within {WRITE_TIMEOUT:?}")]
    Unread,
    /// Somebody else ended it.
    #[error("{0}")]
    Ended(Fault),
}

/// Serves one administrator until the connection ends. `input` is what has come behind the login, `out` what is to be sent
/// first. If dropped: the connection is closed; a command may or may not have been carried out.
///
/// # Errors
/// The connection ended otherwise than by Terminate or its client's leaving.
pub async fn serve_console<O: Operations>(
    mut stream: Stream,
    mut console: Console,
    parts: &ConsoleParts<O>,
    mut input: BytesMut,
    mut out: BytesMut,
) -> Result<(), ConsoleFault> {
    let traffic = parts.gauge.metrics.database(&Arc::from("pgbouncer"));
    let mut tally = Tally::default();
    loop {
        // What came before the right was taken away is not carried out behind that.
        if let Some(fault) = ended(parts).await {
            return say_farewell(&mut stream, &mut out, fault).await;
        }
        let step = console.handle_bytes(&mut input, &mut out, &view(parts));
        tally.add(Count::Sent, u64::try_from(out.len()).unwrap_or(u64::MAX));
        write(&mut stream, &mut out).await?;
        traffic.add(ShardNumber::SHARED, &mut tally);
        let done = match step {
            Step::Read => read(&mut stream, &mut input, parts).await.map(|count| tally.add(Count::Received, count)),
            Step::Perform(command) => {
                tally.add(Count::Statements, 1);
                perform(command, &console, parts).await.map(|result| console.performed(result, &mut out))
            }
            Step::Close => Err(ConsoleEnd::Closed),
        };
        match done {
            Ok(()) => {}
            Err(ConsoleEnd::Closed) => {
                stream.say_farewell(b"", FAREWELL_TIMEOUT).await?;
                return Ok(());
            }
            Err(ConsoleEnd::Fault(fault)) => return Err(fault),
            Err(ConsoleEnd::Told(fault)) => return say_farewell(&mut stream, &mut out, fault).await,
        }
    }
}

/// Looks once at what others want; a cancel means nothing while nothing is under way.
async fn ended<O>(parts: &ConsoleParts<O>) -> Option<Fault> {
    poll_fn(|context| match (parts.told)(context) {
        Poll::Ready(Told::Ended(fault)) => Poll::Ready(Some(fault)),
        Poll::Ready(Told::Cancelled) | Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Sends what is left to say and the last words.
async fn say_farewell(stream: &mut Stream, out: &mut BytesMut, fault: Fault) -> Result<(), ConsoleFault> {
    put_error(out, &fault.clone().fatal());
    stream.say_farewell(out, FAREWELL_TIMEOUT).await?;
    Err(ConsoleFault::Ended(fault))
}

/// Why a console does not go on.
enum ConsoleEnd {
    Closed,
    Told(Fault),
    Fault(ConsoleFault),
}

/// Reads once. If dropped: nothing is lost.
async fn read<O>(stream: &mut Stream, input: &mut BytesMut, parts: &ConsoleParts<O>) -> Result<u64, ConsoleEnd> {
    input.reserve(READ_BYTES);
    loop {
        tokio::select! {
            biased;
            told = poll_fn(|context| (parts.told)(context)) => match told {
                // Nothing is under way.
                Told::Cancelled => {}
                Told::Ended(fault) => return Err(ConsoleEnd::Told(fault)),
            },
            read = stream.read_buf(input) => return match read {
                Ok(0) => Err(ConsoleEnd::Closed),
                Ok(count) => Ok(u64::try_from(count).unwrap_or(u64::MAX)),
                Err(error) => Err(ConsoleEnd::Fault(ConsoleFault::Io(error))),
            },
        }
    }
}

/// Carries a command out, for as long as somebody wants that. If dropped: it may or may not have been carried out.
async fn perform<O: Operations>(
    command: Command,
    console: &Console,
    parts: &ConsoleParts<O>,
) -> Result<Result<(), Fault>, ConsoleEnd> {
    tokio::select! {
        // In this order: who has lost the right meanwhile has the command not even begun.
        biased;
        told = poll_fn(|context| (parts.told)(context)) => match told {
            Told::Cancelled => Ok(Err(Fault::cancelled())),
            Told::Ended(fault) => Err(ConsoleEnd::Told(fault)),
        },
        done = parts.operations.perform(command, console.actor().clone()) => Ok(done),
    }
}

fn view<O: Operations>(parts: &ConsoleParts<O>) -> View<'_, O> {
    View {
        operations: &parts.operations,
        metrics: &parts.gauge.metrics,
        denials: &parts.gauge.denials,
        observations: &parts.gauge.observations,
        now: parts.gauge.clock.now(),
        epoch_micros: parts.gauge.clock.epoch_micros(),
        logging_in: (parts.logging_in)(),
        console_databases: &CONSOLE_DATABASES,
    }
}

async fn write(stream: &mut Stream, out: &mut BytesMut) -> Result<(), ConsoleFault> {
    if out.is_empty() {
        return Ok(());
    }
    let bytes = out.split();
    let written = timeout(WRITE_TIMEOUT, async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    });
    written.await.map_err(|_| ConsoleFault::Unread)?.map_err(ConsoleFault::Io)
}
