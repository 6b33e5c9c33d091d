// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mounted file system as a whole: its trees, its handles, what it asks of the kernel; and the
//! table of operations, each of which is worked out in the file that is about its kind.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use daxfs_core::error::Error;
use daxfs_core::format::{BLOCK_SIZE, NAME_MAX, feature};
use daxfs_core::image::Image;
use fuser::{
    AccessFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use crate::tree::{Node, Tree};
use crate::vfs_dir::Directory;

/// What an operation gives, or the errno that the kernel gets instead.
pub(crate) type Answer<T> = std::result::Result<T, Errno>;

/// Largest request for data, either way.
const IO_SIZE: u32 = 1 << 20;

/// How long the kernel may keep what cannot change without its being told.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Inode numbers are never used twice.
pub(crate) const GENERATION: Generation = Generation(0);

/// An image that is mounted.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) image: Arc<Image>,
    trees: RwLock<HashMap<u64, Arc<Tree>>>,
    /// Tag of the tree that the mount's root is.
    mounted: AtomicU64,
    /// Whether nothing of the image can ever change.
    pub(crate) immutable: bool,
    pub(crate) directories: Mutex<HashMap<u64, Arc<Directory>>>,
    next_handle: AtomicU64,
    /// The directory that each directory which the kernel knows lies in.
    parents: RwLock<HashMap<Node, Node>>,
}

impl Mounted {
    pub(crate) fn new(image: Arc<Image>, tree: Tree) -> Self {
        let immutable = !image.superblock().has(feature::BRANCHES);
        Self {
            image,
            trees: RwLock::new(HashMap::from([(0, Arc::new(tree))])),
            mounted: AtomicU64::new(0),
            immutable,
            directories: Mutex::default(),
            next_handle: AtomicU64::new(1),
            parents: RwLock::default(),
        }
    }

    fn mounted_tag(&self) -> u64 {
        self.mounted.load(Ordering::Acquire)
    }

    pub(crate) fn node(&self, number: INodeNo) -> Node {
        Node::of(number.0, self.mounted_tag())
    }

    pub(crate) fn number(&self, node: Node) -> INodeNo {
        INodeNo(node.number(self.mounted_tag()))
    }

    /// The tree that a node is of; it may be gone.
    pub(crate) fn tree(&self, node: Node) -> Answer<Arc<Tree>> {
        let trees = self.trees.read().expect("no panic holds it");
        trees.get(&node.tag).cloned().ok_or(Errno::ESTALE)
    }

    pub(crate) fn new_handle(&self) -> FileHandle {
        FileHandle(self.next_handle.fetch_add(1, Ordering::Relaxed))
    }

    /// How long the kernel may keep attributes and names.
    pub(crate) fn ttl(&self) -> Duration {
        FOREVER
    }

    pub(crate) fn remember_parent(&self, directory: Node, parent: Node) {
        let parents = self.parents.read().expect("no panic holds it");
        if parents.get(&directory) == Some(&parent) {
            return;
        }
        drop(parents);
        self.parents.write().expect("no panic holds it").insert(directory, parent);
    }

    /// The directory that a directory lies in; the root lies in itself.
    pub(crate) fn parent(&self, directory: Node) -> Node {
        let parents = self.parents.read().expect("no panic holds it");
        parents.get(&directory).copied().unwrap_or(directory)
    }

    fn statfs(&self) -> Answer<Statfs> {
        let superblock = self.image.superblock();
        let blocks = superblock.total_size.get() / BLOCK_SIZE;
        let files = self.image.base().inode_count().into();
        Ok(Statfs { blocks, free: 0, files, files_free: 0 })
    }
}

struct Statfs {
    blocks: u64,
    free: u64,
    files: u64,
    files_free: u64,
}

/// The errno that the kernel gets for an error of the engine.
pub(crate) fn errno(error: Error) -> Errno {
    if matches!(error, Error::Corrupt { .. } | Error::Unsound { .. }) {
        log::error!("{error}");
    }
    Errno::from_i32(error.errno())
}

impl Filesystem for Mounted {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_EXPORT_SUPPORT;
        if self.immutable {
            // What is read stays as it is, so no open file needs the server.
            wanted |= InitFlags::FUSE_NO_OPEN_SUPPORT;
        }
        // What this kernel does not have it does without.
        let known = config.capabilities();
        let _ = config.add_capabilities(wanted & known);
        let _ = config.set_max_write(IO_SIZE);
        if let Err(most) = config.set_max_readahead(IO_SIZE) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(self.node(parent), name) {
            Ok(attr) => reply.entry(&self.ttl(), &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(self.node(number)) {
            Ok(attr) => reply.attr(&self.ttl(), &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        match self.read_link(self.node(number)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn access(&self, _request: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself, and after this answer never asks again.
        reply.error(Errno::ENOSYS);
    }

    fn open(&self, _request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(self.node(number), flags) {
            Ok((handle, flags)) => reply.opened(handle, flags),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read_file(self.node(number), offset, size, reply);
    }

    fn flush(
        &self,
        _request: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Never asked again after this answer.
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.seek(self.node(number), offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_directory(self.node(number)) {
            Ok((handle, flags)) => reply.opened(handle, flags),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match self.read_directory(handle, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        match self.read_directory_plus(handle, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.directories.lock().expect("no panic holds it").remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _number: INodeNo, reply: ReplyStatfs) {
        let block = BLOCK_SIZE as u32;
        match Self::statfs(self) {
            Ok(Statfs { blocks, free, files, files_free }) => {
                reply.statfs(blocks, free, free, files, files_free, block, NAME_MAX as u32, block);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(
        &self,
        _request: &Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        self.get_xattr(self.node(number), name, size, reply);
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        self.list_xattrs(self.node(number), size, reply);
    }
}
