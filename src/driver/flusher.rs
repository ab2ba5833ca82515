//! Has what recorded transactions have written so far brought to the server's disk, in front of their COMMITs.
//!
//! A session's own server cannot: inside of a transaction PostgreSQL up to 16 has nothing that an ordinary role may call for
//! it. A small transaction on another connection brings all to the disk that was written before it. Sessions that wait
//! together share one.
//!
//! Owns: that connection, kept for a while. Does not own: when a flush is due (`client`), what it is good for (`audit`).

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::connect::{ConnectFault, Connected, ServerTarget, connect};
use super::court::{Court, Silence, number};
use super::pool::close_politely;
use crate::audit::{Flushed, Standing, WalPlace};
use crate::upstream::login::{Identity, ServerLoginFault, ServerRefusal};

/// A COMMIT that is answered when its record is on the disk; whatever the role's settings are.
const FLUSH: &str = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; \
    SELECT pg_catalog.pg_logical_emit_message(true, 'tenantgate', ''); COMMIT";

/// Which server that was, and how far it has come.
const FLUSHED: &str = "SELECT (pg_catalog.date_part('epoch', pg_catalog.pg_stat_get_bgwriter_stat_reset_time()) \
    OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8, pg_catalog.pg_current_wal_flush_lsn()";

/// How long a connection is kept that nobody needs.
const KEPT: Duration = Duration::from_secs(60);

/// What has become of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// It is on the disk.
    Done,
    /// It may not be: the server lives, and does not do it, or is another one.
    Refused,
    /// The server does not answer: it may be dying, and what it has not on the disk with it.
    Gone,
}

/// Flushes of the servers that one way leads to.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<(Connected, Instant)>,
    /// What the last flush has reached.
    reached: Option<Flushed>,
}

impl Flusher {
    /// Has a transaction's trace flushed. If dropped: it may be or not, and the connection is closed.
    pub(super) async fn flush(&self, target: &ServerTarget, identity: &Identity, standing: &Standing) -> Flush {
        let mut state = self.state.lock().await;
        // By whoever was in front.
        if state.reached.is_some_and(|reached| standing.is_covered_by(&reached)) {
            return Flush::Done;
        }
        if let Some((kept, _)) = state.kept.take()
            && let Ok(covered) = state.ask(kept, standing).await
        {
            return covered;
        }
        match connect(target, identity.clone()).await {
            Ok(fresh) => state.ask(fresh, standing).await.unwrap_or(Flush::Gone),
            Err(fault) => {
                tracing::warn!(%fault, "no connection to flush a bypass transaction's id");
                if is_alive(&fault) { Flush::Refused } else { Flush::Gone }
            }
        }
    }

    /// Closes a connection that nobody has needed for a while.
    pub(super) fn sweep(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        if let Some((kept, _)) = state.kept.take_if(|(_, used)| used.elapsed() >= KEPT) {
            close_politely(kept.stream);
        }
    }
}

impl State {
    /// One flush over this connection, which is kept if it has answered.
    async fn ask(&mut self, mut on: Connected, standing: &Standing) -> Result<Flush, Silence> {
        let mut court = Court { stream: &mut on.stream, input: &mut on.leftover };
        match court.each(FLUSH, |_| true).await {
            Ok(()) => {}
            Err(Silence::Refused(state)) => {
                tracing::warn!(state = state.as_ref().map_or("", |state| state.as_str()), "a flush was refused");
                close_politely(on.stream);
                return Ok(Flush::Refused);
            }
            Err(Silence::Lost) => return Err(Silence::Lost),
        }
        let row = court.one(FLUSHED).await?;
        let place = row.get(1).and_then(|place| WalPlace::parse(place.as_deref()?));
        self.reached = number(&row, 0).zip(place).map(|(era, up_to)| Flushed { era, up_to });
        self.kept = Some((on, Instant::now()));
        let is_covered = self.reached.is_some_and(|reached| standing.is_covered_by(&reached));
        Ok(if is_covered { Flush::Done } else { Flush::Refused })
    }
}

/// Whether a server was there to say no, and not because it starts, ends or recovers.
const fn is_alive(fault: &ConnectFault) -> bool {
    match fault {
        ConnectFault::Login(ServerLoginFault::Refused { refusal, .. }) => match refusal {
            ServerRefusal::Authentication | ServerRefusal::TooManyConnections | ServerRefusal::DatabaseMissing => true,
            ServerRefusal::NotNow | ServerRefusal::Error => false,
        },
        _ => false,
    }
}
