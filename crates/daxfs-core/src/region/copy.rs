// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies to and from memory that others may store to meanwhile.
//!
//! They may meet atomic accesses of another size, here or in another process, of which Rust's memory
//! model says nothing good (Miri calls it a race). That of LLVM does, and so do processors: each byte
//! is one that somebody stored.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Copies out of shared memory, each byte once.
///
/// # Safety
///
/// Both ranges must be valid for `len` bytes, and `to` must not be shared.
#[inline]
pub(super) unsafe fn copy_out(from: *mut u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for both ranges.
    unsafe {
        if string_copy(from, to, len) {
            return;
        }
        let mut at = 0;
        while at < len && !from.add(at).addr().is_multiple_of(8) {
            to.add(at).write(AtomicU8::from_ptr(from.add(at)).load(Ordering::Relaxed));
            at += 1;
        }
        while at + 8 <= len {
            let word = AtomicU64::from_ptr(from.add(at).cast()).load(Ordering::Relaxed);
            to.add(at).cast::<u64>().write_unaligned(word);
            at += 8;
        }
        while at < len {
            to.add(at).write(AtomicU8::from_ptr(from.add(at)).load(Ordering::Relaxed));
            at += 1;
        }
    }
}

/// Copies into shared memory, each byte once.
///
/// # Safety
///
/// Both ranges must be valid for `len` bytes, and `from` must not be shared.
pub(super) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller vouches for both ranges.
    unsafe {
        if string_copy(from, to, len) {
            return;
        }
        let mut at = 0;
        while at < len && !to.add(at).addr().is_multiple_of(8) {
            AtomicU8::from_ptr(to.add(at)).store(from.add(at).read(), Ordering::Relaxed);
            at += 1;
        }
        while at + 8 <= len {
            let word = from.add(at).cast::<u64>().read_unaligned();
            AtomicU64::from_ptr(to.add(at).cast()).store(word, Ordering::Relaxed);
            at += 8;
        }
        while at < len {
            AtomicU8::from_ptr(to.add(at)).store(from.add(at).read(), Ordering::Relaxed);
            at += 1;
        }
    }
}

/// Long copies by the processor's string move: as fast as memcpy, and opaque to the compiler,
/// which therefore cannot assume anything about racing stores. Returns whether it copied.
///
/// # Safety
///
/// Both ranges must be valid for `len` bytes.
#[inline]
unsafe fn string_copy(from: *const u8, to: *mut u8, len: usize) -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= 256 {
        // SAFETY: the direction flag is clear by the ABI; the caller vouches for the ranges.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") len => _, inout("rsi") from => _, inout("rdi") to => _,
                options(nostack, preserves_flags)
            );
        }
        return true;
    }
    let _ = (from, to, len);
    false
}
