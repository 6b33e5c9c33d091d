// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copying the contents of files into an image, with every processor.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rayon::prelude::*;
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use super::sink::Sink;
use crate::base::Xattr;
use crate::error::{Error, InputProblem, Result};
use crate::format::BLOCK_SIZE;
use crate::layout::{Placement, is_huge, stored_size};
use crate::progress::Progress;
use crate::source::xattrs::xattrs_of;
use crate::source::{Content, NodeId, Origin, Scan, open_beneath};

/// Small files are gathered into writes of about this size.
const BATCH: u64 = 256 << 10;
/// Large files are copied in pieces of this size, each by one task.
const PIECE: u64 = 16 << 20;
/// Bytes moved by one read and write of a piece.
const STEP: u64 = 256 << 10;

thread_local! {
    /// Reused between batches: fresh memory would cost a page fault for every block.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What copying found out.
#[derive(Default)]
pub(super) struct Copied {
    /// Files that could not be taken, and why.
    pub(super) failed: Vec<(NodeId, InputProblem)>,
    /// Attributes that the scan deferred.
    pub(super) xattrs: Vec<(NodeId, Vec<Xattr>)>,
    /// CRC-32C of contents: symlinks always, regular files when asked for.
    pub(super) sums: Vec<(NodeId, u32)>,
}

impl Copied {
    fn merge(mut self, other: Self) -> Self {
        self.failed.extend(other.failed);
        self.xattrs.extend(other.xattrs);
        self.sums.extend(other.sums);
        self
    }
}

/// Everything that a copying task needs to know.
pub(super) struct Copier<'a> {
    pub(super) scan: &'a Scan,
    pub(super) placement: &'a Placement,
    pub(super) sink: &'a Sink,
    pub(super) progress: &'a Progress,
    /// Attributes of regular files are still to be read.
    pub(super) xattrs: bool,
    /// Contents of regular files get checksums.
    pub(super) checksums: bool,
}

/// A failure of one file, or of the whole build.
enum Failure {
    File(String),
    Build(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Build(error)
    }
}

/// An open file of the source, and where in it the contents begin.
struct Opened<'a> {
    file: Handle<'a>,
    start: u64,
}

enum Handle<'a> {
    Own(OwnedFd),
    Shared(BorrowedFd<'a>),
}

impl Opened<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match &self.file {
            Handle::Own(fd) => fd.as_fd(),
            Handle::Shared(fd) => *fd,
        }
    }
}

/// The directory that a task opens files in: neighbours mostly share it.
#[derive(Default)]
struct Here(Option<(NodeId, OwnedFd)>);

