// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Buffers for large copies.

use std::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::format::BLOCK_SIZE;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_SIZE as usize]);

/// Bytes that begin on a page.
///
/// The allocator puts large memory 16 bytes after one. Processors of AMD copy whole pages to such
/// an address, with the string instructions that kernels use, at a fifth of their speed.
pub(crate) struct Buffer(Vec<Block>);

impl Buffer {
    /// An empty buffer.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// A buffer of at least `len` bytes.
    pub(crate) fn of(len: usize) -> Self {
        let blocks = len.div_ceil(BLOCK_SIZE as usize);
        Self(Block::new_vec_zeroed(blocks).expect("there is memory for a buffer"))
    }

    /// Makes it at least `len` bytes long, and never shorter; what is new is zero.
    pub(crate) fn reach(&mut self, len: usize) {
        let blocks = len.div_ceil(BLOCK_SIZE as usize);
        if blocks > self.0.len() {
            self.0.resize(blocks, Block([0; BLOCK_SIZE as usize]));
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}
