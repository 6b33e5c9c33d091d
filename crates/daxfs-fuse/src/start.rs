// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A server that does not answer yet: whoever waits for it may give up, and signals may end it.

use daxfs_core::error::{Error, Result};
use daxfs_core::progress::{self, Progress};
use daxfs_core::workers;
use signal_hook::iterator::Signals;

use crate::daemon::{self, Waiting};

/// What may end a server before it answers.
#[derive(Debug)]
pub(crate) struct Start {
    waiting: Waiting,
    signals: Signals,
}

impl Start {
    /// Begins to listen for signals.
    pub(crate) fn new(waiting: Waiting) -> Result<Self> {
        let signals = Signals::new(daemon::ending_signals());
        Ok(Self { waiting, signals: signals.map_err(Error::io("catch", "signals"))? })
    }

    /// Fails if the server is not wanted any more.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.signals.pending().next().is_some() || self.waiting.has_hung_up() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Does `work` that may take long, until the server is not wanted any more.
    pub(crate) fn watch<T: Send>(
        &mut self,
        work: impl FnOnce(&Progress) -> Result<T> + Send,
    ) -> Result<T> {
        progress::watch(&workers::start()?, &Progress::default(), work, || self.check())
    }

    /// Says that the server answers; fails if it is not wanted any more. Signals come to the caller
    /// from now on.
    pub(crate) fn ready(mut self) -> Result<Signals> {
        self.check()?;
        if self.waiting.ready() { Ok(self.signals) } else { Err(Error::Interrupted) }
    }
}
