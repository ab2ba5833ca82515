//! What the service manager is told: <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>
//!
//! Without systemd (no `NOTIFY_SOCKET`) nothing happens. Owns: the words. Does not own: when they are said.

use std::time::Duration;

use sd_notify::NotifyState;

/// The proxy listens, or a reload is over.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// A reload that the service manager was told of. It is over when this is dropped, given up half-way or not:
/// a manager that hears nothing more of it takes the service for broken.
#[must_use]
#[derive(Debug)]
pub struct Reloading(());

impl Drop for Reloading {
    fn drop(&mut self) {
        ready();
    }
}

/// A reload begins.
pub fn reloading() -> Reloading {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for the service manager"),
    }
    Reloading(())
}

/// The end has begun.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// Still alive.
pub fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be said, with a margin of one half; `None` where nobody watches.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
