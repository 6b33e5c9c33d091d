// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Moving stores out of the processor's caches, named by intent.
#![allow(unsafe_code)]

/// Whether what follows does anything on this processor.
pub(crate) const KNOWN: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// Bytes of a cache line; larger real lines only mean that some work is done twice.
pub const CACHE_LINE: usize = 64;

/// Writes the lines of a range back to memory, keeping them cached where the processor can.
///
/// Durable only after [`fence`].
///
/// # Safety
///
/// `start..start + len` must be mapped.
pub unsafe fn write_back(start: *const u8, len: usize) {
    for line in lines(start, len) {
        // SAFETY: the line overlaps the caller's mapped range, and a line never spans two pages.
        unsafe { arch::write_back(line) };
    }
}

/// Drops the lines of a range from the caches, so that the next load sees what another host wrote.
///
/// # Safety
///
/// `start..start + len` must be mapped.
pub unsafe fn invalidate(start: *const u8, len: usize) {
    for line in lines(start, len) {
        // SAFETY: as in `write_back`.
        unsafe { arch::invalidate(line) };
    }
    fence();
}

/// Waits until everything written back before is in memory.
pub fn fence() {
    arch::fence();
}

fn lines(start: *const u8, len: usize) -> impl Iterator<Item = *const u8> {
    let lead = start.addr() % CACHE_LINE;
    (0..lead + len).step_by(CACHE_LINE).map(move |at| start.wrapping_sub(lead).wrapping_add(at))
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod arch {
    use std::arch::asm;
    use std::sync::OnceLock;

    /// Best instruction that this processor has (CPUID leaf 7, EBX bits 24 and 23).
    #[derive(Clone, Copy)]
    enum Flush {
        Clwb,
        Clflushopt,
        Clflush,
    }

    fn best() -> Flush {
        static BEST: OnceLock<Flush> = OnceLock::new();
        *BEST.get_or_init(|| {
            let features = if std::arch::x86_64::__cpuid(0).eax >= 7 {
                std::arch::x86_64::__cpuid_count(7, 0).ebx
            } else {
                0
            };
            match (features >> 24 & 1, features >> 23 & 1) {
                (1, _) => Flush::Clwb,
                (_, 1) => Flush::Clflushopt,
                _ => Flush::Clflush,
            }
        })
    }

    pub(super) unsafe fn write_back(line: *const u8) {
        // SAFETY: the processor has the instruction, and the caller vouches for the address.
        unsafe {
            match best() {
                Flush::Clwb => asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags)),
                _ => invalidate(line),
            }
        }
    }

    pub(super) unsafe fn invalidate(line: *const u8) {
        // SAFETY: as in `write_back`.
        unsafe {
            match best() {
                Flush::Clflush => {
                    asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags));
                }
                _ => asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)),
            }
        }
    }

    pub(super) fn fence() {
        // SAFETY: orders memory accesses, touches nothing. A full fence: loads after an
        // invalidation must not be satisfied early.
        unsafe { asm!("mfence", options(nostack, preserves_flags)) };
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod arch {
    use std::arch::{asm, is_aarch64_feature_detected};

    pub(super) unsafe fn write_back(line: *const u8) {
        // SAFETY: the processor has the instruction, and the caller vouches for the address; user
        // space may clean by address on Linux.
        unsafe {
            if is_aarch64_feature_detected!("dpb") {
                // dc cvap: to where it outlives the power, which may lie beyond where all see it.
                asm!("sys #3, c7, c12, #1, {}", in(reg) line, options(nostack, preserves_flags));
            } else {
                asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags));
            }
        }
    }

    pub(super) unsafe fn invalidate(line: *const u8) {
        // SAFETY: as in `write_back`; clean and invalidate loses nothing.
        unsafe { asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) };
    }

    pub(super) fn fence() {
        // SAFETY: orders memory accesses, touches nothing.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod arch {
    pub(super) unsafe fn write_back(_line: *const u8) {}

    pub(super) unsafe fn invalidate(_line: *const u8) {}

    pub(super) fn fence() {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_the_instructions_and_memory_keeps_its_bytes() {
        let memory: Vec<u8> = (0..=255).collect();
        for (start, len) in [(0, 256), (1, 200), (63, 2), (255, 1), (7, 0)] {
            let part = &memory[start..start + len];
            // SAFETY: the range lies in the vector.
            unsafe {
                write_back(part.as_ptr(), part.len());
                fence();
                invalidate(part.as_ptr(), part.len());
            }
        }
        assert!(memory.iter().copied().eq(0..=255));
    }
}
