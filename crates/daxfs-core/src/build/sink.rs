// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where an image is written: a file that takes its name when it is whole, or mapped memory.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::Output;
use crate::error::{Error, Result, show_path};
use crate::format::{BLOCK_SIZE, MAGIC};
use crate::newfile::NewFile;
use crate::region::{Access, HoleFiller, Region, Source, allocate_dma_heap, is_tmpfs};

/// Bytes zeroed by one task.
const PIECE: u64 = 16 << 20;
/// Bytes that are worth the calls that filling takes.
const FILL_MIN: usize = 64 << 10;

/// An image being written.
#[derive(Debug)]
pub(super) enum Sink {
    /// A file, which takes its name at the end.
    File {
        file: NewFile,
        /// The kernel lets one write at a time into a file and spins meanwhile; we sleep.
        turn: Mutex<()>,
        /// On tmpfs: fills the file beside the one who writes.
        filler: Option<HoleFiller>,
    },
    /// Memory that is the image's final place.
    Memory {
        region: Arc<Region>,
        /// What it is, where nothing else keeps it.
        buffer: Option<OwnedFd>,
        /// Of huge pages: the file, which takes its name at the end.
        file: Option<NewFile>,
    },
}

impl Sink {
    /// Opens the output; memory needs to know how many bytes will be used.
    pub(super) fn open(output: &Output, size: u64, force: bool) -> Result<Self> {
        match output {
            Output::File(path) if output.is_written() => Self::open_file(path, force),
            Output::File(path) => Self::open_huge(path, size, force),
            Output::Memory(source) => Self::open_memory(source, size, force),
            Output::Heap(heap) => {
                let buffer = allocate_dma_heap(heap, size)?;
                let source = Source::Fd(buffer.as_raw_fd());
                let region = Arc::new(Region::open_sized(&source, Access::Write, size)?);
                Ok(Self::Memory { region, buffer: Some(buffer), file: None })
            }
        }
    }

    fn open_file(path: &Path, force: bool) -> Result<Self> {
        let file = NewFile::create(path, force)?;
        let filler = is_tmpfs(file.file()).then(HoleFiller::new).flatten();
        Ok(Self::File { file, turn: Mutex::new(()), filler })
    }

    fn open_memory(source: &Source, size: u64, force: bool) -> Result<Self> {
        let region = Arc::new(Region::open_sized(source, Access::Write, size)?);
        let magic = region.load(0)? as u32;
        if magic == MAGIC && !force {
            return Err(Error::Exists { path: region.name().to_owned() });
        }
        Ok(Self::Memory { region, buffer: None, file: None })
    }

    fn open_huge(path: &Path, size: u64, force: bool) -> Result<Self> {
        let new = NewFile::create(path, force)?;
        let file = new.file();
        let page = file.metadata().map_err(Error::io("examine", path))?.blksize();
        let whole = size.next_multiple_of(page);
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, whole).map_err(
            |errno| match errno {
                Errno::NOSPC | Errno::NOMEM => Error::Backing {
                    what: format!("{}: too few huge pages for {whole} bytes", show_path(path)),
                    advice: "`sysctl vm.nr_hugepages=NUMBER` makes more; the mount may set a limit"
                        .into(),
                    errno: Errno::NOSPC.raw_os_error(),
                },
                _ => Error::io("allocate", path)(errno),
            },
        )?;
        let source = Source::Fd(file.as_raw_fd());
        let region = Arc::new(Region::open_sized(&source, Access::Write, size)?);
        Ok(Self::Memory { region, buffer: None, file: Some(new) })
    }

    /// Whether unwritten bytes read as zeroes by themselves.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    /// Begins anew: nothing written so far counts, and what is not written will be zero up to
    /// `end`. In memory nothing will be written from `used` on.
    pub(super) fn begin(&self, end: u64, used: u64) -> Result<()> {
        match self {
            Self::File { file, .. } => {
                file.file().set_len(0).map_err(Error::io("truncate", file.path()))?;
                self.set_size(end)
            }
            Self::Memory { region, .. } => {
                region.populate(0, used)?;
                // From now on until the superblock is written this is no image.
                region.zero(0, BLOCK_SIZE)?;
                region.persist(0, BLOCK_SIZE)?;
                self.zero(0, end)
            }
        }
    }

    /// Makes a range zero that may not be, and has memory behind it: what shares a mapping of a
    /// file must not meet holes there that a full file system cannot fill.
    pub(super) fn zero(&self, start: u64, end: u64) -> Result<()> {
        let region = match self {
            Self::Memory { region, .. } => region,
            Self::File { file, .. } => {
                let flags = FallocateFlags::empty();
                return match rustix::fs::fallocate(file.file(), flags, start, end - start) {
                    Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
                    Err(errno) => Err(Error::io("allocate", file.path())(errno)),
                };
            }
        };
        (0..(end - start).div_ceil(PIECE)).into_par_iter().try_for_each(|piece| {
            let at = start + piece * PIECE;
            region.zero(at, (end - at).min(PIECE))
        })
    }

    /// Writes bytes at an image offset.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File { file, turn, filler } => {
                let free = turn.try_lock().ok();
                // Where filling fails, writing does it, or says why not.
                if free.is_none()
                    && bytes.len() >= FILL_MIN
                    && let Some(filler) = filler
                    && filler.fill(file.file(), offset, bytes).is_ok()
                {
                    return Ok(());
                }
                let _turn = free.map_or_else(|| turn.lock(), Ok);
                write_at(file, bytes, offset)
            }
            Self::Memory { region, .. } => region.write(offset, bytes),
        }
    }

    /// The file's size is final from here.
    pub(super) fn set_size(&self, size: u64) -> Result<()> {
        match self {
            Self::File { file, .. } => {
                file.file().set_len(size).map_err(Error::io("extend", file.path()))
            }
            Self::Memory { .. } => Ok(()),
        }
    }

    /// Writes the superblock, last of all, and gives the image of `total` bytes its name; nothing
    /// was written from `used` on.
    pub(super) fn finish(
        self,
        superblock: &[u8],
        used: u64,
        total: u64,
    ) -> Result<Option<OwnedFd>> {
        self.set_size(total)?;
        match self {
            Self::File { file, .. } => {
                write_at(&file, superblock, 0)?;
                file.finish()?;
                Ok(None)
            }
            Self::Memory { region, buffer, file } => {
                region.persist(BLOCK_SIZE, used - BLOCK_SIZE)?;
                region.write(0, superblock)?;
                region.persist(0, BLOCK_SIZE)?;
                if let Some(file) = file {
                    file.finish()?;
                }
                Ok(buffer)
            }
        }
    }
}

fn write_at(file: &NewFile, bytes: &[u8], offset: u64) -> Result<()> {
    file.file().write_all_at(bytes, offset).map_err(Error::io("write", file.path()))
}
