// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A region that remembers every store, write-back and fence, so that tests can make every image
//! that a crash could leave behind.

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

/// The events of one region, in order.
#[derive(Debug, Default)]
pub(super) struct Trace(Mutex<Vec<Event>>);

impl Trace {
    fn push(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Region {
    /// Private memory that holds a copy of `bytes`, counts as of this durability, and remembers.
    pub fn traced(bytes: &[u8], durability: Durability) -> Result<Self> {
        let mut region = Self::from_bytes(bytes)?;
        region.durability = durability;
        region.trace = Some(Trace::default());
        Ok(region)
    }

    /// Takes the events so far.
    pub fn take_trace(&self) -> Vec<Event> {
        self.trace.as_ref().map_or_else(Vec::new, |trace| {
            std::mem::take(&mut *trace.0.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }

    /// Puts a mark between the events.
    pub fn mark(&self, mark: u64) {
        if let Some(trace) = &self.trace {
            trace.push(Event::Mark(mark));
        }
    }

    pub(super) fn trace_store(&self, offset: u64, bytes: &[u8]) {
        if let Some(trace) = &self.trace {
            trace.push(Event::Store { offset, bytes: bytes.to_vec() });
        }
    }

    pub(super) fn trace_write_back(&self, offset: u64, len: u64) -> bool {
        let Some(trace) = &self.trace else { return false };
        if self.durability == Durability::Memory {
            trace.push(Event::WriteBack { offset, len });
        }
        true
    }

    pub(super) fn trace_sync(&self, offset: u64, len: u64) -> bool {
        let Some(trace) = &self.trace else { return false };
        trace.push(Event::WriteBack { offset, len });
        trace.push(Event::Fence);
        true
    }

    pub(super) fn trace_fence(&self) -> bool {
        let Some(trace) = &self.trace else { return false };
        trace.push(Event::Fence);
        true
    }
}
