// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mapped memory of an image, and the only place that sees a pointer into it.
//!
//! Whoever shares the memory may store to it at any moment. So no Rust reference but to an atomic is
//! ever formed over its bytes: they are copied out by loads that the compiler may not repeat or assume
//! stable, and the copy is checked. Every access is bounds-checked.
#![allow(unsafe_code)]

mod backing;
mod copy;
mod dmabuf;
mod early;
mod fill;
mod fork;
mod lock;
#[cfg(feature = "trace")]
pub mod trace;
mod words;

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use zerocopy::{FromBytes, IntoBytes};

pub use backing::{Access, Source, parse_size};
pub(crate) use backing::{is_hugetlbfs, is_tmpfs};
use copy::{copy_in, copy_out};
pub use dmabuf::allocate as allocate_dma_heap;
pub(crate) use fill::HoleFiller;
pub(crate) use fork::generation;
pub use lock::LockFile;

use crate::error::{Error, Result, show_path};
use crate::format::HUGE_SIZE;
use crate::holes::data_runs;
use crate::persist;

/// How stores to a region are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Lost with the last process that maps it.
    Volatile,
    /// The file's page cache is written by msync.
    File,
    /// The memory is the medium: cache lines are written back.
    Memory,
}

/// A mapped range of memory that others may store to at any time.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    mapped: usize,
    writable: bool,
    durability: Durability,
    name: PathBuf,
    // Ends CPU access and closes the buffer when the region goes.
    _dma: Option<dmabuf::CpuAccess>,
    // The file behind the region, which knows its holes; and where it is writable, parties can show
    // by locks on it that they live.
    file: Option<OwnedFd>,
    early: early::Early,
    #[cfg(feature = "trace")]
    trace: trace::Trace,
}

// SAFETY: the mapping belongs to the Region until it is dropped, and every access goes through
// atomic or opaque copies, so threads may share it.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        if self.mapped > 0 {
            // SAFETY: the range was mapped by `map` and nothing can hold it any more: views keep
            // an Arc of the Region.
            let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.mapped) };
        }
    }
}

impl Region {
    /// Maps `source`; its size is the size of what is behind it.
    pub fn open(source: &Source, access: Access) -> Result<Self> {
        backing::open(source, access, None)
    }

    /// Maps `size` bytes of `source`, for building an image there.
    pub fn open_sized(source: &Source, access: Access, size: u64) -> Result<Self> {
        backing::open(source, access, Some(size))
    }

