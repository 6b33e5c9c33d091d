// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the logs of a chain changed, laid over the base image.
//!
//! An inode is in the index once an entry has touched it; everything else is as in the base.
//! Entries are applied one by one, in the order of the chain; each is judged against the tree as
//! it is then, so that what replays without an error is a tree again. File data stay where they
//! are: the index points at them.

mod step;
mod xattrs;

use std::collections::BTreeMap;
use std::sync::Arc;

use xattrs::AttributeSet;
pub use xattrs::xattr_set_size;

use crate::base::{Base, Inode};
use crate::error::{Error, Result};
use crate::extents::{Extent, Extents};
use crate::format::{DIRENT_SIZE, mode};
use crate::map::Map;
use crate::name::Name;

/// Deepest directory that a directory can be moved into: no path of Linux's 4096 bytes can name
/// a deeper one. Bounds the search for cycles.
pub const DEPTH_MAX: usize = 2048;

/// Everything that a chain's logs changed. A copy costs nothing, and stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Index {
    nodes: Map<u64, Node>,
    /// Files that lost their last names and may still be in use.
    nameless: Map<u64, ()>,
}

/// A touched inode.
#[derive(Debug, Clone)]
struct Node {
    inode: Inode,
    content: Content,
    // Absent while they are as in the base.
    xattrs: Option<Arc<AttributeSet>>,
    /// Whether its blocks may hold other bytes by now: it has no name, and nobody uses it.
    gone: bool,
}

/// The extended attributes of an inode: values by names.
pub type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

#[derive(Debug, Clone)]
enum Content {
    /// Devices, symlinks of the base (whose inodes say where the targets are), removed directories.
    Plain,
    File(Extents),
    Directory(Arc<Directory>),
    Symlink(Arc<[u8]>),
}

/// A touched directory: names laid over those of the base.
#[derive(Debug, Clone)]
pub struct Directory {
    base: Option<Inode>,
    // Absent while it is as in the base.
    parent: Option<u64>,
    // 0 where a name of the base was removed.
    names: Map<Name, u64>,
}

impl Directory {
    /// The directory in the base image, whose names count unless [`Directory::name`] knows better.
    pub fn base(&self) -> Option<&Inode> {
        self.base.as_ref()
    }

    /// What was done to a name: the inode that it stands for now, or none since it was removed.
    pub fn name(&self, name: &[u8]) -> Option<Option<u64>> {
        self.names.get(&Name::from(name)).map(|ino| (*ino != 0).then_some(*ino))
    }

    /// Every name with which something was done, in byte order, as for [`Directory::name`].
    pub fn names(&self) -> impl Iterator<Item = (&Name, Option<u64>)> {
        self.names.iter().map(|(name, ino)| (name, (*ino != 0).then_some(*ino)))
    }
}

impl Index {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A touched inode.
    pub fn inode(&self, ino: u64) -> Option<&Inode> {
        self.nodes.get(&ino).map(|node| &node.inode)
    }

    /// The same, unless it lost its last name and what it held is not kept.
    pub fn inode_in_use(&self, ino: u64) -> Result<Option<&Inode>> {
        match self.nodes.get(&ino) {
            Some(node) if node.gone => {
                Err(Error::NotFound { path: format!("inode {ino}").into_bytes() })
            }
            node => Ok(node.map(|node| &node.inode)),
        }
    }

    /// Gives up the files that lost their last names, but for those in use: their blocks may hold
    /// other bytes from now on. What lies in the base image stays.
    pub fn bury(&mut self, base: &Base, in_use: impl Fn(u64) -> bool) {
        let unused: Vec<u64> =
            self.nameless.iter().map(|(ino, ())| *ino).filter(|ino| !in_use(*ino)).collect();
        for ino in unused {
            self.nameless.remove(&ino);
            if let Some(Node { content: Content::File(extents), gone, .. }) =
                self.nodes.get_mut(&ino)
                && extents.iter().any(|run| !base.range().contains(&run.image_offset))
            {
                *gone = true;
                *extents = Extents::default();
            }
        }
    }

    /// Where the bytes of every touched file lie.
    pub fn stored(&self) -> impl Iterator<Item = Extent> + '_ {
        self.nodes.iter().filter(|(_, node)| !node.gone).flat_map(|(_, node)| {
            let extents = match &node.content {
                Content::File(extents) => Some(extents),
                _ => None,
            };
            extents.into_iter().flat_map(Extents::iter)
        })
    }

    /// Every touched inode, in the order of their numbers.
    pub fn inodes(&self) -> impl Iterator<Item = &Inode> {
        self.nodes.iter().map(|(_, node)| &node.inode)
    }

    /// A touched directory, unless it was removed.
    pub fn directory(&self, ino: u64) -> Option<&Directory> {
        match &self.nodes.get(&ino)?.content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Where a touched file's bytes lie.
    pub fn extents(&self, ino: u64) -> Option<&Extents> {
        match &self.nodes.get(&ino)?.content {
            Content::File(extents) => Some(extents),
            _ => None,
        }
    }

    /// The target of a symlink that is not of the base.
    pub fn target(&self, ino: u64) -> Option<&[u8]> {
        match &self.nodes.get(&ino)?.content {
            Content::Symlink(target) => Some(target),
            _ => None,
        }
    }

    /// The extended attributes of an inode, unless they are as in the base.
    pub fn xattrs(&self, ino: u64) -> Option<&Xattrs> {
        self.nodes.get(&ino)?.xattrs.as_ref().map(|set| &set.pairs)
    }

    /// The number of the inode that `name` in `directory` names.
    pub fn lookup(&self, base: &Base, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let below = match self.nodes.get(&directory.ino).map(|node| &node.content) {
            None => Some(directory),
            Some(Content::Directory(touched)) => match touched.name(name) {
                Some(changed) => return Ok(changed),
                None => touched.base.as_ref(),
            },
            Some(_) => None,
        };
        let Some(below) = below else { return Ok(None) };
        base.lookup(below, name)
    }

    /// The directory that a directory other than the root lies in, if any does.
    pub fn parent(&self, base: &Base, directory: u64) -> Result<Option<u64>> {
        match self.directory(directory).and_then(|directory| directory.parent) {
            Some(parent) => Ok(Some(parent)),
            None => base.parent(directory),
        }
    }
}

impl Node {
    fn from_base(mut inode: Inode, base: &Base) -> Self {
        let content = match inode.kind() {
            mode::REGULAR => {
                let mut extents = Extents::default();
                let (image_offset, len) = (inode.data, inode.size);
                extents.insert(Extent { file_offset: 0, image_offset, len, in_log: false });
                Content::File(extents)
            }
            mode::DIRECTORY => {
                let below = inode;
                // Counted from here on, so made a count of names whatever the base says.
                inode.size = base.dirent_count(&below) * DIRENT_SIZE;
                let (base, parent, names) = (Some(below), None, Map::default());
                Content::Directory(Arc::new(Directory { base, parent, names }))
            }
            _ => Content::Plain,
        };
        Self { inode, content, xattrs: None, gone: false }
    }
}
