//! The end of a proxy, by signal or by command.
//!
//! ```text
//!                         SIGTERM, SIGINT, SHUTDOWN WAIT_FOR_SERVERS
//!  serving ──────────────────────────────────────────────────▶ sessions end between transactions
//!    │  └─ SHUTDOWN WAIT_FOR_CLIENTS ─▶ nobody new ──any of the above──▶ │
//!    │                                                                   │ shutdown_timeout, a second signal
//!    └─ SIGQUIT, SHUTDOWN ───────────────────────────────────────────────▶ all sessions end now
//! ```
//!
//! Owns: the order of an end. Does not own: what a session does when it is told (`client`).

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::notify;
use super::pool::ServerPool;
use super::proxy::{Proxy, RunningServer, StartFault, start_with};
use super::reload::Hooks;
use super::sealing::verify_pools;
use super::signal::Stage;
use crate::admin::{Actor, ShutdownMode};
use crate::config::Config;

/// When all sessions have been told to end: how long they get to say good-bye.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Servers are told good-bye in tasks of their own, which the process's end would cut off.
const GOODBYE_TIME: Duration = Duration::from_millis(50);

impl RunningServer {
    /// Where it listens.
    #[must_use]
    pub fn local_addresses(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    /// What an operator sees of it and does to it.
    #[must_use]
    pub fn operations(&self) -> Arc<super::Proxy> {
        Arc::clone(&self.proxy)
    }

    /// Runs until a signal or a command ends it. If dropped: everything ends at once.
    pub async fn run(mut self, mut signals: mpsc::Receiver<ShutdownMode>) {
        let mut commands = std::mem::replace(&mut self.endings, mpsc::channel(1).1);
        let mut mode = tokio::select! {
            Some(mode) = signals.recv() => mode,
            Some(mode) = commands.recv() => mode,
            else => ShutdownMode::Now,
        };
        tracing::info!(?mode, "ending");
        self.close_door().await;
        let mut drained_by = None;
        while mode != ShutdownMode::Now {
            mode = tokio::select! {
                () = self.wait_in(mode, &mut drained_by) => ShutdownMode::Now,
                Some(signal) = signals.recv() => after_signal(mode, signal),
                Some(command) = commands.recv() => graver(mode, command),
            };
        }
        self.stop().await;
    }

    /// Accepts nobody any more, lets transactions end within the configured time, then ends the rest. If
    /// dropped: everything goes on without a listener.
    pub async fn shutdown(mut self) {
        self.close_door().await;
        self.wait_in(ShutdownMode::WaitForServers, &mut None).await;
        self.stop().await;
    }

    /// Nobody new.
    async fn close_door(&mut self) {
        notify::stopping();
        self.listening.abort();
        // The proxy itself holds one sender: without it, the channel ends with the last session.
        drop(self.proxy.alive.lock().take());
        if let Err(error) = (&mut self.listening).await
            && !error.is_cancelled()
        {
            tracing::error!(%error, "the listener's task failed");
        }
    }

    /// Until no session is left, or the mode's time is over. If dropped: what sessions were told stays told, and
    /// `drained_by` says until when they have time.
    async fn wait_in(&mut self, mode: ShutdownMode, drained_by: &mut Option<Instant>) {
        match mode {
            ShutdownMode::Now => {}
            ShutdownMode::WaitForClients => drop(self.ended.recv().await),
            ShutdownMode::WaitForServers => {
                let limit = self.proxy.generation.load().config.runtime.shutdown_timeout;
                self.proxy.move_to(Stage::Draining);
                let deadline = *drained_by.get_or_insert_with(|| Instant::now() + limit);
                if timeout_at(deadline, self.ended.recv()).await.is_err() {
                    tracing::warn!("sessions are still in transactions after {limit:?}: ending them");
                }
            }
        }
    }

    /// Sessions end now; then servers are closed.
    async fn stop(mut self) {
        self.proxy.move_to(Stage::Stopping);
        if timeout(STOP_TIMEOUT, self.ended.recv()).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        self.sweeping.abort();
        self.surfaces.end();
        self.proxy.all_pools().iter().for_each(ServerPool::close);
        if let Some(ledger) = self.proxy.ledger()
            && timeout(STOP_TIMEOUT, ledger.settle()).await.is_err()
        {
            tracing::error!("the ledger did not take the last records in time");
        }
    }
}

/// Whoever sends a second signal does not want to wait.
fn after_signal(mode: ShutdownMode, signal: ShutdownMode) -> ShutdownMode {
    match (mode, signal) {
        (ShutdownMode::WaitForServers, ShutdownMode::WaitForServers) => {
            tracing::warn!("second signal: not waiting");
            ShutdownMode::Now
        }
        (mode, signal) => graver(mode, signal),
    }
}

const fn graver(one: ShutdownMode, other: ShutdownMode) -> ShutdownMode {
    match (one, other) {
        (ShutdownMode::Now, _) | (_, ShutdownMode::Now) => ShutdownMode::Now,
        (ShutdownMode::WaitForServers, _) | (_, ShutdownMode::WaitForServers) => ShutdownMode::WaitForServers,
        (ShutdownMode::WaitForClients, ShutdownMode::WaitForClients) => ShutdownMode::WaitForClients,
    }
}

/// Signals that end the process, as orders. Must be called within a tokio runtime.
fn end_signals() -> std::io::Result<mpsc::Receiver<ShutdownMode>> {
    let (sender, orders) = mpsc::channel(4);
    for (kind, name, mode) in [
        (SignalKind::terminate(), "SIGTERM", ShutdownMode::WaitForServers),
        (SignalKind::interrupt(), "SIGINT", ShutdownMode::WaitForServers),
        (SignalKind::quit(), "SIGQUIT", ShutdownMode::Now),
    ] {
        let (mut listening, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while listening.recv().await.is_some() {
                tracing::info!("{name}");
                if sender.send(mode).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(orders)
}

/// If dropped: SIGHUP is ignored.
async fn reload_on_hangup(proxy: Arc<Proxy>, mut hangup: tokio::signal::unix::Signal) {
    let actor = Actor { login: "SIGHUP".into(), address: "signal".into() };
    while hangup.recv().await.is_some() {
        // What is wrong has been logged.
        drop(proxy.reload(&actor).await);
    }
}

/// Runs a proxy until it is told to end. SIGHUP reloads its configuration. If dropped: everything ends at once.
///
/// # Errors
/// As [`start_with`].
pub async fn serve(config: Config, hooks: Hooks) -> Result<(), StartFault> {
    let signals = end_signals()?;
    let hangup = signal(SignalKind::hangup())?;
    // Listened to, it does not end the process: whoever writes is told that the file is full.
    let _file_size = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    verify_pools(&config, None).await?;
    let running = start_with(config, hooks)?;
    for address in running.local_addresses() {
        tracing::info!(%address, "listening");
    }
    notify::ready();
    let reloads = tokio::spawn(reload_on_hangup(running.operations(), hangup));
    running.run(signals).await;
    reloads.abort();
    sleep(GOODBYE_TIME).await;
    tracing::info!("the proxy has ended");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ShutdownMode::{Now, WaitForClients, WaitForServers};

    #[test]
    fn an_end_only_gets_graver_and_a_second_signal_does_not_wait() {
        for (mode, order, by_signal, by_command) in [
            (WaitForClients, WaitForClients, WaitForClients, WaitForClients),
            (WaitForClients, WaitForServers, WaitForServers, WaitForServers),
            (WaitForServers, WaitForClients, WaitForServers, WaitForServers),
            (WaitForServers, WaitForServers, Now, WaitForServers),
            (WaitForServers, Now, Now, Now),
        ] {
            assert_eq!((after_signal(mode, order), graver(mode, order)), (by_signal, by_command), "{mode:?} {order:?}");
        }
    }
}
