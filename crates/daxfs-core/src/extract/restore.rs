// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Owner, extended attributes, permissions and times of a file just made.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::Extraction;
use crate::base::Inode;
use crate::error::{Error, Result};
use crate::xattr::{ACL_ACCESS, ACL_DEFAULT};

/// Set-user-ID and set-group-ID.
const SET_ID: u32 = 0o6000;
/// Access control lists, which a new file inherits from its directory.
const LISTS: [&CStr; 2] = [ACL_ACCESS, ACL_DEFAULT];

impl Extraction<'_> {
    /// Gives an open file what its inode says.
    ///
    /// The order matters: a change of owner clears capabilities and set-ID bits, and a write-
    /// protected file takes no attributes from its owner.
    pub(super) fn restore(&self, file: BorrowedFd<'_>, inode: &Inode, path: &Path) -> Result<()> {
        let mut permissions = inode.mode & 0o7777;
        let mut complete = true;
        let owned = self.restore_owner(file, inode, path)?;
        // Never set-ID for somebody else; and what may be a stranger's only root makes set-ID, as tar.
        if permissions & SET_ID != 0 && !(owned && rustix::process::geteuid().is_root()) {
            permissions &= !SET_ID;
            complete = false;
        }
        complete &= owned;
        // A handle on a link or special file can only be named, not used.
        let usable = inode.is_file() || inode.is_dir();
        let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
        // Links have no lists, and files but directories no default one.
        let lists = if inode.is_symlink() { 0 } else { 1 + usize::from(inode.is_dir()) };
        for list in &LISTS[..lists] {
            let done = if usable {
                rustix::fs::fremovexattr(file, *list)
            } else {
                rustix::fs::removexattr(&handle, *list)
            };
            if !matches!(done, Err(Errno::NODATA | Errno::OPNOTSUPP)) {
                complete &= restored(done, "take an inherited access control list from", path)?;
            }
        }
        for (name, value) in self.view.xattrs(inode)? {
            let done = if usable {
                rustix::fs::fsetxattr(file, &name[..], &value, XattrFlags::empty())
            } else {
                rustix::fs::setxattr(&handle, &name[..], &value, XattrFlags::empty())
            };
            // To some file systems a large one is too much for one file.
            let large = match done {
                Err(Errno::NOSPC) => !is_full(file, value.len()),
                done => done == Err(Errno::TOOBIG),
            };
            complete &= !large && restored(done, "set an extended attribute of", path)?;
        }
        if !inode.is_symlink() {
            let mode = Mode::from_raw_mode(permissions);
            if usable { rustix::fs::fchmod(file, mode) } else { rustix::fs::chmod(&handle, mode) }
                .map_err(Error::io("set the permissions of", path))?;
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: inode.mtime.div_euclid(1_000_000_000),
                tv_nsec: inode.mtime.rem_euclid(1_000_000_000),
            },
        };
        rustix::fs::utimensat(file, c"", &times, AtFlags::EMPTY_PATH)
            .map_err(Error::io("set the times of", path))?;
        if !complete {
            self.unrestored.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn restore_owner(&self, file: BorrowedFd<'_>, inode: &Inode, path: &Path) -> Result<bool> {
        // To the system all ones mean "leave it": no file can have that owner.
        let known = |id: u32| (id != u32::MAX).then_some(id);
        let (uid, gid) = (known(inode.uid), known(inode.gid));
        let stat = rustix::fs::fstat(file).map_err(Error::io("examine", path))?;
        if (Some(stat.st_uid), Some(stat.st_gid)) == (uid, gid) {
            return Ok(true);
        }
        let ids = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        let done = rustix::fs::chownat(file, c"", ids.0, ids.1, AtFlags::EMPTY_PATH);
        Ok(restored(done, "set the owner of", path)? && uid.is_some() && gid.is_some())
    }
}

/// Whether the file system that a file is in has no room for so many bytes and what tells of them.
fn is_full(file: BorrowedFd<'_>, bytes: usize) -> bool {
    rustix::fs::fstatvfs(file).is_ok_and(|room| {
        // Some are kept even from root.
        room.f_bavail <= (bytes as u64).div_ceil(room.f_frsize.max(1))
    })
}

/// False if what was tried is not for this caller, whatever its name, or not on this file system:
/// no reason to do without the rest of the tree.
fn restored(done: rustix::io::Result<()>, action: &'static str, path: &Path) -> Result<bool> {
    match done {
        Ok(()) => Ok(true),
        // Owners that a user namespace does not know are invalid.
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(Error::io(action, path)(errno)),
    }
}
