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

use tokio::signal::unix::{Signal as Listening, SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::notify;
use super::pool::ServerPool;
use super::proxy::{RunningServer, StartFault, start_with};
use super::reload::Hooks;
use super::signal::Stage;
use crate::admin::{Actor, ShutdownMode};
use crate::config::Config;

/// When all sessions have been told to end: how long they get to say good-bye.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Signals that end the proxy.
struct EndSignals {
    terminate: Listening,
    interrupt: Listening,
    quit: Listening,
}

impl EndSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// The next one. If dropped: none is lost.
    async fn next(&mut self) -> ShutdownMode {
        let (name, mode) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", ShutdownMode::WaitForServers),
            _ = self.interrupt.recv() => ("SIGINT", ShutdownMode::WaitForServers),
            _ = self.quit.recv() => ("SIGQUIT", ShutdownMode::Now),
        };
        tracing::info!("{name}");
        mode
    }
}

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

    /// Accepts nobody any more, lets transactions end within the configured time, then ends the rest. If
    /// dropped: everything goes on without a listener.
    pub async fn shutdown(mut self) {
        self.close_door().await;
        self.drain().await;
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

    /// Sessions end between transactions, for as long as the configuration allows.
    async fn drain(&mut self) {
        let limit = self.proxy.generation.load().config.runtime.shutdown_timeout;
        self.proxy.move_to(Stage::Draining);
        if timeout(limit, self.ended.recv()).await.is_err() {
            tracing::warn!("sessions are still in transactions after {limit:?}: ending them");
        }
    }

    /// Sessions end now; then servers are closed.
    async fn stop(mut self) {
        self.proxy.move_to(Stage::Stopping);
        if timeout(STOP_TIMEOUT, self.ended.recv()).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        self.sweeping.abort();
        self.proxy.all_pools().iter().for_each(ServerPool::close);
    }

    /// Ends it in one mode; a later and graver order counts as soon as it comes.
    async fn end(mut self, first: ShutdownMode, signals: &mut EndSignals) {
        self.close_door().await;
        let mut mode = first;
        while mode != ShutdownMode::Now {
            let next = tokio::select! {
                () = self.wait_in(mode) => None,
                signal = signals.next() => Some(signal),
            };
            match (mode, next) {
                (_, None) | (_, Some(ShutdownMode::Now)) => mode = ShutdownMode::Now,
                (ShutdownMode::WaitForClients, Some(graver)) => mode = graver,
                (ShutdownMode::WaitForServers | ShutdownMode::Now, Some(_)) => {
                    tracing::warn!("second signal: not waiting");
                    mode = ShutdownMode::Now;
                }
            }
        }
        self.stop().await;
    }

    /// Until the mode's own end. If dropped: what was told to sessions stays told.
    async fn wait_in(&mut self, mode: ShutdownMode) {
        match mode {
            ShutdownMode::Now => {}
            ShutdownMode::WaitForServers => self.drain().await,
            ShutdownMode::WaitForClients => {
                let graver = async {
                    loop {
                        match self.endings.recv().await {
                            Some(ShutdownMode::WaitForClients) => {}
                            Some(ShutdownMode::Now | ShutdownMode::WaitForServers) | None => return,
                        }
                    }
                };
                tokio::select! {
                    _ = self.ended.recv() => return,
                    () = graver => {}
                }
                self.drain().await;
            }
        }
    }
}

/// Runs a proxy until it is told to end. SIGHUP reloads its configuration. If dropped: everything ends at once.
///
/// # Errors
/// As [`start_with`].
pub async fn serve(config: Config, hooks: Hooks) -> Result<(), StartFault> {
    let mut signals = EndSignals::listen()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut running = start_with(config, hooks)?;
    for address in running.local_addresses() {
        tracing::info!(%address, "listening");
    }
    notify::ready();
    let proxy = running.operations();
    let reloads = tokio::spawn(async move {
        let actor = Actor { login: "SIGHUP".into(), address: "signal".into() };
        while hangup.recv().await.is_some() {
            // What is wrong has been logged.
            drop(proxy.reload(&actor).await);
        }
    });
    let mode = tokio::select! {
        mode = signals.next() => mode,
        Some(mode) = running.endings.recv() => mode,
    };
    tracing::info!(?mode, "ending");
    reloads.abort();
    running.end(mode, &mut signals).await;
    // Servers are told good-bye in tasks of their own.
    sleep(Duration::from_millis(50)).await;
    tracing::info!("the proxy has ended");
    Ok(())
}
