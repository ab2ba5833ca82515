//! Puts a client's session settings, and under [`Lifetime::Lease`](super::Lifetime) its tenant, on a server: a
//! transaction of its own in front of the client's bytes.
//!
//! No Sync stands behind it, so that the server runs nothing of the client's first segment if it fails; and it is never
//! inside the client's transaction, whose roll-back would undo it. Nothing of a second segment may be sent before
//! it is answered: behind the Sync that ends the first, the server would run it after a failure, too.

use bytes::BytesMut;

use super::frame::{NeedsNoScope, ScopedFrame};
use super::injection::{BEGIN, COMMIT, Injection, SET};
use super::leased::LeasedServer;
use crate::upstream::Expect;
use crate::upstream::settings::SettingStep;
use crate::wire::frontend;

/// Which part of the transaction an answer is owed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A Parse or Bind: answered without a tag.
    Preparation,
    /// BEGIN.
    Begin,
    /// The last values of sequences are forgotten.
    Sequences,
    /// A setting is set.
    Set,
    /// A setting is reset.
    Reset,
    /// The tenant is put on.
    Scope,
    /// COMMIT: with its answer all of it is there.
    Commit,
}

impl Part {
    /// The only command tag that the server may answer with.
    #[must_use]
    pub const fn tag(self) -> Option<&'static [u8]> {
        match self {
            Part::Preparation => None,
            Part::Begin => Some(b"BEGIN"),
            Part::Sequences => Some(b"DISCARD SEQUENCES"),
            // Text that is never NULL: no row.
            Part::Set | Part::Scope => Some(b"SELECT 0"),
            Part::Reset => Some(b"RESET"),
            Part::Commit => Some(b"COMMIT"),
        }
    }
}

/// What a session finds missing on its server.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'m> {
    /// The last values of sequences that clients before this one have left are to be forgotten: `currval` and `lastval`
    /// would give them away.
    pub discards_sequences: bool,
    /// Settings.
    pub steps: &'m [SettingStep],
}

/// Sends what is missing, and the tenant of `injection` where the server has to carry one and does not. `cause` is made for
/// each part. Whether anything was sent: then [`LeasedServer::on_installed`] is due with the COMMIT's answer.
pub fn install<C>(
    lease: &mut LeasedServer<C>,
    missing: Missing<'_>,
    injection: &Injection,
    cause: &dyn Fn(Part) -> C,
) -> bool {
    let scope = lease.missing(injection).cloned();
    if scope.is_none() && missing.steps.is_empty() && !missing.discards_sequences {
        return false;
    }
    run(lease, BEGIN, &[], cause, Part::Begin);
    if missing.discards_sequences {
        run_text(lease, "DISCARD SEQUENCES", cause, Part::Sequences);
    }
    send_steps(lease, missing.steps, cause);
    if let Some(scope) = scope {
        lease.server_mut().has_scoped_search_path = injection.sets_search_path();
        lease.send_carried(scope, cause(Part::Preparation), cause(Part::Scope));
    }
    run(lease, COMMIT, &[], cause, Part::Commit);
    lease.end_own_transaction();
    true
}

/// Ends the transaction that the client's segment has begun by itself.
pub fn commit<C>(lease: &mut LeasedServer<C>, cause: &dyn Fn(Part) -> C) {
    run(lease, COMMIT, &[], cause, Part::Commit);
    lease.scope_mut().on_end(false);
}

/// Sends the steps alone; whatever tenant the server carries, it keeps.
pub fn replay<C>(lease: &mut LeasedServer<C>, steps: &[SettingStep], cause: &dyn Fn(Part) -> C) {
    run(lease, BEGIN, &[], cause, Part::Begin);
    send_steps(lease, steps, cause);
    run(lease, COMMIT, &[], cause, Part::Commit);
    lease.end_own_transaction();
}

/// The steps without a transaction of their own: the defect that a test has to find.
#[cfg(feature = "mutants")]
pub fn replay_inside<C>(lease: &mut LeasedServer<C>, steps: &[SettingStep], cause: &dyn Fn(Part) -> C) {
    send_steps(lease, steps, cause);
}

fn send_steps<C>(lease: &mut LeasedServer<C>, steps: &[SettingStep], cause: &dyn Fn(Part) -> C) {
    for step in steps {
        match step {
            SettingStep::Set(name, value) => {
                run(lease, SET, &[name.as_bytes(), value.as_bytes()], cause, Part::Set);
            }
            SettingStep::Reset(name) => {
                run_text(lease, &format!("RESET {name}"), cause, Part::Reset);
            }
        }
    }
}

fn run_text<C>(lease: &mut LeasedServer<C>, sql: &str, cause: &dyn Fn(Part) -> C, execute: Part) {
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, b"", sql.as_bytes(), &[]);
    push(lease, &bytes, Expect::Parse, cause(Part::Preparation));
    lease.server_mut().statements.set_unnamed(None);
    run(lease, b"", &[], cause, execute);
}

fn run<C>(
    lease: &mut LeasedServer<C>,
    statement: &[u8],
    parameters: &[&[u8]],
    cause: &dyn Fn(Part) -> C,
    execute: Part,
) {
    let mut bytes = BytesMut::new();
    frontend::put_bind_text(&mut bytes, b"", statement, parameters);
    push(lease, &bytes, Expect::Bind, cause(Part::Preparation));
    bytes.clear();
    frontend::put_execute(&mut bytes, b"");
    push(lease, &bytes, Expect::Execute, cause(execute));
}

fn push<C>(lease: &mut LeasedServer<C>, bytes: &[u8], expect: Expect, cause: C) {
    let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [bytes, b"", b""], Some(expect));
    // Nothing was asked of this server before, so it cannot be skipping.
    let is_skipped = lease.send(frame, cause).is_some();
    debug_assert!(!is_skipped);
}
