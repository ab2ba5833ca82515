//! What a client of a recorded session hears only when the outcome of its transaction is durable.
//!
//! ```text
//!           end of a transaction answered          written behind its run            ledger answers
//!  Nothing ─────────────────────────────▶ Due ──────────────────────────▶ Held ─────────────────────▶ Nothing
//!                                                                           │ the session ends: Dropped
//! ```
//!
//! From the CommandComplete that ends the transaction on, everything waits: what stands behind it must not be heard before
//! it. The server's ReadyForQuery waits in `recording`, as more of the client's Query may come first.
//!
//! Owns: the bytes that wait. Does not own: when an outcome is durable (`recording`).

use bytes::BytesMut;

use super::Session;
use crate::metrics::Count;
use crate::wire::backend;

/// What waits for the outcome.
#[derive(Debug, Default)]
pub(super) enum Hold {
    /// Nothing.
    #[default]
    Nothing,
    /// What follows will, behind a CommandComplete of this tag.
    Due(Vec<u8>),
    /// All that is written for the client; these bytes in front of it do not.
    Held(BytesMut),
    /// The session has ended, and what was held will not be heard.
    Dropped,
}

impl Session {
    /// Bytes for the client.
    pub fn client_out(&mut self) -> &mut BytesMut {
        if let Some(recorder) = self.recorder.as_mut()
            && let Hold::Held(free) = &mut recorder.hold
        {
            return free;
        }
        &mut self.client_out
    }

    /// How much waits to be written to the client, whether it may be yet or not.
    #[must_use]
    pub fn client_backlog(&self) -> usize {
        let free = match self.recorder.as_ref().map(|recorder| &recorder.hold) {
            Some(Hold::Held(free)) => free.len(),
            Some(Hold::Nothing | Hold::Due(_) | Hold::Dropped) | None => 0,
        };
        self.client_out.len().saturating_add(free)
    }

    /// A transaction was ended by this tag: if its outcome is being written, the tag and what follows wait. Whether
    /// they do.
    pub(super) fn hold_end(&mut self, tag: &[u8]) -> bool {
        let concluding = self.recorder.as_mut().filter(|recorder| recorder.is_concluding());
        let Some(recorder) = concluding.filter(|recorder| matches!(recorder.hold, Hold::Nothing)) else { return false };
        recorder.hold = Hold::Due(tag.to_vec());
        self.tally.add(Count::Statements, 1);
        true
    }

    /// What was to be said before the tag has been written.
    pub(super) fn begin_hold(&mut self) {
        let Some(recorder) = self.recorder.as_mut() else { return };
        if let Hold::Due(tag) = &recorder.hold {
            let tag = tag.clone();
            recorder.hold = Hold::Held(std::mem::take(&mut self.client_out));
            backend::put_command_complete(&mut self.client_out, &tag);
            self.written = self.client_out.len();
        }
    }

    /// The outcome is durable, or will be written later: what was held may go.
    pub(super) fn release_held(&mut self) {
        let Some(recorder) = self.recorder.as_mut() else { return };
        if let Hold::Held(mut free) = std::mem::take(&mut recorder.hold) {
            free.extend_from_slice(&self.client_out);
            self.client_out = free;
        }
    }

    /// The session ends before the outcome is known to be durable. Whether something was held: then the client is between
    /// two messages.
    pub(super) fn drop_held(&mut self) -> bool {
        let Some(recorder) = self.recorder.as_mut() else { return false };
        if let Hold::Held(free) = &mut recorder.hold {
            self.client_out = std::mem::take(free);
            recorder.hold = Hold::Dropped;
        }
        matches!(recorder.hold, Hold::Dropped)
    }
}
