// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The table of operations: what the kernel asks, and the files `vfs_*` that work it out.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use daxfs_core::format::{BLOCK_SIZE, NAME_MAX, mode};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags,
    PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use crate::control::Order;
use crate::readahead::Readahead;
use crate::vfs_file::CopyRange;
use crate::vfs_inode::{Lasting, New, Wanted};
use crate::vfs_ioctl::Ioctl;
use crate::vfs_super::{Answer, GENERATION, Mounted, Statfs};

/// Largest request for data, either way.
const IO_SIZE: u32 = 1 << 20;

/// Requests for data that the kernel may have under way for nobody in particular: read-ahead,
/// write-back.
const BACKGROUND: u16 = 64;

/// A mounted image as the library drives it.
#[derive(Debug)]
pub(crate) struct Fuse {
    pub(crate) mounted: Arc<Mounted>,
    pub(crate) orders: Mutex<Sender<(Order, ReplyIoctl)>>,
    /// Where nothing can change: notices who reads file after file.
    pub(crate) readahead: Option<Readahead>,
    /// Whether the kernel may be told to show it with other owners.
    pub(crate) idmap: bool,
}

impl Fuse {
    fn entry(&self, answer: Answer<Lasting>, reply: ReplyEntry) {
        match answer {
            Ok((attr, ttl)) => {
                self.mounted.tell(attr.ino);
                reply.entry(&ttl, &attr, GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn attr(answer: Answer<Lasting>, reply: ReplyAttr) {
        match answer {
            Ok((attr, ttl)) => reply.attr(&ttl, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn empty(answer: Answer<()>, reply: ReplyEmpty) {
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn written(answer: Answer<u32>, reply: ReplyWrite) {
        match answer {
            Ok(len) => reply.written(len),
            Err(errno) => reply.error(errno),
        }
    }
}

impl Filesystem for Fuse {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP
            | InitFlags::FUSE_EXPORT_SUPPORT
            | InitFlags::FUSE_HAS_IOCTL_DIR
            // What is open needs nothing of the server that its inode would not have, and a
            // directory only where it can change.
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            // Otherwise every write would ask for a file's capabilities first.
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
        if self.mounted.lists {
            // What is made in a directory with a default list has no use for the umask.
            wanted |= InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK;
        }
        if !self.mounted.writes && !self.mounted.immutable {
            // Others write. A mount that writes is told of others' changes by this server alone:
            // its own would make the kernel drop what it has just written.
            wanted |= InitFlags::FUSE_AUTO_INVAL_DATA;
        }
        let known = config.capabilities();
        if self.idmap {
            // Most requests say nothing of who makes them then, so it is for those who ask for it.
            wanted |= InitFlags::FUSE_ALLOW_IDMAP;
            if !known.contains(InitFlags::FUSE_ALLOW_IDMAP) {
                return Err(io::Error::other("idmap: with FUSE, this needs Linux 6.12"));
            }
        }
        // What else this kernel does not have it does without.
        let _ = config.add_capabilities(wanted & known);
        let _ = config.set_max_write(IO_SIZE);
        if let Err(most) = config.set_max_readahead(IO_SIZE) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(self.mounted.look_up(self.mounted.node(parent), name), reply);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        Self::attr(self.mounted.attributes(self.mounted.node(number)), reply);
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let wanted = Wanted { mode, uid, gid, size, atime, mtime };
        Self::attr(self.mounted.change(request, self.mounted.node(number), wanted), reply);
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.mounted.read_link(self.mounted.node(number)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let parent = self.mounted.node(parent);
        self.entry(self.mounted.make(request, parent, name, New { mode, umask, rdev }), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let parent = self.mounted.node(parent);
        let mode = mode & !mode::TYPE | mode::DIRECTORY;
        self.entry(self.mounted.make(request, parent, name, New { mode, umask, rdev: 0 }), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let mode = mode & !mode::TYPE | mode::REGULAR;
        let new = New { mode, umask, rdev: 0 };
        match self.mounted.make(request, self.mounted.node(parent), name, new) {
            Ok((attr, ttl)) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                self.mounted.tell(attr.ino);
                reply.created(&ttl, &attr, GENERATION, FileHandle(0), flags);
            }
            // Made by others since the kernel looked: it looks again, and opens what is there.
            Err(Errno::EEXIST) if flags & libc::O_EXCL == 0 => reply.error(Errno::ESTALE),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        Self::empty(self.mounted.remove(self.mounted.node(parent), name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        Self::empty(self.mounted.remove(self.mounted.node(parent), name, true), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (parent, target) = (self.mounted.node(parent), target.as_os_str().as_bytes());
        self.entry(self.mounted.make_symlink(request, parent, name, target), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from = (self.mounted.node(parent), name);
        let to = (self.mounted.node(new_parent), new_name);
        Self::empty(self.mounted.move_name(from, to, flags), reply);
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (node, parent) = (self.mounted.node(number), self.mounted.node(parent));
        self.entry(self.mounted.make_link(node, parent, name), reply);
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.mounted.let_go(self.mounted.node(number), times);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself, and after this answer never asks again.
        reply.error(Errno::ENOSYS);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // As for access: the kernel opens files by itself from now on.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // Before it is answered: whoever waits for that may ask for the next file, of another thread.
        if let Some(readahead) = &self.readahead {
            readahead.note(number.0, offset, size);
        }
        self.mounted.read_file(self.mounted.node(number), offset, size, reply);
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let node = self.mounted.node(number);
        let strips = flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID).then_some(request);
        Self::written(self.mounted.write_file(strips, node, offset, data, flags), reply);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Never asked again after this answer.
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        Self::empty(self.mounted.sync(self.mounted.node(number)), reply);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        Self::empty(self.mounted.sync(self.mounted.node(number)), reply);
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let node = self.mounted.node(number);
        Self::empty(self.mounted.allocate(request, node, offset, len, mode), reply);
    }

    fn lseek(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.mounted.seek(self.mounted.node(number), offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _: FileHandle,
        to_offset: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = (self.mounted.node(from), self.mounted.node(to));
        let range = CopyRange { from, from_offset, to, to_offset, len };
        Self::written(self.mounted.copy_range(request, &range), reply);
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.mounted.open_directory(self.mounted.node(number)) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let node = self.mounted.node(number);
        match self.mounted.read_directory_plus(node, handle, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.mounted.close_directory(handle);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let block = BLOCK_SIZE as u32;
        match self.mounted.statfs() {
            Ok(Statfs { blocks, free, files, files_free }) => {
                reply.statfs(blocks, free, free, files, files_free, block, NAME_MAX as u32, block);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.mounted.get_xattr(self.mounted.node(number), name, size, reply);
    }

    fn listxattr(&self, request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        self.mounted.list_xattrs(request, self.mounted.node(number), size, reply);
    }

    fn setxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let node = self.mounted.node(number);
        Self::empty(self.mounted.set_xattr(request, node, name, value, flags), reply);
    }

    fn removexattr(&self, _: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        Self::empty(self.mounted.remove_xattr(self.mounted.node(number), name), reply);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        // As for access: files are always ready.
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        input: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        match self.mounted.ioctl(request, self.mounted.node(number), command, input) {
            Ok(Ioctl::Answer(output)) => reply.ioctl(0, &output),
            Ok(Ioctl::Order(order)) => {
                // If nobody takes orders any more, the reply goes with the order: an error.
                let _ = self.orders.lock().expect("no panic holds it").send((order, reply));
            }
            Err(errno) => reply.error(errno),
        }
    }
}
