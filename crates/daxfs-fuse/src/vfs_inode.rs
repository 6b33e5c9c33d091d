// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names and attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daxfs_core::base::Inode;
use daxfs_core::branch::handle::Branch;
use daxfs_core::error::Error;
use daxfs_core::format::{BLOCK_SIZE, NAME_MAX, ROOT_INO, mode};
use daxfs_core::view::View;
use daxfs_core::write::{NewInode, Rename, SetAttr, XattrMode};
use fuser::{Errno, FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};

use crate::acl::{self, Acl};
use crate::caller::{CAP_FSETID, has_capability, has_group, is_root};
use crate::tree::{CONTROL, Node, Tree};
use crate::vfs_control::{CONTROL_NAME, LINK, LINK_TARGET};
use crate::vfs_super::{Answer, Mounted, errno, stale};

/// An attribute that gives a program privileges, and that goes with them.
const CAPABILITY: &[u8] = b"security.capability";

/// Attributes, and how long they hold.
pub(crate) type Lasting = (FileAttr, Duration);

/// Attributes that the kernel asks to have changed.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<TimeOrNow>,
    pub(crate) mtime: Option<TimeOrNow>,
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct New {
    pub(crate) mode: u32,
    /// Permissions that the caller does not want given, unless the directory says which to give.
    pub(crate) umask: u32,
    pub(crate) rdev: u32,
}

impl Mounted {
    /// What `name` in a directory stands for; node number 0 stands for nothing.
    pub(crate) fn look_up(&self, parent: Node, name: &OsStr) -> Answer<Lasting> {
        let name = name.as_bytes();
        check_name(name)?;
        if parent.tag == CONTROL {
            return self.look_up_branch(name);
        }
        // The kernel asks for these two only to find its way back to what it has forgotten.
        match name {
            b"." => return self.come_back(parent),
            b".." => return self.attributes(self.parent(parent)),
            _ if self.is_control(parent, name) => {
                let directory = Node::root(CONTROL);
                return Ok((self.control_attributes(directory)?, Duration::ZERO));
            }
            _ => {}
        }
        let tree = self.tree(parent)?;
        let ttl = self.ttl(&tree);
        let view = tree.view().map_err(errno)?;
        let directory = view.remaining_inode(parent.ino).map_err(errno)?;
        match view.lookup(&directory, name).map_err(errno)? {
            Some(inode) => self.entry(&tree, &view, parent, &inode, ttl),
            // The root may become another tree's, which nobody could tell of a name unknown.
            None if parent.ino == ROOT_INO && !self.immutable => Err(Errno::ENOENT),
            None => Ok((NOTHING, ttl)),
        }
    }

    /// What the kernel has forgotten and has the number of, as from a file handle. Were a file
    /// without names still open, it would not have been forgotten.
    fn come_back(&self, node: Node) -> Answer<Lasting> {
        let (attr, ttl) = self.attributes(node)?;
        if attr.nlink == 0 {
            return Err(Errno::ESTALE);
        }
        Ok((attr, ttl))
    }

    pub(crate) fn is_mounted_root(&self, node: Node) -> bool {
        node == self.node(INodeNo::ROOT)
    }

    /// Whether a name is the control directory's, which hides what the tree itself has there.
    pub(crate) fn is_control(&self, parent: Node, name: &[u8]) -> bool {
        self.control && name == CONTROL_NAME && self.is_mounted_root(parent)
    }

    /// Checks a name that is to stand for something.
    fn check_new(&self, parent: Node, name: &[u8]) -> Answer<()> {
        check_name(name)?;
        if self.is_control(parent, name) { Err(Errno::EEXIST) } else { Ok(()) }
    }

