// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names and attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daxfs_core::base::Inode;
use daxfs_core::format::{BLOCK_SIZE, NAME_MAX, mode};
use daxfs_core::view::View;
use fuser::{Errno, FileAttr, FileType, INodeNo};

use crate::tree::Node;
use crate::vfs_super::{Answer, Mounted, errno};

impl Mounted {
    /// What `name` in a directory stands for; node number 0 stands for nothing.
    pub(crate) fn look_up(&self, parent: Node, name: &OsStr) -> Answer<FileAttr> {
        let name = name.as_bytes();
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        // The kernel asks for these two only to find its way back to what it has forgotten.
        match name {
            b"." => return self.attributes(parent),
            b".." => return self.attributes(self.parent(parent)),
            _ => {}
        }
        let view = self.tree(parent)?.view().map_err(errno)?;
        let directory = view.inode(parent.ino).map_err(errno)?;
        match view.lookup(&directory, name).map_err(errno)? {
            Some(inode) => self.entry(&view, parent, &inode),
            None => Ok(NOTHING),
        }
    }

    /// The attributes of an inode that a name in `parent` leads to.
    pub(crate) fn entry(&self, view: &View, parent: Node, inode: &Inode) -> Answer<FileAttr> {
        let node = Node { tag: parent.tag, ino: inode.ino };
        if inode.is_dir() {
            self.remember_parent(node, parent);
        }
        attr(self.number(node), view, inode)
    }

    /// The attributes of a node.
    pub(crate) fn attributes(&self, node: Node) -> Answer<FileAttr> {
        let view = self.tree(node)?.view().map_err(errno)?;
        let inode = view.inode(node.ino).map_err(errno)?;
        attr(self.number(node), &view, &inode)
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, node: Node) -> Answer<Vec<u8>> {
        let view = self.tree(node)?.view().map_err(errno)?;
        let inode = view.inode(node.ino).map_err(errno)?;
        view.readlink(&inode).map_err(errno)
    }
}

/// The answer for a name that is not there; the kernel remembers it.
const NOTHING: FileAttr = FileAttr {
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

fn attr(number: INodeNo, view: &View, inode: &Inode) -> Answer<FileAttr> {
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
pub(crate) fn file_type(mode: u32) -> Answer<FileType> {
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
pub(crate) fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
