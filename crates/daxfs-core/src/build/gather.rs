// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gathering the contents of small files, to write them at once.

use std::cell::RefCell;

use crate::buffer::Buffer;
use crate::format::BLOCK_SIZE;

thread_local! {
    /// Reused between writes: fresh memory would cost a page fault for every block.
    pub(super) static BUFFER: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
}

/// Contents one after the other, each on blocks of its own, as they will lie in the image.
pub(super) struct Gathered<'buffer> {
    buffer: &'buffer mut Buffer,
    len: usize,
}

impl<'buffer> Gathered<'buffer> {
    /// None yet.
    pub(super) fn new(buffer: &'buffer mut Buffer) -> Self {
        Self { buffer, len: 0 }
    }

    /// Adds contents of `size` bytes, which `fill` gets room for and one byte more. Gives what
    /// `fill` gives; the contents have their blocks even if it fails.
    pub(super) fn add<T>(&mut self, size: u64, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        let end = self.len + size as usize;
        self.buffer.reach(end + 1);
        let filled = fill(&mut self.buffer[self.len..=end]);
        self.len = end.next_multiple_of(BLOCK_SIZE as usize);
        self.buffer[end..self.len].fill(0);
        filled
    }

    /// Everything so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}
