// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Threads beside those that serve.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use daxfs_core::error::{Error, Result};

/// Hangs up when a thread is to end.
pub(crate) type Until = Receiver<Infallible>;

/// Threads that end together.
#[derive(Debug, Default)]
pub(crate) struct Beside(Vec<(Sender<Infallible>, JoinHandle<()>)>);

impl Beside {
    /// Starts one more.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Until) + Send + 'static,
    ) -> Result<()> {
        let (line, until) = channel();
        let started = Builder::new().name(name.into()).spawn(move || work(&until));
        self.0.push((line, started.map_err(Error::io("start a thread for", name))?));
        Ok(())
    }

    /// Waits until they have ended, and let go of what they held.
    pub(crate) fn end(self) {
        for (line, thread) in self.0 {
            drop(line);
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}
