// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the logs of a chain changed, laid over the base image.
//!
//! An inode is in the index once an entry has touched it; everything else is as in the base.
//! Entries are applied one by one, in the order of the chain; each is judged against the tree as
//! it is then, so that what replays without an error is a tree again. File data stay where they
//! are: the index points at them.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::ops::Range;

use crate::base::{Base, Inode};
use crate::delta::{self, Change, Entry};
use crate::error::{Error, Result, show};
use crate::extents::{Extent, Extents};
use crate::format::{DIRENT_SIZE, ROOT_INO, mode};
use crate::region::Region;

/// Deepest directory that a directory can be moved into: no path of Linux's 4096 bytes can name
/// a deeper one. Bounds the search for cycles.
pub const DEPTH_MAX: usize = 2048;

/// Everything that a chain's logs changed.
#[derive(Debug, Clone, Default)]
pub struct Index {
    nodes: HashMap<u64, Node>,
}

/// A touched inode.
#[derive(Debug, Clone)]
struct Node {
    inode: Inode,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// Devices, symlinks (whose inode says where the target is), removed directories.
    Plain,
    File(Extents),
    Directory(Box<Directory>),
}

/// A touched directory: names laid over those of the base.
#[derive(Debug, Clone)]
pub struct Directory {
    base: Option<Inode>,
    // Absent while it is as in the base.
    parent: Option<u64>,
    names: BTreeMap<Box<[u8]>, Option<u64>>,
}

impl Directory {
    /// The directory in the base image, whose names count unless [`Directory::names`] has them.
    pub fn base(&self) -> Option<&Inode> {
        self.base.as_ref()
    }

    /// The inode that a name stands for, `None` = it was removed.
    pub fn names(&self) -> &BTreeMap<Box<[u8]>, Option<u64>> {
        &self.names
    }
}

impl Index {
    /// Applies a whole log, oldest entry first.
    pub fn replay(&mut self, base: &Base, region: &Region, log: Range<u64>) -> Result<()> {
        delta::scan(region, log).try_for_each(|entry| self.apply(base, entry?))
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A touched inode.
    pub fn inode(&self, ino: u64) -> Option<&Inode> {
        self.nodes.get(&ino).map(|node| &node.inode)
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

    /// The number of the inode that `name` in `directory` names.
    pub fn lookup(&self, base: &Base, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let below = match self.nodes.get(&directory.ino).map(|node| &node.content) {
            None => Some(directory),
            Some(Content::Directory(touched)) => match touched.names.get(name) {
                Some(changed) => return Ok(*changed),
                None => touched.base.as_ref(),
            },
            Some(_) => None,
        };
        let Some(below) = below else { return Ok(None) };
        Ok(base.lookup(below, name)?.map(|entry| entry.ino()))
    }

    /// Makes one entry's change, or says why it cannot be made; then the index is of no more use.
    pub fn apply(&mut self, base: &Base, entry: Entry) -> Result<()> {
        let Entry { at, ino, time, change } = entry;
        let mut step = Step { index: self, base, at, time };
        match change {
            Change::Write { offset, data, len } => {
                let extent = Extent { file_offset: offset, image_offset: data, len };
                step.write(ino, extent)
            }
            Change::Create { parent, ino, mode, name } => {
                let directory = mode & mode::TYPE == mode::DIRECTORY;
                let nlink = 1 + u32::from(directory);
                let inode = Inode { ino, mode, nlink, mtime: time, ..NEW };
                step.create(parent, name, inode)
            }
            Change::Delete { parent, name } => step.delete(parent, name, ino),
            Change::Truncate { size } => step.truncate(ino, size),
            Change::Rename { ino, old_parent, new_parent, old_name, new_name } => {
                step.rename(ino, (old_parent, old_name), (new_parent, new_name))
            }
            Change::SetAttr { mode, uid, gid, size } => {
                step.set_attr(ino, mode, uid, gid)?;
                size.map_or(Ok(()), |size| step.truncate(ino, size))
            }
            Change::Symlink { parent, ino, name, target, target_len } => {
                let mode = mode::SYMLINK | 0o777;
                let (size, data) = (target_len, target);
                let inode = Inode { ino, mode, size, data, nlink: 1, mtime: time, ..NEW };
                step.create(parent, name, inode)
            }
        }
    }
}

/// What a created inode is before its entry says more; plain v3 records no owner.
const NEW: Inode = Inode {
    ino: 0,
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0,
    nlink: 0,
    rdev: 0,
    mtime: 0,
    data: 0,
    xattrs: 0,
};

/// One entry on its way into the index.
struct Step<'a> {
    index: &'a mut Index,
    base: &'a Base,
    at: u64,
    time: i64,
}

impl Step<'_> {
    fn wrong<T>(
        &self,
        what: &'static str,
        expected: impl Display,
        found: impl Display,
    ) -> Result<T> {
        Err(Error::corrupt(what, self.at, expected, found))
    }

