// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The end of a record's log: entries go behind what is published, in segments that are taken as
//! they are needed.

use crate::alloc::{Run, Spare};
use crate::delta::{self, CONTINUE_SIZE, Change, Cursor};
use crate::error::{Error, Result};
use crate::format::BLOCK_SIZE;
use crate::session::Session;

/// Largest segment asked for, in blocks. Segments grow with their log up to that.
const SEGMENT_MAX: u64 = 256;

/// Appends to one record's log; the caller holds the record.
pub(crate) struct Appender<'a> {
    session: &'a Session,
    slot: u64,
    id: u64,
    /// Where the next entry goes.
    at: Cursor,
    /// Blocks to leave free.
    keep: u64,
    /// Where the log will end, if that is known.
    end: Option<u64>,
    spare: &'a mut Spare,
    buffer: &'a mut Vec<u8>,
    /// Segments begun.
    taken: Vec<Run>,
}

impl<'a> Appender<'a> {
    pub(crate) fn new(
        session: &'a Session,
        (slot, id): (u64, u64),
        at: Cursor,
        keep: u64,
        spare: &'a mut Spare,
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        Self { session, slot, id, at, keep, end: None, spare, buffer, taken: Vec::new() }
    }

    /// With no more room at the end than for so many bytes of entries in all.
    pub(crate) fn for_bytes(self, bytes: u64) -> Self {
        Self { end: Some(self.at.position + bytes), ..self }
    }

    /// AppendAllocate, AppendWrite: puts one entry behind the others.
    pub(crate) fn append(&mut self, ino: u64, time: i64, change: &Change) -> Result<()> {
        // Bytes in a layer's log go along with its entries.
        let data = match change {
            Change::Write { data, len, .. } => self.session.region.read_vec(*data, *len)?,
            _ => Vec::new(),
        };
        self.buffer.clear();
        delta::encode(self.buffer, ino, time, change, &data);
        let len = self.buffer.len() as u64;
        // Where nothing is published, what the record says of a first segment means nothing: it may
        // be free, or somebody else's, if its writer died or gave up.
        let begun = self.at.position > 0;
        if !begun || self.at.segment_end - self.at.at < len + CONTINUE_SIZE {
            self.extend(len, time)?;
        }
        self.put()
    }

    /// Stores what is in the buffer.
    fn put(&mut self) -> Result<()> {
        let (region, len) = (&self.session.region, self.buffer.len() as u64);
        region.write(self.at.at, self.buffer)?;
        region.write_back(self.at.at, len)?;
        self.at.at += len;
        self.at.position += len;
        Ok(())
    }

    /// Goes on in a new segment, for an entry of `len` bytes at least.
    fn extend(&mut self, len: u64, time: i64) -> Result<()> {
        let (session, heap) = (self.session, &self.session.heap);
        let least = (len + CONTINUE_SIZE).div_ceil(BLOCK_SIZE);
        let want = match self.end {
            Some(end) => {
                (end.saturating_sub(self.at.position) + CONTINUE_SIZE).div_ceil(BLOCK_SIZE)
            }
            None => self.at.position / BLOCK_SIZE,
        };
        let want = want.clamp(1, SEGMENT_MAX).max(least);
        let run = self.spare.allocate(heap, self.id, least..=want, self.keep)?;
        self.taken.push(run);
        heap.persist(run)?;
        if self.at.position == 0 {
            session.records.set_log(self.slot, run.offset, run.len())?;
        } else {
            let left = self.at.segment_end - self.at.at;
            if left < CONTINUE_SIZE {
                let expected = format!("{CONTINUE_SIZE} bytes for a CONTINUE");
                return Err(Error::corrupt("end of a segment", self.at.at, expected, left));
            }
            let entry = std::mem::take(self.buffer);
            delta::encode_continue(self.buffer, time, run.offset..run.end());
            self.put()?;
            *self.buffer = entry;
        }
        self.at = Cursor { at: run.offset, segment_end: run.end(), position: self.at.position };
        Ok(())
    }

    /// Where the log ends now, once everything is durable up to there, and the segments begun.
    pub(crate) fn finish(self) -> (Cursor, Vec<Run>) {
        self.session.region.fence();
        (self.at, self.taken)
    }

    /// Gives up: what was begun serves what comes next.
    pub(crate) fn give_up(self) {
        self.spare.give(self.taken);
    }
}
