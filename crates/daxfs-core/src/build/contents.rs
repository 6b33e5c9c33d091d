// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copying the contents of files into an image, with every processor.

use std::cmp::Ordering;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rayon::prelude::*;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::gather::{BUFFER, Gathered};
use super::sink::Sink;
use crate::base::Inode;
use crate::error::{Error, InputProblem, Result};
use crate::format::BLOCK_SIZE;
use crate::layout::{Placement, is_huge, stored_size};
use crate::progress::Progress;
use crate::source::{Content, Node, NodeId, Origin, Scan, Tree, open_beneath};
use crate::view::View;

/// Small files are gathered into writes of about this size.
const BATCH: u64 = 256 << 10;
/// Files that one task only opens.
const LOOKS: usize = 512;

/// What copying found out.
#[derive(Default)]
pub(super) struct Copied {
    /// Files that could not be taken, and why.
    pub(super) failed: Vec<(NodeId, InputProblem)>,
    /// CRC-32C of contents: symlinks always, regular files when asked for.
    pub(super) sums: Vec<(NodeId, u32)>,
}

impl Copied {
    fn merge(mut self, other: Self) -> Self {
        self.failed.extend(other.failed);
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
    /// Of each node, whether its contents are in the image already.
    pub(super) stored: &'a [bool],
    /// Contents of regular files get checksums.
    pub(super) checksums: bool,
}

/// A failure of one file, or of the whole build.
pub(super) enum Failure {
    File(String),
    Build(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Build(error)
    }
}

/// An open file of the source.
pub(super) enum Opened<'a> {
    /// A file of its own.
    File(OwnedFd),
    /// A part of an archive, and where in it the contents begin.
    Part(BorrowedFd<'a>, u64),
    /// A file of another image.
    Image(&'a View, Inode),
}

impl Opened<'_> {
    /// Whether it is a file of its own, which may have changed since it was scanned.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The descriptor that the contents can be read from, and where they begin there.
    pub(super) fn place(&self) -> Option<(BorrowedFd<'_>, u64)> {
        match self {
            Self::File(fd) => Some((fd.as_fd(), 0)),
            Self::Part(fd, start) => Some((*fd, *start)),
            Self::Image(..) => None,
        }
    }

    /// Reads from an offset of the file on; 0 bytes at its end.
    pub(super) fn read(
        &self,
        offset: u64,
        bytes: &mut [u8],
    ) -> std::result::Result<usize, Failure> {
        let (fd, start) = match self {
            Self::Image(view, inode) => return Ok(view.read(inode, offset, bytes)?),
            Self::File(fd) => (fd.as_fd(), 0),
            Self::Part(fd, start) => (*fd, *start),
        };
        loop {
            match rustix::io::pread(fd, &mut *bytes, start + offset) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(cannot("read", errno)),
                Ok(len) => return Ok(len),
            }
        }
    }

    /// Reads the whole of a small file, of a byte less than there is room; gives its checksum if
    /// that is wanted.
    pub(super) fn read_whole(
        &self,
        room: &mut [u8],
        checksum: bool,
    ) -> std::result::Result<Option<u32>, Failure> {
        let size = room.len() - 1;
        // Whether a file has grown is seen by asking for more.
        let room = if self.is_own() { room } else { &mut room[..size] };
        let mut done = 0;
        while done < size {
            match self.read(done as u64, &mut room[done..])? {
                0 => return Err(shrank(done as u64, size as u64)),
                len => done += len,
            }
        }
        if done > size {
            return Err(grew(size as u64));
        }
        Ok(checksum.then(|| crc32c::crc32c(&room[..size])))
    }
}

/// The directory that a task opens files in: neighbours mostly share it.
#[derive(Default)]
pub(super) struct Here(Option<(NodeId, OwnedFd)>);