    /// Private memory that holds a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let len = bytes.len().max(1);
        // SAFETY: a new anonymous mapping at an address the kernel chooses.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .map_err(Error::io("map memory", "anonymous memory"))?;
        let region = Self {
            start: NonNull::new(start.cast()).expect("mmap never returns null"),
            len: bytes.len(),
            mapped: len,
            writable: true,
            durability: Durability::Volatile,
            name: "memory".into(),
            _dma: None,
            file: None,
            early: early::Early::default(),
            #[cfg(feature = "trace")]
            trace: trace::Trace::default(),
        };
        region.write(0, bytes)?;
        Ok(region)
    }

    fn map(
        fd: impl AsFd,
        offset: u64,
        len: usize,
        access: Access,
        durability: Durability,
        name: PathBuf,
        dma: Option<dmabuf::CpuAccess>,
    ) -> std::result::Result<Self, (rustix::io::Errno, PathBuf)> {
        let protection = match access {
            Access::Read => ProtFlags::READ,
            Access::Write => ProtFlags::READ | ProtFlags::WRITE,
        };
        let start = if len == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: a new mapping at an address the kernel chooses.
            let mapped = unsafe {
                rustix::mm::mmap(
                    std::ptr::null_mut(),
                    len,
                    protection,
                    MapFlags::SHARED,
                    fd,
                    offset,
                )
            };
            match mapped {
                Ok(start) => NonNull::new(start.cast()).expect("mmap never returns null"),
                Err(errno) => return Err((errno, name)),
            }
        };
        let writable = access == Access::Write;
        Ok(Self {
            start,
            len,
            mapped: len,
            writable,
            durability,
            name,
            _dma: dma,
            file: None,
            early: early::Early::default(),
            #[cfg(feature = "trace")]
            trace: trace::Trace::default(),
        })
    }

    /// Bytes in the region.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// True for a region of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was opened.
    pub fn name(&self) -> &std::path::Path {
        &self.name
    }

    /// How stores are made durable; of a region for reading only, without meaning.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    #[inline]
    fn at(&self, what: &'static str, offset: u64, len: u64) -> Result<*mut u8> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => {
                // SAFETY: offset <= len, so the result is inside the mapping or one past it.
                Ok(unsafe { self.start.as_ptr().add(offset as usize) })
            }
            _ => Err(self.outside(what, offset, len)),
        }
    }

    #[cold]
    fn outside(&self, what: &'static str, offset: u64, len: u64) -> Error {
        Error::corrupt(
            what,
            offset,
            format_args!("{len} bytes inside the region of {} bytes", self.len),
            "a range that ends outside",
        )
    }

    /// Copies a structure out; each of its bytes is loaded once.
    #[inline]
    pub fn read<T: FromBytes + IntoBytes>(&self, offset: u64) -> Result<T> {
        let source = self.at("structure", offset, size_of::<T>() as u64)?;
        #[cfg(feature = "trace")]
        self.trace_step();
        let mut value = T::new_zeroed();
        if self.read_early(offset, value.as_mut_bytes()) {
            return Ok(value);
        }
        // SAFETY: `at` proved the source mapped, and `value` has exactly that many bytes.
        unsafe { copy_out(source, value.as_mut_bytes().as_mut_ptr(), size_of::<T>()) };
        Ok(value)
    }

    /// Begins to load a structure of at most a cache line that is about to be read, where the
    /// processor can be asked to.
    #[inline]
    pub fn prefetch<T>(&self, offset: u64) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if let Ok(first) = self.at("structure", offset, size_of::<T>() as u64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            const { assert!(size_of::<T>() <= 64) };
            // SAFETY: `at` proved all of it mapped; and nothing changes that a program can see.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(first.cast());
                _mm_prefetch::<_MM_HINT_T0>(first.add(size_of::<T>() - 1).cast());
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = offset;
    }

    /// Copies bytes out; each is loaded once.
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let source = self.at("bytes", offset, buffer.len() as u64)?;
        #[cfg(feature = "trace")]
        self.trace_step();
        if self.read_early(offset, buffer) {
            return Ok(());
        }
        // SAFETY: `at` proved the source mapped; the destination is a slice of that length.
        unsafe { copy_out(source, buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }

    /// Copies `len` bytes out into a vector.
    pub fn read_vec(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        // Bounds first: a length from an image must not size an allocation unchecked.
        self.at("bytes", offset, len)?;
        let mut bytes = vec![0; len as usize];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The parts of a range that are more than holes of the file behind the region; all of it where
    /// there is none, or little to gain.
    pub(crate) fn data_within(&self, range: Range<u64>) -> Vec<Range<u64>> {
        if range.end - range.start < HUGE_SIZE {
            return vec![range];
        }
        self.runs_within(range, usize::MAX)
    }

    /// The first of these parts, however small they are.
    pub(crate) fn first_data(&self, range: Range<u64>) -> Option<Range<u64>> {
        self.runs_within(range, 1).into_iter().next()
    }

    fn runs_within(&self, range: Range<u64>, most: usize) -> Vec<Range<u64>> {
        // A position of its own, which finding holes moves.
        let file = self.reopen(OFlags::RDONLY);
        let runs = file.and_then(|file| {
            let runs = data_runs(file.as_fd(), range.clone(), most).ok()?;
            // What somebody has cut off since is no hole.
            let stat = rustix::fs::fstat(&file).ok()?;
            (stat.st_size.cast_unsigned() >= range.end).then_some(runs)
        });
        runs.unwrap_or_else(|| vec![range])
    }

    /// The file behind the region, opened anew.
    fn reopen(&self, flags: OFlags) -> Option<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_ref()?.as_raw_fd());
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Whether stores are possible.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Where `len` bytes at `offset` may be stored to.
    fn target(&self, what: &'static str, offset: u64, len: u64) -> Result<*mut u8> {
        if self.writable {
            return self.at(what, offset, len);
        }
        Err(Error::invalid(format!("{}: opened for reading only", show_path(&self.name))))
    }

    /// Stores bytes; not durable before [`Region::persist`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let target = self.target("bytes", offset, bytes.len() as u64)?;
        #[cfg(feature = "trace")]
        self.trace_step();
        // SAFETY: `target` proved the range mapped and writable, and the source is a slice.
        unsafe { copy_in(bytes.as_ptr(), target, bytes.len()) };
        #[cfg(feature = "trace")]
        self.trace_store(offset, bytes);
        Ok(())
    }

    /// Stores zeroes; not durable before [`Region::persist`].
    pub fn zero(&self, offset: u64, len: u64) -> Result<()> {
        static ZEROES: [u8; 65536] = [0; 65536];
        self.at("bytes", offset, len)?;
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROES.len() as u64);
            self.write(offset + done, &ZEROES[..step as usize])?;
            done += step;
        }
        Ok(())
    }

    /// Makes the stores to a range durable, and visible to hosts without cache coherence.
    pub fn persist(&self, offset: u64, len: u64) -> Result<()> {
        if self.durability == Durability::File {
            return self.sync(offset, len);
        }
        self.write_back(offset, len)?;
        self.fence();
        Ok(())
    }

    /// Where the memory is the medium: begins to write a range back, for [`Region::fence`] to
    /// wait for. Does nothing elsewhere.
    pub fn write_back(&self, offset: u64, len: u64) -> Result<()> {
        let start = self.at("bytes", offset, len)?;
        #[cfg(feature = "trace")]
        if self.trace_write_back(offset, len) {
            return Ok(());
        }
        if self.durability == Durability::Memory {
            // SAFETY: `at` proved the range mapped.
            unsafe { persist::write_back(start, len as usize) };
        }
        Ok(())
    }

    /// Waits until everything written back before is in memory.
    pub fn fence(&self) {
        #[cfg(feature = "trace")]
        if self.trace_fence() {
            return;
        }
        if self.durability == Durability::Memory {
            persist::fence();
        }
    }

    /// Writes a range of a file's pages to disk.
    fn sync(&self, offset: u64, len: u64) -> Result<()> {
        let start = self.at("bytes", offset, len)?;
        #[cfg(feature = "trace")]
        if self.trace_sync(offset, len) {
            return Ok(());
        }
        let lead = start.addr() % rustix::param::page_size();
        // SAFETY: the range, widened to its first page, is mapped.
        unsafe { rustix::mm::msync(start.sub(lead).cast(), lead + len as usize, MsyncFlags::SYNC) }
            .map_err(Error::io("write to disk", &self.name))
    }

    /// Has memory behind a range before anything is stored there, so that a full file system is
    /// an error here and not a fault at the store.
    pub fn populate(&self, offset: u64, len: u64) -> Result<()> {
        let start = self.target("bytes", offset, len)?;
        let page = rustix::param::page_size();
        let lead = start.addr() % page;
        let whole = (lead + len as usize).next_multiple_of(page);
        // SAFETY: the range, widened to whole pages, is mapped.
        let done = unsafe {
            let first = start.sub(lead).cast();
            rustix::mm::madvise(first, whole, rustix::mm::Advice::LinuxPopulateWrite)
        };
        match done {
            // Devices and older kernels do not know it, and files there have no holes to fill.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(_) => Err(Error::NoSpace {
                what: "the file system under the image",
                needed: len,
                available: 0,
                advice: "; make room there: the image's file has holes that could not be filled",
            }),
        }
    }

    /// Drops this processor's cached copy of the whole region, so that what another host
    /// published is seen although the hardware does not keep the caches coherent.
    pub fn invalidate(&self) {
        // SAFETY: the whole mapping.
        unsafe { persist::invalidate(self.start.as_ptr(), self.len) };
    }

    /// A read-only view of bytes that do not change in a sound image.
    pub fn view(self: &Arc<Self>, offset: u64, len: u64) -> Result<DataView> {
        let start = self.at("view", offset, len)?;
        Ok(DataView { region: Arc::clone(self), start, len: len as usize })
    }

    /// Writes bytes of the region to a file descriptor; the kernel does the copying.
    pub fn send(&self, offset: u64, len: u64, to: impl AsFd) -> std::io::Result<u64> {
        let start = self.at("bytes", offset, len).map_err(std::io::Error::other)?;
        let step = len.min(1 << 30) as usize;
        // SAFETY: `at` proved the range mapped; the kernel reads it, no reference is formed.
        let sent = unsafe { libc::write(to.as_fd().as_raw_fd(), start.cast(), step) };
        u64::try_from(sent).map_err(|_| std::io::Error::last_os_error())
    }
}

