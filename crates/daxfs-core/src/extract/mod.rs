// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trees taken out of an image: into a directory, or as a tar archive.
//!
//! An image may be hostile. Names are checked again before they are used, and nothing is written
//! through a symbolic link: every directory is opened below the destination by a look-up that
//! refuses links, and every file is made by its last name alone, where nothing was before.

mod archive;
mod content;
mod directories;
mod restore;

use std::collections::HashSet;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use archive::{TarSummary, to_tar};

use crate::base::Inode;
use crate::error::{Error, Result, show_path};
use crate::format::{device, mode};
use crate::names::Names;
use crate::progress::Progress;
use crate::source::open_beneath;
use crate::view::View;

use directories::{Directories, Directory};

/// Entries that one task makes; small enough to share a large directory among processors.
const BATCH: usize = 256;

/// How to extract.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtractOptions {
    /// Extract into a directory that is not empty, and replace the files there.
    pub force: bool,
}

/// What was extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractSummary {
    /// Names made, but for directories.
    pub files: u64,
    /// Directories made or found.
    pub directories: u64,
    /// Bytes of regular files, holes included.
    pub bytes: u64,
    /// Files that miss what the caller may not restore, or the file system does not hold: device
    /// nodes, owners, set-ID bits, attributes.
    pub unrestored: u64,
}

/// Extracts `top` and what is below it.
///
/// A directory is extracted into `destination`, which is made if need be and then looks like it;
/// any other file becomes `destination` itself.
pub fn to_directory(
    view: &View,
    top: &Inode,
    destination: &Path,
    options: ExtractOptions,
    progress: &Progress,
) -> Result<ExtractSummary> {
    let mut extraction = Extraction {
        view,
        names: Names::new(view),
        destination,
        options,
        progress,
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        unrestored: AtomicU64::new(0),
    };
    let directories = if top.is_dir() {
        extraction.tree(top)?
    } else {
        extraction.single(top)?;
        0
    };
    Ok(ExtractSummary {
        files: *extraction.files.get_mut(),
        directories,
        bytes: *extraction.bytes.get_mut(),
        unrestored: *extraction.unrestored.get_mut(),
    })
}

/// One extraction at work.
struct Extraction<'a> {
    view: &'a View,
    names: Names<'a>,
    destination: &'a Path,
    options: ExtractOptions,
    progress: &'a Progress,
    files: AtomicU64,
    bytes: AtomicU64,
    unrestored: AtomicU64,
}

/// A name of a file that has several.
struct Linked {
    inode: Inode,
    directory: usize,
    name: Vec<u8>,
}

/// What filling a directory leaves to be done.
#[derive(Default)]
struct Rest {
    directories: Vec<Directory>,
    linked: Vec<Linked>,
}

