// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a file's bytes lie: an ordered map of disjoint runs; what none covers reads as zeroes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::region::Region;

/// A run of a file's bytes that lies in one piece in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub file_offset: u64,
    /// Image offset of the bytes.
    pub image_offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Extent {
    /// First offset in the file after the run; both ends of a run are at most
    /// [`crate::delta::FILE_SIZE_MAX`].
    fn end(&self) -> u64 {
        self.file_offset + self.len
    }

    /// The part of the run that lies in `range`, which it must reach into.
    fn clip(&self, range: &Range<u64>) -> Self {
        let file_offset = self.file_offset.max(range.start);
        Self {
            file_offset,
            image_offset: self.image_offset + (file_offset - self.file_offset),
            len: self.end().min(range.end) - file_offset,
        }
    }
}

/// The runs of one file, by their offsets in it.
#[derive(Debug, Clone, Default)]
pub struct Extents(BTreeMap<u64, Extent>);

impl Extents {
    /// Lays a run over what is there.
    pub fn insert(&mut self, extent: Extent) {
        if extent.len > 0 {
            self.remove(extent.file_offset..extent.end());
            self.0.insert(extent.file_offset, extent);
        }
    }

    /// Drops everything from `size` on.
    pub fn truncate(&mut self, size: u64) {
        self.remove(size..u64::MAX);
    }

    /// Makes a hole: runs inside are dropped, runs that reach into it are trimmed or split.
    fn remove(&mut self, hole: Range<u64>) {
        // At most one run begins before the hole and reaches into it.
        if let Some((_, before)) = self.0.range_mut(..hole.start).next_back()
            && before.end() > hole.start
        {
            let whole = *before;
            *before = whole.clip(&(0..hole.start));
            self.keep_tail(whole, hole.end);
        }
        while let Some((&start, &run)) = self.0.range(hole.clone()).next() {
            self.0.remove(&start);
            self.keep_tail(run, hole.end);
        }
    }

    fn keep_tail(&mut self, run: Extent, from: u64) {
        if run.end() > from {
            self.0.insert(from, run.clip(&(from..u64::MAX)));
        }
    }

    /// The runs that reach into `range`, clipped to it, in order; it must not be reversed.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let before = self.0.range(..range.start).next_back().map(|(_, run)| run);
        let first = before.filter(|run| run.end() > range.start && !range.is_empty());
        let rest = self.0.range(range.clone()).map(|(_, run)| run);
        first.into_iter().chain(rest).map(move |run| run.clip(&range))
    }

    /// Fills `buffer` with the file's bytes from `offset` on.
    pub fn read(&self, region: &Region, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        for run in self.overlapping(offset..offset.saturating_add(buffer.len() as u64)) {
            let start = (run.file_offset - offset) as usize;
            let end = start + run.len as usize;
            buffer[filled..start].fill(0);
            region.read_into(run.image_offset, &mut buffer[start..end])?;
            filled = end;
        }
        buffer[filled..].fill(0);
        Ok(())
    }
}
