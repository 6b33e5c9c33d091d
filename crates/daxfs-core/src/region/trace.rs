// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A region that remembers every store, write-back and fence, so that tests can make every image
//! that a crash could leave behind; or that lets a test decide who goes on at every access to a
//! shared word.

use std::sync::{Mutex, PoisonError};

use super::{Durability, Region};
use crate::error::Result;

/// What happened to the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes were stored.
    Store {
        /// Image offset.
        offset: u64,
        /// What was stored.
        bytes: Vec<u8>,
    },
    /// A range began to be written back.
    WriteBack {
        /// Image offset.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// What was written back is durable.
    Fence,
    /// A test says that from here on something is promised.
    Mark(u64),
}

/// What a test wants to know of a region.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The events so far, in order.
    events: Option<Mutex<Vec<Event>>>,
    /// Called before every access to a shared word and every copy of bytes.
    step: Option<fn()>,
}

impl Trace {
    /// Whether it remembers; if so also this.
    fn push(&self, event: impl FnOnce() -> Option<Event>) -> bool {
        let Some(events) = &self.events else { return false };
        events.lock().unwrap_or_else(PoisonError::into_inner).extend(event());
        true
    }
}

impl Region {
    /// Private memory that holds a copy of `bytes`, counts as of this durability, and remembers.
    pub fn traced(bytes: &[u8], durability: Durability) -> Result<Self> {
        let mut region = Self::from_bytes(bytes)?;
        region.durability = durability;
        region.trace.events = Some(Mutex::default());
        Ok(region)
    }

    /// Private memory that holds a copy of `bytes`; calls `step` before every access to a shared
    /// word and every copy of bytes.
    pub fn interleaved(bytes: &[u8], step: fn()) -> Result<Self> {
        let mut region = Self::from_bytes(bytes)?;
        region.trace.step = Some(step);
        Ok(region)
    }

    /// Takes the events so far.
    pub fn take_trace(&self) -> Vec<Event> {
        self.trace.events.as_ref().map_or_else(Vec::new, |events| {
            std::mem::take(&mut *events.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Puts a mark between the events.
    pub fn mark(&self, mark: u64) {
        self.trace.push(|| Some(Event::Mark(mark)));
    }

    pub(super) fn trace_step(&self) {
        if let Some(step) = self.trace.step {
            step();
        }
    }

    pub(super) fn trace_store(&self, offset: u64, bytes: &[u8]) {
        self.trace.push(|| Some(Event::Store { offset, bytes: bytes.to_vec() }));
    }

    pub(super) fn trace_write_back(&self, offset: u64, len: u64) -> bool {
        let memory = self.durability == Durability::Memory;
        self.trace.push(|| memory.then_some(Event::WriteBack { offset, len }))
    }

    pub(super) fn trace_sync(&self, offset: u64, len: u64) -> bool {
        self.trace.push(|| Some(Event::WriteBack { offset, len }))
            && self.trace.push(|| Some(Event::Fence))
    }

    pub(super) fn trace_fence(&self) -> bool {
        self.trace.push(|| Some(Event::Fence))
    }
}
