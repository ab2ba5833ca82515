//! Puts a client's session settings on a server: a transaction of its own in front of the client's bytes.
//!
//! No Sync stands behind it, so that the server runs nothing of the client's if it fails; and it is never
//! inside the client's transaction, whose roll-back would undo it.

use bytes::BytesMut;

use super::frame::{NeedsNoScope, ScopedFrame};
use super::injection::{BEGIN, COMMIT, SET};
use super::leased::LeasedServer;
use crate::upstream::Expect;
use crate::upstream::settings::SettingStep;
use crate::wire::frontend;

/// Sends the steps. `cause` is made for each part, `true` for the COMMIT, whose tag must be `COMMIT`.
pub fn replay<C>(lease: &mut LeasedServer<C>, steps: &[SettingStep], cause: &dyn Fn(bool) -> C) {
    run(lease, BEGIN, &[], cause(false), cause(false));
    for step in steps {
        match step {
            SettingStep::Set(name, value) => {
                run(lease, SET, &[name.as_bytes(), value.as_bytes()], cause(false), cause(false));
            }
            SettingStep::Reset(name) => {
                let mut bytes = BytesMut::new();
                frontend::put_parse(&mut bytes, b"", format!("RESET {name}").as_bytes(), &[]);
                push(lease, &bytes, Expect::Parse, cause(false));
                lease.server_mut().statements.set_unnamed(None);
                run(lease, b"", &[], cause(false), cause(false));
            }
        }
    }
    run(lease, COMMIT, &[], cause(false), cause(true));
    lease.end_own_transaction();
}

/// Forgets the last values of sequences that clients before this one have left: `currval` and `lastval` would give them
/// away. `cause` as in [`replay`].
pub fn discard_sequences<C>(lease: &mut LeasedServer<C>, cause: &dyn Fn(bool) -> C) {
    run(lease, BEGIN, &[], cause(false), cause(false));
    let mut bytes = BytesMut::new();
    frontend::put_parse(&mut bytes, b"", b"DISCARD SEQUENCES", &[]);
    push(lease, &bytes, Expect::Parse, cause(false));
    lease.server_mut().statements.set_unnamed(None);
    run(lease, b"", &[], cause(false), cause(false));
    run(lease, COMMIT, &[], cause(false), cause(true));
    lease.end_own_transaction();
}

fn run<C>(lease: &mut LeasedServer<C>, statement: &[u8], parameters: &[&[u8]], bind: C, execute: C) {
    let mut bytes = BytesMut::new();
    frontend::put_bind_text(&mut bytes, b"", statement, parameters);
    push(lease, &bytes, Expect::Bind, bind);
    bytes.clear();
    frontend::put_execute(&mut bytes, b"");
    push(lease, &bytes, Expect::Execute, execute);
}

fn push<C>(lease: &mut LeasedServer<C>, bytes: &[u8], expect: Expect, cause: C) {
    let frame = ScopedFrame::unscoped(NeedsNoScope::Housekeeping, [bytes, b"", b""], Some(expect));
    // Nothing was asked of this server before, so it cannot be skipping.
    let is_skipped = lease.send(frame, cause).is_some();
    debug_assert!(!is_skipped);
}
