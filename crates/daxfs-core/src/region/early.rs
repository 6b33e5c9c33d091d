// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The first few reads of a file that is mapped for reading, by system calls: who opens an image for
//! one thing reads a handful of structures far from it. A load from a page that was not touched yet
//! costs more than all of them, most of it for page tables that are made, filled and taken down.
//!
//! Both superblocks and the first inodes lie at the beginning, which is read at once. Nothing that
//! changes is taken from there: it is read after a word that vouches for it was loaded, and with
//! the first such load the early reads end.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use rustix::buffer::spare_capacity;

use super::Region;

/// As many as opening an image and finding a path of usual depth in it take.
const READS: u32 = 16;

/// Bytes up to which a copy by the kernel costs little besides the call.
const LEN: usize = 4096;

/// Bytes that are read at once: of a small image, all metadata.
const BEGINNING: usize = 4 * LEN;

/// How many reads are still the first, and what was read for them.
#[derive(Debug, Default)]
pub(super) struct Early {
    left: AtomicU32,
    beginning: OnceLock<Vec<u8>>,
}

impl Early {
    /// What is read from now on must not be older than what is about to be loaded.
    #[inline]
    pub(super) fn end(&self) {
        if self.left.load(Relaxed) > 0 {
            self.left.store(0, Relaxed);
        }
    }
}

impl Region {
    /// Has the first reads go through the file.
    pub(super) fn expect_early(&self) {
        self.early.left.store(READS, Relaxed);
    }

    /// Reads through the file, if this is one of the first reads; whether it was done.
    #[inline]
    pub(super) fn read_early(&self, offset: u64, buffer: &mut [u8]) -> bool {
        self.early.left.load(Relaxed) > 0 && self.read_file(offset, buffer)
    }

    #[cold]
    fn read_file(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let len = buffer.len();
        let Some(file) = self.file.as_ref().filter(|_| len <= LEN) else { return false };
        // Once somebody has ended them, none is left for anybody.
        if self.early.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            return false;
        }
        let beginning = self.early.beginning.get_or_init(|| {
            let mut bytes = Vec::with_capacity(BEGINNING);
            // What could not be read is as if it were not there.
            let _ = rustix::io::pread(file, spare_capacity(&mut bytes), 0);
            bytes
        });
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(bytes) = beginning.get(start..start.saturating_add(len)) {
            buffer.copy_from_slice(bytes);
            return true;
        }
        rustix::io::pread(file, buffer, offset) == Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

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

    /// A file of 64 KiB open for reading, its path, and the same open for writing.
    fn opened(folder: &Path) -> (Region, PathBuf, Region) {
        let path = folder.join("image");
        std::fs::write(&path, [0; 1 << 16]).expect("a file");
        let source = Source::Path(path.clone());
        let region = Region::open(&source, Access::Read).expect("mapped");
        let other = Region::open(&source, Access::Write).expect("mapped");
        (region, path, other)
    }

    #[test]
    fn the_first_reads_touch_nothing_and_see_the_same() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("shared memory");
        let (region, path, other) = opened(folder.path());
        for number in 0..u64::from(2 * READS) {
            assert_eq!(resident(&path) == 0, number <= READS.into(), "{number} reads");
            // Behind the beginning, which is read once.
            let at = BEGINNING as u64 - 7 + number * 1000;
            other.write(at, &number.to_le_bytes()).expect("writable");
            assert_eq!(region.read::<[u8; 8]>(at).expect("inside"), number.to_le_bytes());
        }
        let len = region.len();
        assert!(region.read::<[u8; 8]>(len - 7).is_err());
    }

    #[test]
    fn nothing_is_older_than_a_word_that_was_loaded_before() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("shared memory");
        type Load = fn(&Region) -> u64;
        let loads: [Load; 2] = [
            |region| region.load(8).expect("inside"),
            |region| region.load32(8).expect("inside").into(),
        ];
        for load in loads {
            let (region, _, other) = opened(folder.path());
            assert_eq!(region.read::<[u8; 8]>(0).expect("inside"), [0; 8]);
            other.write(0, &[1; 16]).expect("writable");
            assert_ne!(load(&region), 0);
            assert_eq!(region.read::<[u8; 8]>(0).expect("inside"), [1; 8]);
        }
    }

    #[test]
    fn a_file_shorter_than_its_beginning_is_read() {
        let folder = tempfile::tempdir_in("/dev/shm").expect("shared memory");
        let path = folder.path().join("short");
        std::fs::write(&path, [7; 5000]).expect("a file");
        let region = Region::open(&Source::Path(path), Access::Read).expect("mapped");
        assert_eq!(region.read::<[u8; 8]>(4992).expect("inside"), [7; 8]);
        assert!(region.read::<[u8; 8]>(4993).is_err());
    }
}
