// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Threads beside those that serve.

use std::convert::Infallible;
use std::ops::RangeInclusive;
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
        self.0.push((line, started.map_err(Error::io("start", format!("thread {name}")))?));
        Ok(())
    }

    /// How many threads can be started, if there is room for as many as `wanted` begins with;
    /// limits may leave none for as many as it ends with.
    pub(crate) fn room(wanted: RangeInclusive<usize>) -> Result<usize> {
        let mut tried = Self::default();
        while tried.0.len() < *wanted.end() {
            // They end when all of them have been started.
            let wait = |until: &Until| while until.recv().is_ok() {};
            match tried.start("daxfs-fuse", wait) {
                Err(error) if tried.0.len() < *wanted.start() => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        let room = tried.0.len();
        tried.end();
        Ok(room)
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
