// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An image whose structures can be set to anything.

use std::ops::Range;
use std::sync::Arc;

use daxfs_core::format::{
    BLOCK_SIZE, BaseInode, BaseSuperblock, DIRENT_SIZE, INODE_SIZE, ROOT_INO, RawDirent, Superblock,
};
use daxfs_core::image::Unvalidated;
use daxfs_core::region::Region;
use daxfs_core::view::{Links, View};
use zerocopy::FromBytes;

/// A sound image, and where its parts were before anything was changed.
#[derive(Clone)]
pub(crate) struct Forge {
    pub(crate) bytes: Vec<u8>,
    view: Arc<View>,
}

impl Forge {
    /// Begins with a sound image.
    pub(crate) fn new(image: &[u8]) -> Self {
        let region = Arc::new(Region::from_bytes(image).expect("memory"));
        let image = Unvalidated::open(region).and_then(Unvalidated::validate).expect("sound");
        let view = Arc::new(View::base(Arc::new(image)));
        let region = view.image().region();
        Self { bytes: region.read_vec(0, region.len()).expect("all of it"), view }
    }

    /// The number of the inode at a path.
    pub(crate) fn ino(&self, path: &str) -> u64 {
        self.view.resolve(path.as_bytes(), Links::Keep).expect("a path of the sample").ino
    }

    /// The superblock.
    pub(crate) fn superblock(&mut self) -> &mut Superblock {
        Superblock::mut_from_bytes(&mut self.bytes[..BLOCK_SIZE as usize]).expect("size")
    }

    /// The base superblock.
    pub(crate) fn base(&mut self) -> &mut BaseSuperblock {
        let start = self.view.image().base().range().start as usize;
        let block = &mut self.bytes[start..start + BLOCK_SIZE as usize];
        BaseSuperblock::mut_from_bytes(block).expect("size")
    }

    /// The inode at a path.
    pub(crate) fn inode(&mut self, path: &str) -> &mut BaseInode {
        let at = self.view.image().base().inode_offset(self.ino(path)) as usize;
        let record = &mut self.bytes[at..at + INODE_SIZE as usize];
        BaseInode::mut_from_bytes(record).expect("size")
    }

    /// The dirent at a path.
    pub(crate) fn dirent(&mut self, path: &str) -> &mut RawDirent {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.view.inode(self.ino(parent)).expect("an inode");
        let entries = self.view.read_dir(&directory).expect("a directory");
        let position = entries.iter().position(|entry| entry.name == name.as_bytes());
        let at = directory.data + position.expect("a name") as u64 * DIRENT_SIZE;
        let record = &mut self.bytes[at as usize..(at + DIRENT_SIZE) as usize];
        RawDirent::mut_from_bytes(record).expect("size")
    }

    /// Makes the name at `path` one of the inode at `target`, and keeps its type right.
    pub(crate) fn relink(&mut self, path: &str, target: &str) {
        let mode = self.inode(target).mode;
        let ino = self.ino(target) as u32;
        let dirent = self.dirent(path);
        dirent.ino = ino.into();
        dirent.mode = mode;
    }

    /// Adds to an inode's number of names.
    pub(crate) fn add_links(&mut self, path: &str, links: i32) {
        let inode = self.inode(path);
        inode.nlink = inode.nlink.get().checked_add_signed(links).expect("few links").into();
    }

    /// Where the extended attributes lie.
    pub(crate) fn xattrs(&self) -> Range<usize> {
        let range = self.view.image().base().xattr_range();
        range.start as usize..range.end as usize
    }

    /// A region that holds the image as it is now.
    pub(crate) fn region(&self) -> Arc<Region> {
        Arc::new(Region::from_bytes(&self.bytes).expect("memory"))
    }

    /// Base offset of the root's dirents.
    pub(crate) fn root_data(&mut self) -> u64 {
        let root = self.view.inode(ROOT_INO).expect("a root");
        root.data - self.view.image().base().range().start
    }
}