impl Copier<'_> {
    /// Copies everything; the result is in no particular order.
    pub(super) fn run(&self) -> Result<Copied> {
        let small = self.small_batches().into_par_iter().map(|batch| self.copy_batch(&batch));
        let large = self.large_files();
        // Large files first: the small ones then fill the time until the last piece is done.
        let mut copied = self.copy_large(&large)?;
        for batch in small.collect::<Result<Vec<_>>>()? {
            copied = copied.merge(batch);
        }
        Ok(copied)
    }

    /// Symlinks and small files, in runs that lie one after the other.
    fn small_batches(&self) -> Vec<Vec<NodeId>> {
        let mut batches = Vec::new();
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (id, node) in (0..).zip(self.scan.tree.nodes()) {
            // Empty files are opened only for their attributes.
            let look = self.xattrs && node.is_file();
            if node.is_dir() || is_huge(node) || (stored_size(node) == 0 && !look) {
                continue;
            }
            let size = stored_size(node).next_multiple_of(BLOCK_SIZE);
            if bytes + size > BATCH && !batch.is_empty() {
                batches.push(std::mem::take(&mut batch));
                bytes = 0;
            }
            batch.push(id);
            bytes += size;
        }
        batches.push(batch);
        batches
    }

    fn large_files(&self) -> Vec<NodeId> {
        let nodes = (0..).zip(self.scan.tree.nodes());
        nodes.filter(|(_, node)| is_huge(node)).map(|(id, _)| id).collect()
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.progress.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn problem(&self, id: NodeId, reason: String) -> (NodeId, InputProblem) {
        (id, InputProblem { path: self.scan.tree.path(id), reason })
    }

    fn copy_batch(&self, batch: &[NodeId]) -> Result<Copied> {
        self.check_cancelled()?;
        BUFFER.with_borrow_mut(|buffer| self.fill_and_write(batch, buffer))
    }

    fn fill_and_write(&self, batch: &[NodeId], buffer: &mut Vec<u8>) -> Result<Copied> {
        let tree = &self.scan.tree;
        let mut copied = Copied::default();
        let mut here = Here::default();
        let mut start = None;
        let mut len = 0;
        for &id in batch {
            let node = tree.node(id);
            let size = stored_size(node) as usize;
            let at = len;
            len += size.next_multiple_of(BLOCK_SIZE as usize);
            // One byte more, to see whether a file has grown.
            if buffer.len() < len + 1 {
                buffer.resize(len + 1, 0);
            }
            if size > 0 && start.is_none() {
                start = Some(self.placement.data[id as usize]);
            }
            if node.is_file() {
                let room = &mut buffer[at..=at + size];
                match self.read_small(id, room, &mut here) {
                    Ok(Some(set)) => copied.xattrs.push((id, set)),
                    Ok(None) => {}
                    Err(Failure::File(reason)) => copied.failed.push(self.problem(id, reason)),
                    Err(Failure::Build(error)) => return Err(error),
                }
            } else {
                let target = tree.target(node);
                buffer[at..at + target.len()].copy_from_slice(target);
                buffer[at + target.len()] = 0;
            }
            buffer[at + size..len].fill(0);
            if self.checksums || !node.is_file() {
                copied.sums.push((id, crc32c::crc32c(&buffer[at..at + size])));
            }
        }
        if let Some(start) = start {
            self.sink.write(self.placement.base_offset + start, &buffer[..len])?;
        }
        self.progress.advance(batch.len() as u64, len as u64);
        Ok(copied)
    }

    /// Reads a file of `room.len() - 1` bytes, and its attributes where the scan left them.
    fn read_small(
        &self,
        id: NodeId,
        room: &mut [u8],
        here: &mut Here,
    ) -> std::result::Result<Option<Vec<Xattr>>, Failure> {
        let opened = self.open(id, here)?;
        let set = self.read_xattrs(&opened)?;
        let size = room.len() - 1;
        let room = if matches!(opened.file, Handle::Own(_)) { room } else { &mut room[..size] };
        let mut done = 0;
        while done < size {
            match rustix::io::pread(opened.fd(), &mut room[done..], opened.start + done as u64) {
                Ok(0) => return Err(shrank(done as u64, size as u64)),
                Ok(len) => done += len,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(cannot("read", errno)),
            }
        }
        if done > size { Err(grew(size as u64)) } else { Ok(set) }
    }

    fn read_xattrs(&self, opened: &Opened<'_>) -> std::result::Result<Option<Vec<Xattr>>, Failure> {
        if !self.xattrs {
            return Ok(None);
        }
        let set = xattrs_of(opened.fd()).map_err(|failure| Failure::File(failure.reason()))?;
        Ok(Some(set).filter(|set| !set.is_empty()))
    }

    fn open(&self, id: NodeId, here: &mut Here) -> std::result::Result<Opened<'_>, Failure> {
        let tree = &self.scan.tree;
        let node = tree.node(id);
        let root = match &self.scan.origin {
            Origin::Archive(file) => {
                let Content::File(start) = node.content else {
                    unreachable!("only regular files are opened")
                };
                return Ok(Opened { file: Handle::Shared(file.as_fd()), start });
            }
            Origin::Directory(root) => root,
        };
        if here.0.as_ref().is_none_or(|(directory, _)| *directory != node.parent) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = open_beneath(root, &tree.path(node.parent), flags)
                .map_err(|errno| cannot("open its directory", errno))?;
            here.0 = Some((node.parent, directory));
        }
        let (_, directory) = here.0.as_ref().expect("set above");
        // Should a FIFO have taken the file's place, opening it must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = rustix::fs::Mode::empty();
        let file = rustix::fs::openat(directory, tree.first_name(node), flags, mode)
            .map_err(|errno| cannot("open", errno))?;
        Ok(Opened { file: Handle::Own(file), start: 0 })
    }

    fn copy_large(&self, files: &[NodeId]) -> Result<Copied> {
        let pieces: Vec<(NodeId, u64)> = files
            .iter()
            .flat_map(|id| {
                let size = self.scan.tree.node(*id).size;
                (0..size).step_by(PIECE as usize).map(move |offset| (*id, offset))
            })
            .collect();
        let results: Vec<(NodeId, std::result::Result<Piece, Failure>)> =
            pieces.par_iter().map(|(id, offset)| (*id, self.copy_piece(*id, *offset))).collect();
        let mut copied = Copied::default();
        for (id, result) in results {
            match result {
                Ok(piece) => {
                    copied.xattrs.extend(piece.xattrs.map(|set| (id, set)));
                    match copied.sums.last_mut().filter(|(last, _)| *last == id) {
                        Some((_, sum)) => {
                            *sum = crc32c::crc32c_combine(*sum, piece.sum, piece.len as usize);
                        }
                        None if self.checksums => copied.sums.push((id, piece.sum)),
                        None => {}
                    }
                }
                Err(Failure::File(reason)) => {
                    // Each piece of a file that vanished fails alike: say it once.
                    if copied.failed.last().is_none_or(|(last, _)| *last != id) {
                        copied.failed.push(self.problem(id, reason));
                    }
                }
                Err(Failure::Build(error)) => return Err(error),
            }
        }
        Ok(copied)
    }

    fn copy_piece(&self, id: NodeId, offset: u64) -> std::result::Result<Piece, Failure> {
        self.check_cancelled()?;
        let size = self.scan.tree.node(id).size;
        let end = (offset + PIECE).min(size);
        let opened = self.open(id, &mut Here::default())?;
        let mut piece = Piece { len: end - offset, ..Piece::default() };
        if offset == 0 {
            piece.xattrs = self.read_xattrs(&opened)?;
        }
        let target = self.placement.base_offset + self.placement.data[id as usize];
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(buffer.len().max(STEP as usize), 0);
            let mut at = offset;
            while at < end {
                let (data, hole_end) = self.next_data(&opened, at, end);
                if at < data {
                    piece.sum = self.sum_zeroes(piece.sum, data - at);
                    at = data;
                    continue;
                }
                let step = (hole_end - at).min(STEP) as usize;
                match rustix::io::pread(opened.fd(), &mut buffer[..step], opened.start + at) {
                    Ok(0) => return Err(shrank(at, size)),
                    Ok(len) => {
                        self.sink.write_beside(target + at, &buffer[..len])?;
                        if self.checksums {
                            piece.sum = crc32c::crc32c_append(piece.sum, &buffer[..len]);
                        }
                        at += len as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(cannot("read", errno)),
                }
            }
            Ok(())
        })?;
        if end == size && matches!(opened.file, Handle::Own(_)) {
            check_end(&opened, size)?;
        }
        self.progress.advance(u64::from(offset == 0), end - offset);
        Ok(piece)
    }

    /// The next run of data from `at` on: where it begins and ends. Holes are left out where the
    /// source knows them; a source that does not is all data.
    fn next_data(&self, opened: &Opened<'_>, at: u64, end: u64) -> (u64, u64) {
        // Seeking moves a position that others may share, and nobody uses: reads say theirs.
        let (start, limit) = (opened.start, opened.start + end);
        let seek = |from| rustix::fs::seek(opened.fd(), from);
        match seek(SeekFrom::Data(start + at)) {
            Ok(data) if data >= limit => (end, end),
            Ok(data) => {
                let hole = seek(SeekFrom::Hole(data)).map_or(limit, |hole| hole.min(limit));
                (data - start, hole - start)
            }
            // Nothing but a hole up to the end of the file, unless the file has shrunk.
            Err(Errno::NXIO)
                if rustix::fs::fstat(opened.fd())
                    .is_ok_and(|stat| stat.st_size.cast_unsigned() >= limit) =>
            {
                (end, end)
            }
            Err(_) => (at, end),
        }
    }

    fn sum_zeroes(&self, mut sum: u32, mut len: u64) -> u32 {
        static ZEROES: [u8; 65536] = [0; 65536];
        while self.checksums && len > 0 {
            let step = len.min(ZEROES.len() as u64);
            sum = crc32c::crc32c_append(sum, &ZEROES[..step as usize]);
            len -= step;
        }
        sum
    }
}

/// What copying one piece of a large file gave.
#[derive(Default)]
struct Piece {
    len: u64,
    sum: u32,
    xattrs: Option<Vec<Xattr>>,
}

fn check_end(opened: &Opened<'_>, size: u64) -> std::result::Result<(), Failure> {
    match rustix::io::pread(opened.fd(), &mut [0; 1], size) {
        Ok(0) => Ok(()),
        Ok(_) => Err(grew(size)),
        Err(errno) => Err(cannot("read", errno)),
    }
}

fn cannot(action: &str, errno: Errno) -> Failure {
    Failure::File(format!("cannot {action}: {}", crate::error::reason(&errno.into())))
}

fn shrank(found: u64, size: u64) -> Failure {
    Failure::File(format!("shrank from {size} to {found} bytes while it was read"))
}

fn grew(size: u64) -> Failure {
    Failure::File(format!("grew beyond its {size} bytes while it was read"))
}