/// A read-only window on a region that keeps the mapping alive.
///
/// It promises only what its name says: the bytes are mapped and readable. Whether they stay as
/// they are is up to everyone who shares the memory.
#[derive(Debug, Clone)]
pub struct DataView {
    region: Arc<Region>,
    start: *const u8,
    len: usize,
}

// SAFETY: the pointer is into the Region that the view keeps alive, and the Region is Send + Sync.
unsafe impl Send for DataView {}
// SAFETY: as above.
unsafe impl Sync for DataView {}

impl DataView {
    /// First byte.
    pub fn as_ptr(&self) -> *const u8 {
        self.start
    }

    /// Bytes in the view.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a view of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The region it looks at.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_cut_off_is_no_hole() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("image");
        let file = File::create(&path).expect("a file");
        let (start, end) = (2 * HUGE_SIZE, 4 * HUGE_SIZE);
        file.write_all_at(&[1; 4096], end - 4096).expect("written");
        let region = Region::open(&Source::Path(path), Access::Read).expect("mapped");
        let (all, hole, data) = (start..end, start..end - 4096, end - 4096..end);
        assert_eq!(region.data_within(hole), []);
        assert_eq!(region.data_within(all.clone()), [data]);
        file.set_len(start + HUGE_SIZE).expect("cut");
        assert_eq!(region.data_within(all.clone()), std::slice::from_ref(&all));
        assert_eq!(region.first_data(all.clone()), Some(all));
    }
}