    /// The inode's node, taken from the base image at its first touch.
    fn node(&mut self, ino: u64) -> Result<&mut Node> {
        let at = self.at;
        match self.index.nodes.entry(ino) {
            Slot::Occupied(node) => Ok(node.into_mut()),
            Slot::Vacant(slot) if self.base.contains(ino) => {
                Ok(slot.insert(Node::from_base(self.base.inode(ino)?, self.base)))
            }
            Slot::Vacant(_) => {
                Err(Error::corrupt("inode of a log entry", at, "one that exists", ino))
            }
        }
    }

    fn file(&mut self, ino: u64) -> Result<(&mut Inode, &mut Extents)> {
        let (at, time) = (self.at, self.time);
        match self.node(ino)? {
            Node { inode, content: Content::File(extents) } => {
                inode.mtime = time;
                Ok((inode, extents))
            }
            Node { inode, .. } => {
                let found = format!("inode {ino} with mode {:#o}", inode.mode);
                Err(Error::corrupt("inode of a log entry", at, "a regular file", found))
            }
        }
    }

    fn directory(&mut self, ino: u64) -> Result<(&mut Inode, &mut Directory)> {
        let at = self.at;
        match self.node(ino)? {
            Node { inode, content: Content::Directory(directory) } => Ok((inode, directory)),
            Node { inode, .. } => {
                let found =
                    format!("inode {ino} with mode {:#o}, {} names", inode.mode, inode.nlink);
                Err(Error::corrupt("parent in a log entry", at, "a directory", found))
            }
        }
    }

    fn write(&mut self, ino: u64, extent: Extent) -> Result<()> {
        let (inode, extents) = self.file(ino)?;
        if extent.len > 0 {
            inode.size = inode.size.max(extent.file_offset + extent.len);
        }
        extents.insert(extent);
        Ok(())
    }

    fn truncate(&mut self, ino: u64, size: u64) -> Result<()> {
        let (inode, extents) = self.file(ino)?;
        inode.size = size;
        extents.truncate(size);
        Ok(())
    }