impl Copier<'_> {
    /// Copies everything; the result is in no particular order.
    pub(super) fn run(&self) -> Result<Copied> {
        // Side by side, so that reading small files fills the time that large ones wait to write.
        let (large, small) = rayon::join(
            || self.copy_large(),
            || {
                let batches = self.small_batches();
                batches.par_iter().map(|batch| self.copy_batch(batch)).collect::<Result<Vec<_>>>()
            },
        );
        let mut copied = large?;
        for batch in small? {
            copied = copied.merge(batch);
        }
        Ok(copied)
    }

    /// Symlinks and small files, in runs that lie one after the other.
    fn small_batches(&self) -> Vec<Vec<NodeId>> {
        let mut batches: Vec<Vec<NodeId>> = Vec::new();
        // Of the last batch: where the next of its contents would lie, and how far it may reach.
        let (mut end, mut most) = (0, 0);
        for (id, node) in (0..).zip(self.scan.tree.nodes()) {
            let size = stored_size(node).next_multiple_of(BLOCK_SIZE);
            if node.is_dir() || is_huge(node) || size == 0 || self.is_stored(id) {
                continue;
            }
            let start = self.placement.data[id as usize];
            if start != end || start + size > most {
                batches.push(Vec::new());
                most = start + BATCH;
            }
            batches.last_mut().expect("pushed above").push(id);
            end = start + size;
        }
        batches
    }

    fn is_stored(&self, id: NodeId) -> bool {
        self.stored.get(id as usize).is_some_and(|stored| *stored)
    }

    pub(super) fn problem(&self, id: NodeId, reason: String) -> (NodeId, InputProblem) {
        (id, InputProblem { path: self.scan.tree.path(id), reason })
    }

    fn copy_batch(&self, batch: &[NodeId]) -> Result<Copied> {
        self.progress.check()?;
        BUFFER.with_borrow_mut(|buffer| self.gather_and_write(batch, Gathered::new(buffer)))
    }

    fn gather_and_write(&self, batch: &[NodeId], mut gathered: Gathered<'_>) -> Result<Copied> {
        let tree = &self.scan.tree;
        let mut copied = Copied::default();
        let mut here = Here::default();
        for &id in batch {
            let node = tree.node(id);
            let sum = if node.is_file() {
                open(self.scan, id, &mut here).and_then(|opened| {
                    gathered.add(node.size, |room| opened.read_whole(room, self.checksums))
                })
            } else {
                Ok(Some(gather_target(tree, node, &mut gathered)))
            };
            match sum {
                Ok(sum) => copied.sums.extend(sum.map(|sum| (id, sum))),
                Err(Failure::File(reason)) => copied.failed.push(self.problem(id, reason)),
                Err(Failure::Build(error)) => return Err(error),
            }
        }
        // With a file missing everything will be copied again.
        if copied.failed.is_empty() {
            let start = self.placement.data[batch[0] as usize];
            self.sink.write(self.placement.base_offset + start, gathered.bytes())?;
        }
        self.progress.advance(batch.len() as u64, gathered.bytes().len() as u64);
        Ok(copied)
    }
}

/// Adds a symlink's target; gives its checksum.
pub(super) fn gather_target(tree: &Tree, node: &Node, gathered: &mut Gathered<'_>) -> u32 {
    gathered.add(stored_size(node), |room| {
        let target = tree.target(node);
        room[..target.len()].copy_from_slice(target);
        room[target.len()] = 0;
        crc32c::crc32c(&room[..=target.len()])
    })
}

/// Opens a regular file of the source.
pub(super) fn open<'a>(
    scan: &'a Scan,
    id: NodeId,
    here: &mut Here,
) -> std::result::Result<Opened<'a>, Failure> {
    let tree = &scan.tree;
    let node = tree.node(id);
    let Content::File(position) = node.content else {
        unreachable!("only regular files are opened")
    };
    let root = match &scan.origin {
        Origin::Archive(file) => return Ok(Opened::Part(file.as_fd(), position)),
        Origin::Image(view) => return Ok(Opened::Image(view, view.inode(position)?)),
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
    Ok(Opened::File(file))
}

/// The files that cannot be opened, and why, in order of their numbers.
pub(super) fn closed(scan: &Scan, progress: &Progress) -> Result<Vec<(NodeId, InputProblem)>> {
    if !matches!(scan.origin, Origin::Directory(_)) {
        return Ok(Vec::new());
    }
    let ids: Vec<NodeId> = (0..scan.tree.nodes().len() as NodeId).collect();
    let batches = ids.par_chunks(LOOKS).map(|batch| {
        let mut here = Here::default();
        let mut closed = Vec::new();
        for &id in batch.iter().filter(|id| scan.tree.node(**id).is_file()) {
            progress.check()?;
            match open(scan, id, &mut here) {
                Ok(_) => {}
                Err(Failure::File(reason)) => {
                    closed.push((id, InputProblem { path: scan.tree.path(id), reason }));
                }
                Err(Failure::Build(error)) => return Err(error),
            }
        }
        Ok(closed)
    });
    Ok(batches.collect::<Result<Vec<_>>>()?.concat())
}

/// Checks that a file is as large as it was: what it has lost would pass for a hole.
pub(super) fn check_size(file: &OwnedFd, size: u64) -> std::result::Result<(), Failure> {
    let stat = rustix::fs::fstat(file).map_err(|errno| cannot("examine", errno))?;
    let found = stat.st_size.cast_unsigned();
    match found.cmp(&size) {
        Ordering::Less => Err(shrank(found, size)),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(grew(size)),
    }
}

pub(super) fn cannot(action: &str, errno: Errno) -> Failure {
    Failure::File(format!("cannot {action}: {}", crate::error::reason(&errno.into())))
}

pub(super) fn shrank(found: u64, size: u64) -> Failure {
    Failure::File(format!("shrank from {size} to {found} bytes while it was read"))
}

fn grew(size: u64) -> Failure {
    Failure::File(format!("grew beyond its {size} bytes while it was read"))
}
