// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The directory that a server has mounted on. Its mount may have been moved or taken away since, and
//! somebody else's be there: that one is left alone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use daxfs_core::error::{Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};

use crate::mount::detach;
use crate::mountinfo::{self, Device};

/// A directory with a mount of ours.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    device: Device,
}

impl Place {
    /// What was mounted on `path` just now.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let device = device(CWD, path).map_err(Error::io("mount on", path))?;
        Ok(Self { path: path.into(), device })
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has the kernel read ahead as far as `bytes`, if that may be asked of it: root may.
    ///
    /// By itself it goes 128 KiB at a time, whatever is agreed on when the connection is made.
    pub(crate) fn read_ahead(&self, bytes: u32) -> rustix::io::Result<()> {
        let (major, minor) = self.device;
        let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        let file = rustix::fs::open(setting, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, (bytes >> 10).to_string().as_bytes())?;
        Ok(())
    }

    /// The mount's root, if it can be reached.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.now()?, flags, Mode::empty()).ok()?;
        (device(&root, Path::new("")) == Ok(self.device)).then_some(root)
    }

    /// Where something is mounted below, as far as that can be seen: in other namespaces there may be
    /// more.
    pub(crate) fn below(&self) -> Vec<PathBuf> {
        mountinfo::below(self.device)
    }

    /// Takes the mount away, if it is still there: its name now, the rest once nobody uses it.
    pub(crate) fn detach(&self) -> Result<()> {
        self.now().map_or(Ok(()), |path| detach(&path, true))
    }

    /// Where the mount is now, if that can be seen.
    fn now(&self) -> Option<PathBuf> {
        let is_there = |path: &PathBuf| device(CWD, path) == Ok(self.device);
        Some(self.path.clone())
            .filter(is_there)
            .or_else(|| mountinfo::points(self.device).into_iter().find(is_there))
    }
}

/// The file system that a path or, if that is empty, a descriptor is of.
fn device(fd: impl AsFd, path: &Path) -> rustix::io::Result<Device> {
    // What the kernel knows by itself; the server may not answer.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let found = rustix::fs::statx(fd, path, flags, StatxFlags::empty())?;
    Ok((found.stx_dev_major, found.stx_dev_minor))
}
