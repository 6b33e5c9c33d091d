// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Locks on bytes of the file behind a region: the kernel drops them when their holder dies, so
//! a free one proves a death.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::OFlags;

use super::Region;

/// An open file description of its own, and the locks it holds.
#[derive(Debug)]
pub struct LockFile(OwnedFd);

impl Region {
    /// The file behind a writable region, opened anew: locks belong to the open file description.
    /// `None` where the backing has no locks, or some that not everybody sees who maps its pages.
    pub fn lock_file(&self) -> Option<LockFile> {
        let file = self.writable.then(|| self.reopen(OFlags::RDWR)).flatten()?;
        (!locks_apart(&file)).then_some(LockFile(file))
    }
}

/// Whether a file may share its pages with another that has locks of its own: on an overlayfs with
/// the file that it shows, and on FUSE, which virtiofs is, with that of the server, on another
/// machine perhaps.
fn locks_apart(file: impl AsFd) -> bool {
    const FUSE_MAGIC: i128 = 0x6573_5546;
    const OVERLAYFS_MAGIC: i128 = 0x794c_7630;
    let magic = rustix::fs::fstatfs(file).map(|fs| i128::from(fs.f_type));
    magic.is_ok_and(|magic| [FUSE_MAGIC, OVERLAYFS_MAGIC].contains(&magic))
}

impl LockFile {
    /// Locks a range to write unless somebody else has it; tells whether it is ours now.
    pub fn try_lock(&self, offset: u64, len: u64) -> bool {
        self.control(libc::F_OFD_SETLK, libc::F_WRLCK, offset, len).is_some()
    }

    /// Gives a range up.
    pub fn unlock(&self, offset: u64, len: u64) {
        self.control(libc::F_OFD_SETLK, libc::F_UNLCK, offset, len);
    }

    /// Whether nobody else has the range to write; `None` when the file system cannot say.
    ///
    /// Locks for reading, which anybody can take who may read the file, say nothing.
    pub fn is_free(&self, offset: u64, len: u64) -> Option<bool> {
        let found = self.control(libc::F_OFD_GETLK, libc::F_RDLCK, offset, len)?;
        Some(i32::from(found) == libc::F_UNLCK)
    }

    fn control(&self, command: i32, kind: i32, offset: u64, len: u64) -> Option<libc::c_short> {
        // SAFETY: `flock` is plain data.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = offset.try_into().ok()?;
        lock.l_len = len.try_into().ok()?;
        // SAFETY: the descriptor is open, and the command takes a pointer to a `flock`.
        let done = unsafe { libc::fcntl(self.0.as_raw_fd(), command, &raw mut lock) };
        (done == 0).then_some(lock.l_type)
    }
}