    fn set_attr(
        &mut self,
        ino: u64,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<()> {
        let inode = &mut self.node(ino)?.inode;
        if let Some(mode) = mode {
            let (kind, same) = (mode & mode::TYPE, inode.kind());
            if kind != 0 && kind != same {
                let expected = format!("type {same:#o}");
                return self.wrong("mode in a log entry", expected, format!("{mode:#o}"));
            }
            inode.mode = same | (mode & !mode::TYPE);
        }
        inode.uid = uid.unwrap_or(inode.uid);
        inode.gid = gid.unwrap_or(inode.gid);
        Ok(())
    }

    fn create(&mut self, parent: u64, name: Box<[u8]>, inode: Inode) -> Result<()> {
        let ino = inode.ino;
        if ino == 0 || self.base.contains(ino) || self.index.nodes.contains_key(&ino) {
            return self.wrong("number of a created inode", "one not in use", ino);
        }
        if self.child(parent, &name)?.is_some() {
            return self.wrong("name of a created inode", "one not in use", show(&name));
        }
        self.link(parent, name, ino, inode.is_dir())?;
        let content = match inode.kind() {
            mode::REGULAR => Content::File(Extents::default()),
            mode::DIRECTORY => Content::Directory(Box::new(Directory {
                base: None,
                parent: Some(parent),
                names: BTreeMap::new(),
            })),
            _ => Content::Plain,
        };
        self.index.nodes.insert(ino, Node { inode, content });
        Ok(())
    }

    fn delete(&mut self, parent: u64, name: Box<[u8]>, ino: u64) -> Result<()> {
        self.expect_child(parent, &name, ino)?;
        self.drop_link(ino)?;
        let directory = self.node(ino)?.inode.is_dir();
        self.unlink(parent, name, directory)
    }

    fn rename(
        &mut self,
        ino: u64,
        (old_parent, old_name): (u64, Box<[u8]>),
        (new_parent, new_name): (u64, Box<[u8]>),
    ) -> Result<()> {
        self.expect_child(old_parent, &old_name, ino)?;
        let moved = self.node(ino)?.inode;
        let replaced = self.child(new_parent, &new_name)?;
        // Two names of one inode: nothing happens, as in POSIX.
        if replaced == Some(ino) {
            return Ok(());
        }
        if moved.is_dir() && old_parent != new_parent {
            self.check_no_cycle(ino, new_parent)?;
            self.directory(ino)?.1.parent = Some(new_parent);
        }
        if let Some(replaced) = replaced {
            let kind = self.node(replaced)?.inode.kind();
            if (kind == mode::DIRECTORY) != moved.is_dir() {
                let found = format!("inode {replaced} with type {kind:#o}");
                return self.wrong("name replaced by a log entry", "the same kind", found);
            }
            self.drop_link(replaced)?;
            self.unlink(new_parent, new_name.clone(), moved.is_dir())?;
        }
        self.unlink(old_parent, old_name, moved.is_dir())?;
        self.link(new_parent, new_name, ino, moved.is_dir())
    }

    fn child(&mut self, parent: u64, name: &[u8]) -> Result<Option<u64>> {
        let directory = *self.directory(parent)?.0;
        self.index.lookup(self.base, &directory, name)
    }

    fn expect_child(&mut self, parent: u64, name: &[u8], ino: u64) -> Result<()> {
        match self.child(parent, name)? {
            Some(found) if found == ino => Ok(()),
            found => {
                let expected = format!("a name of inode {ino} in directory {parent}");
                let whose = found.map_or("nobody's".into(), |found| format!("inode {found}'s"));
                self.wrong("name in a log entry", expected, format!("{}, {whose}", show(name)))
            }
        }
    }

    /// Writes a name into a directory; its size counts its names, as in the base image.
    fn link(&mut self, parent: u64, name: Box<[u8]>, ino: u64, directory: bool) -> Result<()> {
        let time = self.time;
        let (inode, touched) = self.directory(parent)?;
        touched.names.insert(name, Some(ino));
        inode.mtime = time;
        inode.size = inode.size.saturating_add(DIRENT_SIZE);
        inode.nlink = inode.nlink.saturating_add(directory.into());
        Ok(())
    }

    fn unlink(&mut self, parent: u64, name: Box<[u8]>, directory: bool) -> Result<()> {
        let time = self.time;
        let (inode, touched) = self.directory(parent)?;
        // Only a name of the base needs a mark that it is gone.
        if touched.base.is_some() {
            touched.names.insert(name, None);
        } else {
            touched.names.remove(&name);
        }
        inode.mtime = time;
        inode.size = inode.size.saturating_sub(DIRENT_SIZE);
        inode.nlink = inode.nlink.saturating_sub(directory.into());
        Ok(())
    }

    /// An inode loses a name. A file without names stays: whoever had it open could still write.
    fn drop_link(&mut self, ino: u64) -> Result<()> {
        let node = self.node(ino)?;
        if !node.inode.is_dir() {
            node.inode.nlink = node.inode.nlink.saturating_sub(1);
            return Ok(());
        }
        if node.inode.size > 0 || ino == ROOT_INO {
            let found = format!("inode {ino} with {} names in it", node.inode.size / DIRENT_SIZE);
            return self.wrong("directory removed by a log entry", "an empty one", found);
        }
        node.inode.nlink = 0;
        node.content = Content::Plain;
        Ok(())
    }

    /// A directory must not be moved to below itself: nothing would lead to it any more.
    fn check_no_cycle(&mut self, moved: u64, into: u64) -> Result<()> {
        let mut at = into;
        for _ in 0..DEPTH_MAX {
            if at == moved {
                let found = format!("inode {into}, which is below inode {moved}");
                return self.wrong(
                    "parent in a RENAME",
                    "a directory outside the moved one",
                    found,
                );
            }
            if at == ROOT_INO {
                return Ok(());
            }
            let changed = self.index.directory(at).and_then(|directory| directory.parent);
            at = match changed {
                Some(parent) => parent,
                None => match self.base.parent(at)? {
                    Some(parent) => parent,
                    None => return self.wrong("parent in a RENAME", "one below the root", into),
                },
            };
        }
        let expected = format!("at most {DEPTH_MAX} directories deep");
        self.wrong("parent in a RENAME", expected, format!("inode {into}"))
    }
}

impl Node {
    fn from_base(mut inode: Inode, base: &Base) -> Self {
        let content = match inode.kind() {
            mode::REGULAR => {
                let mut extents = Extents::default();
                let (image_offset, len) = (inode.data, inode.size);
                extents.insert(Extent { file_offset: 0, image_offset, len });
                Content::File(extents)
            }
            mode::DIRECTORY => {
                let below = inode;
                // Counted from here on, so made a count of names whatever the base says.
                inode.size = base.dirent_count(&below) * DIRENT_SIZE;
                let (base, parent, names) = (Some(below), None, BTreeMap::new());
                Content::Directory(Box::new(Directory { base, parent, names }))
            }
            _ => Content::Plain,
        };
        Self { inode, content }
    }
}
