// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How far long work has come, for whoever wants to show it, and a way to stop it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use rayon::ThreadPool;

use crate::error::{Error, Result};

/// How often whoever watches is asked.
pub const TICK: Duration = Duration::from_millis(50);

/// Counters that a worker advances and another thread reads.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    total_files: AtomicU64,
    total_bytes: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Files and bytes done.
    pub fn done(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Files and bytes to do, 0 while unknown.
    pub fn total(&self) -> (u64, u64) {
        (self.total_files.load(Ordering::Relaxed), self.total_bytes.load(Ordering::Relaxed))
    }

    /// Begins a phase of known size: counters start again.
    pub fn begin(&self, files: u64, bytes: u64) {
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.expect(files, bytes);
    }

    /// What is to do has become known; counters go on.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.total_files.store(files, Ordering::Relaxed);
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Counts work done.
    pub fn advance(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Asks the worker to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the worker was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Ends the work that the caller wants no more.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Does `work` on a thread of `pool`. Meanwhile the caller's thread calls `tick`, whose error stops
/// the work and is what comes of it.
pub fn watch<T: Send, E: From<Error>>(
    pool: &ThreadPool,
    progress: &Progress,
    work: impl FnOnce(&Progress) -> Result<T> + Send,
    mut tick: impl FnMut() -> std::result::Result<(), E>,
) -> std::result::Result<T, E> {
    let (sender, receiver) = channel();
    pool.in_place_scope(|scope| {
        scope.spawn(move |_| {
            // Whoever waits is below.
            let _ = sender.send(work(progress));
        });
        let mut interruption = None;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(result) => return interruption.map_or_else(|| Ok(result?), Err),
                Err(RecvTimeoutError::Timeout) if interruption.is_none() => {
                    interruption = tick().err();
                    if interruption.is_some() {
                        progress.cancel();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // It panicked, and the scope passes that on.
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Interrupted.into()),
            }
        }
    })
}