impl Extraction<'_> {
    /// Level by level: directories first, then their files; times and modes of directories last,
    /// from below, because making files changes the one and may be forbidden by the other.
    fn tree(&self, top: &Inode) -> Result<u64> {
        let root = self.open_destination()?;
        let mut directories = Directories::new(*top);
        let mut seen = HashSet::from([top.ino]);
        let mut linked = Vec::new();
        let mut levels: Vec<Range<usize>> = Vec::new();
        let mut level = 0..1;
        while !level.is_empty() {
            let rests = level
                .clone()
                .into_par_iter()
                .map(|number| self.fill(&root, &directories, number))
                .collect::<Result<Vec<Rest>>>()?;
            for rest in rests {
                for directory in rest.directories {
                    let ino = directory.inode.ino;
                    let number = directories.add(directory);
                    if !seen.insert(ino) {
                        let path = directories.path(number);
                        return Err(Error::corrupt(
                            "directory",
                            self.view.image().base().inode_offset(ino),
                            "one name",
                            format_args!("a second one, {}", crate::error::show(&path)),
                        ));
                    }
                }
                linked.extend(rest.linked);
            }
            let next = level.end..directories.len();
            levels.push(std::mem::replace(&mut level, next));
        }
        self.link(&root, &directories, linked)?;
        for level in levels.into_iter().rev() {
            level.into_par_iter().try_for_each(|number| {
                let path = directories.path(number);
                let fd = self.open_directory(&root, &path)?;
                self.restore(fd.as_fd(), directories.inode(number), &self.path(&path, b""))
            })?;
        }
        Ok(directories.len() as u64)
    }

    /// Makes the one file that was asked for.
    fn single(&self, inode: &Inode) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let Some(name) = self.destination.file_name() else {
            return Err(Error::IsDirectory {
                path: self.destination.as_os_str().as_bytes().to_vec(),
            });
        };
        let parent = match self.destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty())
            .map_err(Error::io("open the directory", parent))?;
        match self.create(directory.as_fd(), name.as_bytes(), inode, self.destination) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::Exists { path: self.destination.to_owned() })
            }
            done => done.map(drop),
        }
    }

    fn open_destination(&self) -> Result<OwnedFd> {
        let path = self.destination;
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::io("create the directory", path)(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(Error::io("open the directory", path))?;
        let names = crate::source::Names::of(&root).map_err(Error::io("read", path))?;
        if names.is_empty() || self.options.force {
            Ok(root)
        } else {
            Err(Error::Exists { path: path.to_owned() })
        }
    }

    /// Opens a directory below the destination without following a link anywhere on the way.
    fn open_directory(&self, root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open_beneath(root, path, flags)
            .map_err(|errno| Error::io("open the directory", self.path(path, b""))(errno))
    }

    /// Makes what a directory names, except for more names of one file.
    fn fill(&self, root: &OwnedFd, directories: &Directories, number: usize) -> Result<Rest> {
        let above = directories.path(number);
        let here = self.open_directory(root, &above)?;
        let entries = self.names.of(directories.inode(number))?;
        let rests = entries
            .par_chunks(BATCH)
            .map(|batch| {
                let mut rest = Rest::default();
                for entry in batch {
                    self.progress.check()?;
                    let inode = self.view.inode(entry.ino)?;
                    let path = self.path(&above, &entry.name);
                    if inode.is_dir() {
                        self.make_directory(here.as_fd(), &entry.name, &path)?;
                        let name = entry.name.clone();
                        rest.directories.push(Directory::new(number, name, inode));
                    } else if inode.nlink > 1 {
                        let name = entry.name.clone();
                        rest.linked.push(Linked { inode, directory: number, name });
                    } else {
                        self.create(here.as_fd(), &entry.name, &inode, &path)?;
                    }
                }
                Ok(rest)
            })
            .collect::<Result<Vec<Rest>>>()?;
        let mut whole = Rest::default();
        for rest in rests {
            whole.directories.extend(rest.directories);
            whole.linked.extend(rest.linked);
        }
        Ok(whole)
    }

    /// Makes files that have several names: each once, then its other names.
    fn link(&self, root: &OwnedFd, directories: &Directories, mut all: Vec<Linked>) -> Result<()> {
        all.sort_unstable_by(|a, b| {
            let key = |linked: &Linked| (linked.inode.ino, linked.directory);
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        all.par_chunk_by(|a, b| a.inode.ino == b.inode.ino).try_for_each(|names| {
            let (first, others) = names.split_first().expect("groups are not empty");
            let directory = directories.path(first.directory);
            let first_in = self.open_directory(root, &directory)?;
            let path = self.path(&directory, &first.name);
            if !self.create(first_in.as_fd(), &first.name, &first.inode, &path)? {
                return Ok(());
            }
            for other in others {
                let directory = directories.path(other.directory);
                let other_in = self.open_directory(root, &directory)?;
                let path = self.path(&directory, &other.name);
                self.place(other_in.as_fd(), &other.name, &path, || {
                    let flags = AtFlags::empty();
                    rustix::fs::linkat(
                        &first_in,
                        &first.name[..],
                        &other_in,
                        &other.name[..],
                        flags,
                    )
                })?;
                self.files.fetch_add(1, Ordering::Relaxed);
                self.progress.advance(1, 0);
            }
            Ok(())
        })
    }

    fn make_directory(&self, here: BorrowedFd<'_>, name: &[u8], path: &Path) -> Result<()> {
        let make = || rustix::fs::mkdirat(here, name, Mode::RWXU);
        if self.options.force
            && let Ok(stat) = rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW)
            && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        {
            return Ok(());
        }
        self.place(here, name, path, make)
    }

    /// Makes any file but a directory; false if the caller may not.
    fn create(
        &self,
        here: BorrowedFd<'_>,
        name: &[u8],
        inode: &Inode,
        path: &Path,
    ) -> Result<bool> {
        let file = match inode.kind() {
            mode::REGULAR => {
                let file = self.place(here, name, path, || {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    rustix::fs::openat(here, name, flags, Mode::RUSR | Mode::WUSR)
                })?;
                content::copy(self.view, inode, file.as_fd(), path, self.progress)?;
                self.bytes.fetch_add(inode.size, Ordering::Relaxed);
                file
            }
            mode::SYMLINK => {
                let target = self.view.readlink(inode)?;
                self.place(here, name, path, || rustix::fs::symlinkat(&target[..], here, name))?;
                self.open_node(here, name, path)?
            }
            kind @ (mode::CHAR | mode::BLOCK | mode::FIFO | mode::SOCKET) => {
                let (major, minor) = device::numbers(inode.rdev);
                let device = rustix::fs::makedev(major, minor);
                let made = self.place(here, name, path, || {
                    let kind = FileType::from_raw_mode(kind);
                    rustix::fs::mknodat(here, name, kind, Mode::RUSR | Mode::WUSR, device)
                });
                match made {
                    Ok(()) => {}
                    // Not for everybody, not even for every root.
                    Err(error) if error.errno() == Errno::PERM.raw_os_error() => {
                        self.unrestored.fetch_add(1, Ordering::Relaxed);
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
                self.open_node(here, name, path)?
            }
            other => {
                let at = self.view.image().base().inode_offset(inode.ino);
                let found = format!("{other:#o} ({})", show_path(path));
                return Err(Error::corrupt("type of a file", at, "one of POSIX's", found));
            }
        };
        self.restore(file.as_fd(), inode, path)?;
        self.files.fetch_add(1, Ordering::Relaxed);
        self.progress.advance(1, 0);
        Ok(true)
    }

    /// A handle on a file that opening would follow, wait for or set off.
    fn open_node(&self, here: BorrowedFd<'_>, name: &[u8], path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(here, name, flags, Mode::empty()).map_err(Error::io("open", path))
    }

    /// Makes a name where none is; with `force`, one that is there goes first.
    fn place<T>(
        &self,
        here: BorrowedFd<'_>,
        name: &[u8],
        path: &Path,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        match make() {
            Err(Errno::EXIST) if self.options.force => {
                match rustix::fs::unlinkat(here, name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => rustix::fs::unlinkat(here, name, AtFlags::REMOVEDIR),
                    done => done,
                }
                .map_err(Error::io("replace", path))?;
                make()
            }
            made => made,
        }
        .map_err(Error::io("create", path))
    }

    /// A path for messages.
    fn path(&self, directory: &[u8], name: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let mut path = self.destination.to_owned();
        for part in [directory, name] {
            if !part.is_empty() {
                path.push(std::ffi::OsStr::from_bytes(part));
            }
        }
        path
    }
}
