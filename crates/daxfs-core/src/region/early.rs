// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The first few reads of a file that is mapped for reading, by system calls: who opens an image for
//! one thing reads a handful of structures far from it. A load from a page that was not touched yet
//! costs more than all of them, most of it for page tables that are made, filled and taken down.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use super::Region;

/// As many as opening an image and finding a path of usual depth in it take.
const READS: u32 = 16;

/// Bytes up to which a copy by the kernel costs little besides the call.
const LEN: usize = 4096;

/// How many reads are still the first.
#[derive(Debug, Default)]
pub(super) struct Left(AtomicU32);

impl Region {
    /// Has the first reads go through the file.
    pub(super) fn expect_early(&self) {
        self.early.0.store(READS, Relaxed);
    }

    /// Reads through the file, if this is one of the first reads; whether it was done.
    #[inline]
    pub(super) fn read_early(&self, offset: u64, buffer: &mut [u8]) -> bool {
        self.early.0.load(Relaxed) > 0 && self.read_file(offset, buffer)
    }

    #[cold]
    fn read_file(&self, offset: u64, buffer: &mut [u8]) -> bool {
        // Of readers side by side some may count as one.
        let left = self.early.0.load(Relaxed);
        self.early.0.store(left.saturating_sub(1), Relaxed);
        let len = buffer.len();
        let file = self.file.as_ref().filter(|_| len <= LEN);
        file.is_some_and(|file| rustix::io::pread(file, buffer, offset) == Ok(len))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::region::{Access, Source};

    /// KiB of a file that this process has in its page tables, where it is mapped for reading.
    fn resident(path: &Path) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("of this process");
        let mut lines = maps.lines();
        let path = path.to_str().expect("text");
        lines.find(|line| line.contains(" r--s ") && line.ends_with(path)).expect("it is mapped");
        let size = lines.find_map(|line| line.strip_prefix("Rss:")).expect("a size");
        size.trim().strip_suffix(" kB").expect("in KiB").parse().expect("a number")
    }

    #[test]
    fn the_first_reads_touch_nothing_and_see_the_same() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("shared memory");
        let path = folder.path().join("image");
        std::fs::write(&path, [0; 1 << 16]).expect("a file");
        let source = Source::Path(path.clone());
        let region = Region::open(&source, Access::Read).expect("mapped");
        let other = Region::open(&source, Access::Write).expect("mapped");
        for number in 0..u64::from(2 * READS) {
            assert_eq!(resident(&path) == 0, number <= READS.into(), "{number} reads");
            let at = number * 1000;
            other.write(at, &number.to_le_bytes()).expect("writable");
            assert_eq!(region.read::<[u8; 8]>(at).expect("inside"), number.to_le_bytes());
        }
        let len = region.len();
        assert!(region.read::<[u8; 8]>(len - 7).is_err());
    }
}
