// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shared words: naturally aligned, changed and looked at by atomic accesses alone.
//!
//! All of them are sequentially consistent; the branch protocol is argued on that ground.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::Region;
use crate::error::{Error, Result};

#[cold]
fn unaligned(offset: u64, size: u64) -> Error {
    Error::corrupt("word", offset, format_args!("a multiple of {size}"), "unaligned")
}

impl Region {
    #[inline]
    fn aligned(&self, offset: u64, size: u64) -> Result<*mut u8> {
        #[cfg(feature = "trace")]
        self.trace_step();
        let word = self.at("word", offset, size)?;
        if word.addr().is_multiple_of(size as usize) {
            Ok(word)
        } else {
            Err(unaligned(offset, size))
        }
    }

    #[inline]
    fn word(&self, offset: u64) -> Result<&AtomicU64> {
        // SAFETY: mapped, aligned, and only ever accessed atomically or by opaque copies.
        self.aligned(offset, 8).map(|word| unsafe { AtomicU64::from_ptr(word.cast()) })
    }

    #[inline]
    fn half(&self, offset: u64) -> Result<&AtomicU32> {
        // SAFETY: as in `word`.
        self.aligned(offset, 4).map(|word| unsafe { AtomicU32::from_ptr(word.cast()) })
    }

    fn shared(&self, offset: u64) -> Result<&AtomicU64> {
        self.target("word", offset, 8)?;
        self.word(offset)
    }

    /// Loads a word of eight bytes.
    #[inline]
    pub fn load(&self, offset: u64) -> Result<u64> {
        self.early.end();
        Ok(u64::from_le(self.word(offset)?.load(SeqCst)))
    }

    /// Loads a word of four bytes.
    #[inline]
    pub fn load32(&self, offset: u64) -> Result<u32> {
        self.early.end();
        Ok(u32::from_le(self.half(offset)?.load(SeqCst)))
    }

    /// Stores a word of eight bytes.
    pub fn store(&self, offset: u64, value: u64) -> Result<()> {
        self.shared(offset)?.store(value.to_le(), SeqCst);
        #[cfg(feature = "trace")]
        self.trace_store(offset, &value.to_le_bytes());
        Ok(())
    }

    /// Stores a word of four bytes.
    pub fn store32(&self, offset: u64, value: u32) -> Result<()> {
        self.target("word", offset, 4)?;
        self.half(offset)?.store(value.to_le(), SeqCst);
        #[cfg(feature = "trace")]
        self.trace_store(offset, &value.to_le_bytes());
        Ok(())
    }

    /// Stores `new` if the word is `old`; tells whether it was.
    pub fn compare_exchange(&self, offset: u64, old: u64, new: u64) -> Result<bool> {
        let word = self.shared(offset)?;
        let swapped = word.compare_exchange(old.to_le(), new.to_le(), SeqCst, SeqCst).is_ok();
        #[cfg(feature = "trace")]
        if swapped {
            self.trace_store(offset, &new.to_le_bytes());
        }
        Ok(swapped)
    }

    /// Adds to a word; returns what it was.
    pub fn fetch_add(&self, offset: u64, count: u64) -> Result<u64> {
        let word = self.shared(offset)?;
        // Not the processor's add, which is in its own byte order.
        let mut old = word.load(SeqCst);
        loop {
            let sum = u64::from_le(old).wrapping_add(count).to_le();
            match word.compare_exchange_weak(old, sum, SeqCst, SeqCst) {
                Ok(_) => break,
                Err(found) => old = found,
            }
        }
        let old = u64::from_le(old);
        #[cfg(feature = "trace")]
        self.trace_store(offset, &old.wrapping_add(count).to_le_bytes());
        Ok(old)
    }

    /// Sets bits of a word of four bytes.
    pub fn fetch_or32(&self, offset: u64, bits: u32) -> Result<()> {
        self.target("word", offset, 4)?;
        let _old = self.half(offset)?.fetch_or(bits.to_le(), SeqCst);
        #[cfg(feature = "trace")]
        self.trace_store(offset, &(u32::from_le(_old) | bits).to_le_bytes());
        Ok(())
    }
}