    /// Checks a name that is to go.
    fn check_old(&self, parent: Node, name: &[u8]) -> Answer<()> {
        check_name(name)?;
        if self.is_control(parent, name) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// The attributes of an inode that a name in `parent` leads to, and how long they hold.
    pub(crate) fn entry(
        &self,
        tree: &Arc<Tree>,
        view: &View,
        parent: Node,
        inode: &Inode,
        ttl: Duration,
    ) -> Answer<Lasting> {
        let node = Node { tag: parent.tag, ino: inode.ino };
        if !node.has_number() {
            return Err(Errno::EOVERFLOW);
        }
        if inode.is_dir() {
            self.remember_parent(node, parent);
        }
        tree.note(inode.ino);
        Ok((attr(self.number(node), view, inode)?, ttl))
    }

    /// The attributes of a node.
    pub(crate) fn attributes(&self, node: Node) -> Answer<Lasting> {
        if node.tag == CONTROL {
            return Ok((self.control_attributes(node)?, Duration::ZERO));
        }
        let tree = self.tree(node)?;
        let ttl = self.ttl(&tree);
        let view = match tree.view() {
            // The way to what can be shown instead must stay open.
            Err(Error::Stale { .. }) if self.is_mounted_root(node) => {
                View::base(Arc::clone(&self.image))
            }
            view => view.map_err(errno)?,
        };
        let inode = view.remaining_inode(node.ino).map_err(stale)?;
        tree.note(node.ino);
        Ok((attr(self.number(node), &view, &inode)?, ttl))
    }

    /// The control directory, like the root and nobody's to change, or the link in it.
    pub(crate) fn control_attributes(&self, node: Node) -> Answer<FileAttr> {
        let tree = self.mounted_tree()?;
        let view = tree.view().map_err(errno)?;
        let root = view.inode(ROOT_INO).map_err(errno)?;
        let inode = if node == LINK {
            let size = LINK_TARGET.len() as u64;
            Inode { mode: mode::SYMLINK | 0o777, nlink: 1, size, ..root }
        } else {
            Inode { mode: mode::DIRECTORY | root.mode & 0o555, nlink: 2, size: 0, ..root }
        };
        attr(self.number(node), &view, &inode)
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, node: Node) -> Answer<Vec<u8>> {
        if node == LINK {
            return Ok(LINK_TARGET.into());
        }
        let view = self.tree(node)?.view().map_err(errno)?;
        let inode = view.remaining_inode(node.ino).map_err(errno)?;
        view.readlink(&inode).map_err(errno)
    }

    /// Makes a file, directory, device, FIFO or socket.
    pub(crate) fn make(
        &self,
        request: &Request,
        parent: Node,
        name: &OsStr,
        New { mode, umask, rdev }: New,
    ) -> Answer<Lasting> {
        let name = name.as_bytes();
        self.check_new(parent, name)?;
        let branch = self.writer(parent)?;
        let view = branch.view().map_err(errno)?;
        let directory = view.remaining_inode(parent.ino).map_err(errno)?;
        let xattrs = view.xattrs(&directory).map_err(errno)?;
        drop(view);
        let default = acl::find(&xattrs, acl::DEFAULT);
        let mut list = default.and_then(Acl::parse);
        let mode = list.as_mut().map_or(mode & !umask, |list| list.inherit(mode));
        let new = NewInode::made_in(&directory, mode, request.uid(), request.gid(), rdev);
        let access = list.filter(|list| !list.is_a_mode()).map(|list| list.value());
        let default = default.filter(|_| mode & mode::TYPE == mode::DIRECTORY);
        let lists = [(acl::ACCESS, access), (acl::DEFAULT, default.map(Vec::from))];
        let lists = lists.into_iter().filter_map(|(name, value)| Some((name.to_vec(), value?)));
        // In one piece: without its list, the mask of a file would be its group's permissions.
        let made = branch.mknod_with(parent.ino, name, &new, &lists.collect::<Vec<_>>());
        let inode = made.map_err(errno)?;
        self.made(&branch, parent, &inode)
    }

    /// Makes a symbolic link.
    pub(crate) fn make_symlink(
        &self,
        request: &Request,
        parent: Node,
        name: &OsStr,
        target: &[u8],
    ) -> Answer<Lasting> {
        let name = name.as_bytes();
        self.check_new(parent, name)?;
        let branch = self.writer(parent)?;
        let view = branch.view().map_err(errno)?;
        let directory = view.remaining_inode(parent.ino).map_err(errno)?;
        let (uid, gid) = (request.uid(), request.gid());
        let new = NewInode::made_in(&directory, mode::SYMLINK, uid, gid, 0);
        drop(view);
        let made = branch.symlink(parent.ino, name, target, new.uid, new.gid);
        self.made(&branch, parent, &made.map_err(errno)?)
    }

    /// Gives a file one more name.
    pub(crate) fn make_link(&self, node: Node, parent: Node, name: &OsStr) -> Answer<Lasting> {
        self.check_new(parent, name.as_bytes())?;
        if node.tag != parent.tag {
            return Err(Errno::EXDEV);
        }
        let branch = self.writer(parent)?;
        let inode = branch.link(node.ino, parent.ino, name.as_bytes()).map_err(errno)?;
        self.made(&branch, parent, &inode)
    }

    fn made(&self, branch: &Branch, parent: Node, inode: &Inode) -> Answer<Lasting> {
        let tree = self.tree(parent)?;
        self.entry(&tree, &branch.view().map_err(errno)?, parent, inode, self.ttl(&tree))
    }

    /// Removes a name.
    pub(crate) fn remove(&self, parent: Node, name: &OsStr, directory: bool) -> Answer<()> {
        self.check_old(parent, name.as_bytes())?;
        let branch = self.writer(parent)?;
        if directory {
            return branch.rmdir(parent.ino, name.as_bytes()).map_err(errno);
        }
        self.removing(&branch, parent, name, || branch.unlink(parent.ino, name.as_bytes()))
    }

    /// Moves a name.
    pub(crate) fn move_name(
        &self,
        (parent, name): (Node, &OsStr),
        (new_parent, new_name): (Node, &OsStr),
        flags: RenameFlags,
    ) -> Answer<()> {
        let (bytes, new_bytes) = (name.as_bytes(), new_name.as_bytes());
        self.check_old(parent, bytes)?;
        self.check_new(new_parent, new_bytes)?;
        if parent.tag != new_parent.tag {
            return Err(Errno::EXDEV);
        }
        let how = match flags.bits() {
            0 => Rename::Replace,
            libc::RENAME_NOREPLACE => Rename::NoReplace,
            libc::RENAME_EXCHANGE => Rename::Exchange,
            _ => return Err(Errno::EINVAL),
        };
        let branch = self.writer(parent)?;
        let rename = || branch.rename(parent.ino, bytes, new_parent.ino, new_bytes, how);
        match how {
            Rename::Exchange => rename().map_err(errno)?,
            _ => self.removing(&branch, new_parent, new_name, rename)?,
        }
        if parent != new_parent {
            // What moved has another parent now; both have, when they changed places.
            let view = branch.view().map_err(errno)?;
            for (now, name) in [(new_parent, new_bytes), (parent, bytes)] {
                let directory = view.remaining_inode(now.ino).map_err(errno)?;
                if let Some(moved) = view.lookup(&directory, name).map_err(errno)?
                    && moved.is_dir()
                {
                    self.remember_parent(Node { tag: now.tag, ino: moved.ino }, now);
                }
            }
        }
        Ok(())
    }

    /// Changes attributes.
    pub(crate) fn change(&self, request: &Request, node: Node, wanted: Wanted) -> Answer<Lasting> {
        let branch = self.writer(node)?;
        let view = branch.view().map_err(errno)?;
        let inode = view.remaining_inode(node.ino).map_err(stale)?;
        let now = SystemTime::now();
        let time = |time: Option<TimeOrNow>| time.map(|time| nanoseconds(time, now));
        let mut attributes = SetAttr {
            mode: wanted.mode,
            uid: wanted.uid,
            gid: wanted.gid,
            size: wanted.size,
            atime: time(wanted.atime),
            mtime: time(wanted.mtime),
        };
        // The kernel leaves this to the file system. A chown that changes nothing comes without
        // any attribute, and takes privileges away all the same.
        let chown =
            wanted.uid.is_some() || wanted.gid.is_some() || attributes == SetAttr::default();
        let mode = without_privileges(request, &inode);
        let cut = wanted.size.is_some()
            && (!is_root(request) || mode != inode.mode && !has_capability(request, CAP_FSETID));
        if chown || cut {
            if attributes.mode.is_none() && mode != inode.mode {
                attributes.mode = Some(mode);
            }
            drop_capability(&branch, &view, &inode)?;
        }
        if let Some(mode) = attributes.mode {
            change_list(&branch, &view, &inode, mode)?;
        }
        drop(view);
        let inode = branch.set_attr(node.ino, &attributes).map_err(stale)?;
        let tree = self.tree(node)?;
        let view = branch.view().map_err(errno)?;
        Ok((attr(self.number(node), &view, &inode)?, self.ttl(&tree)))
    }
}

/// Takes from a file what gives privileges to whoever runs it.
pub(crate) fn drop_privileges(request: &Request, branch: &Branch, ino: u64) -> Answer<()> {
    let view = branch.view().map_err(errno)?;
    let inode = view.remaining_inode(ino).map_err(stale)?;
    drop_capability(branch, &view, &inode)?;
    let mode = without_privileges(request, &inode);
    if mode != inode.mode {
        let attributes = SetAttr { mode: Some(mode), ..SetAttr::default() };
        branch.set_attr(ino, &attributes).map_err(errno)?;
    }
    Ok(())
}

fn drop_capability(branch: &Branch, view: &View, inode: &Inode) -> Answer<()> {
    let xattrs = view.xattrs(inode).map_err(errno)?;
    if xattrs.iter().any(|(name, _)| name == CAPABILITY) {
        branch.remove_xattr(inode.ino, CAPABILITY).map_err(errno)?;
    }
    Ok(())
}

/// Makes a file's list of access control, if it has one, say what its new mode does.
fn change_list(branch: &Branch, view: &View, inode: &Inode, mode: u32) -> Answer<()> {
    let xattrs = view.xattrs(inode).map_err(errno)?;
    let Some(old) = acl::find(&xattrs, acl::ACCESS).and_then(Acl::parse) else { return Ok(()) };
    let mut list = old.clone();
    list.change_mode(mode);
    if list == old {
        return Ok(());
    }
    branch.set_xattr(inode.ino, acl::ACCESS, &list.value(), XattrMode::Replace).map_err(errno)
}

/// A file's mode without set-user-ID, and without set-group-ID where the group runs it or the caller
/// is a stranger to the group, as in Linux since 6.2.
fn without_privileges(request: &Request, inode: &Inode) -> u32 {
    let mode = inode.mode;
    if inode.is_dir() {
        return mode;
    }
    let keeps = mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID
        && (has_group(request, inode.gid) || has_capability(request, CAP_FSETID));
    mode & !(libc::S_ISUID | if keeps { 0 } else { libc::S_ISGID })
}

fn check_name(name: &[u8]) -> Answer<()> {
    if name.len() > NAME_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}

/// The answer for a name that is not there; the kernel remembers it.
pub(crate) const NOTHING: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

pub(crate) fn attr(number: INodeNo, view: &View, inode: &Inode) -> Answer<FileAttr> {
    Ok(FileAttr {
        ino: number,
        size: inode.size,
        blocks: view.blocks(inode),
        atime: system_time(inode.atime),
        mtime: system_time(inode.mtime),
        ctime: system_time(inode.ctime),
        crtime: system_time(inode.ctime),
        kind: file_type(inode.mode)?,
        perm: (inode.mode & !mode::TYPE) as u16,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.rdev,
        blksize: BLOCK_SIZE as u32,
        flags: 0,
    })
}

/// The kind of file that a mode says.
fn file_type(mode: u32) -> Answer<FileType> {
    Ok(match mode & mode::TYPE {
        mode::REGULAR => FileType::RegularFile,
        mode::DIRECTORY => FileType::Directory,
        mode::SYMLINK => FileType::Symlink,
        mode::CHAR => FileType::CharDevice,
        mode::BLOCK => FileType::BlockDevice,
        mode::FIFO => FileType::NamedPipe,
        mode::SOCKET => FileType::Socket,
        _ => return Err(Errno::from_i32(libc::EUCLEAN)),
    })
}

/// A time of the image, ns since 1970.
fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// A time for the image; what it cannot say becomes the nearest that it can.
fn nanoseconds(time: TimeOrNow, now: SystemTime) -> i64 {
    let (time, given) = match time {
        TimeOrNow::Now => (now, false),
        TimeOrNow::SpecificTime(time) => (time, true),
    };
    let nanoseconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        // The library takes the kernel's nanoseconds, which count forwards, for some that count
        // backwards from a whole second before 1970.
        Err(before) if given => {
            let before = before.duration();
            i128::from(before.subsec_nanos()) - i128::from(before.as_secs()) * 1_000_000_000
        }
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    nanoseconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        // As the library makes it of the kernel's second -2 and nanosecond 800,000,000.
        let given = UNIX_EPOCH - Duration::new(2, 800_000_000);
        let time = TimeOrNow::SpecificTime(given);
        assert_eq!(nanoseconds(time, UNIX_EPOCH), -1_200_000_000);
        assert_eq!(system_time(-1_200_000_000), UNIX_EPOCH - Duration::new(1, 200_000_000));
    }
}
