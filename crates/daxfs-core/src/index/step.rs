// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Logs applied: each entry's change, judged and made.

use std::fmt::Display;
use std::sync::Arc;

use super::xattrs::AttributeSet;
use super::{Content, DEPTH_MAX, Directory, Index, Node};
use crate::base::{Base, Inode};
use crate::delta::{self, Change, Cursor, Entry, LogSpace};
use crate::error::{Error, Result, show};
use crate::extents::{Extent, Extents};
use crate::format::{DIRENT_SIZE, FILE_NLINK_MAX, ROOT_INO, XATTR_SET_MAX, XattrSet, mode};
use crate::map::Map;
use crate::name::Name;
use crate::region::Region;

impl Index {
    /// Applies a log from `cursor` on, up to `size` published bytes, oldest entry first; says
    /// where the next entry goes.
    pub fn replay(
        &mut self,
        base: &Base,
        region: &Region,
        space: &LogSpace,
        cursor: Cursor,
        size: u64,
    ) -> Result<Cursor> {
        let mut scan = delta::scan(region, space, cursor, size);
        let mut late = Late::default();
        for entry in scan.by_ref() {
            let entry = entry?;
            let write = matches!(entry.change, Change::Write { .. } | Change::Extent { .. });
            if !write || late.file != Some(entry.ino) {
                self.lay(&mut late);
            }
            self.step(base, entry, &mut late)?;
        }
        self.lay(&mut late);
        Ok(scan.cursor())
    }

    /// Makes up for what was put off.
    fn lay(&mut self, late: &mut Late) {
        if let Some(ino) = late.file.take()
            && !late.runs.is_empty()
            && let Some(Node { content: Content::File(extents), .. }) = self.nodes.get_mut(&ino)
        {
            extents.insert_all(&late.runs);
            late.runs.clear();
        }
    }

    /// Marks a file as modified at a time that no entry tells yet.
    pub(crate) fn touch(&mut self, base: &Base, ino: u64, time: i64) -> Result<()> {
        let mut step = Step { index: self, base, at: 0, time };
        step.file(ino).map(drop)
    }

    /// Makes one entry's change, or says why it cannot be made; then the index is of no more use.
    pub fn apply(&mut self, base: &Base, entry: Entry) -> Result<()> {
        self.step(base, entry, &mut Late::default())
    }

    fn step(&mut self, base: &Base, entry: Entry, late: &mut Late) -> Result<()> {
        let Entry { at, ino, time, change } = entry;
        let mut step = Step { index: self, base, at, time };
        match change {
            Change::Write { offset, data, len } => {
                let extent = Extent { file_offset: offset, image_offset: data, len, in_log: true };
                step.write(ino, extent, false, late)
            }
            Change::Extent { offset, len, image_offset, keep_size } => {
                let extent = Extent { file_offset: offset, image_offset, len, in_log: false };
                step.write(ino, extent, keep_size, late)
            }
            Change::Punch { offset, len } => step.punch(ino, offset, len),
            // Plain v3 records no owner.
            Change::Create { parent, ino, mode, name } => {
                step.create(parent, name, Inode { ino, mode, ..Inode::default() }, None)
            }
            Change::Mknod { parent, mode, uid, gid, rdev, name, target } => step.create(
                parent,
                name,
                Inode { ino, mode, uid, gid, rdev, ..Inode::default() },
                target,
            ),
            Change::Symlink { parent, ino, name, target } => {
                let mode = mode::SYMLINK | 0o777;
                step.create(parent, name, Inode { ino, mode, ..Inode::default() }, Some(target))
            }
            Change::Link { parent, name } => step.link(parent, name, ino),
            Change::Delete { parent, name } => step.delete(parent, name, ino),
            Change::Truncate { size } => step.truncate(ino, size),
            Change::Rename { ino, old_parent, new_parent, old_name, new_name, exchange: true } => {
                step.exchange(ino, (old_parent, old_name), (new_parent, new_name))
            }
            Change::Rename { ino, old_parent, new_parent, old_name, new_name, exchange: false } => {
                step.rename(ino, (old_parent, old_name), (new_parent, new_name))
            }
            Change::SetAttr { mode, uid, gid, size, atime, mtime, ctime } => {
                step.set_attr(ino, mode, uid, gid)?;
                if let Some(size) = size {
                    step.truncate(ino, size)?;
                }
                let inode = &mut step.node(ino)?.inode;
                inode.atime = atime.unwrap_or(inode.atime);
                inode.mtime = mtime.unwrap_or(inode.mtime);
                inode.ctime = ctime.unwrap_or(time);
                Ok(())
            }
            Change::SetXattr { name, value } => step.set_xattr(ino, name, value),
        }
    }
}

/// Where bytes lie that were written to a file right after others: many are laid over it at once
/// for less than one by one.
#[derive(Default)]
struct Late {
    /// The file that was written last, and the end of what its extents were told at once.
    file: Option<u64>,
    end: u64,
    runs: Vec<Extent>,
}

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
        let Self { base, at, .. } = *self;
        self.index.nodes.get_or_insert_with(ino, || {
            if !base.contains(ino) {
                return Err(Error::corrupt("inode of a log entry", at, "one that exists", ino));
            }
            Ok(Node::from_base(base.inode(ino)?, base))
        })
    }

    /// A file whose bytes change.
    fn file(&mut self, ino: u64) -> Result<(&mut Inode, &mut Extents)> {
        let (at, time) = (self.at, self.time);
        match self.node(ino)? {
            Node { inode, content: Content::File(extents), .. } => {
                (inode.mtime, inode.ctime) = (time, time);
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
            Node { inode, content: Content::Directory(directory), .. } => {
                Ok((inode, Arc::make_mut(directory)))
            }
            Node { inode, .. } => {
                let found =
                    format!("inode {ino} with mode {:#o}, {} names", inode.mode, inode.nlink);
                Err(Error::corrupt("parent in a log entry", at, "a directory", found))
            }
        }
    }

    fn write(&mut self, ino: u64, extent: Extent, keep_size: bool, late: &mut Late) -> Result<()> {
        let (inode, extents) = self.file(ino)?;
        if extent.len > 0 && !keep_size {
            inode.size = inode.size.max(extent.end());
        }
        // What comes in order finds its place without being put off.
        let goes_on = late.runs.is_empty() && late.end <= extent.file_offset;
        if late.file.replace(ino) == Some(ino) && !goes_on {
            late.runs.push(extent);
        } else {
            late.end = extent.end();
            extents.insert(extent);
        }
        if inode.nlink == 0 {
            self.index.nameless.insert(ino, ());
        }
        Ok(())
    }

    fn punch(&mut self, ino: u64, offset: u64, len: u64) -> Result<()> {
        self.file(ino)?.1.remove(offset..offset + len);
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

    fn set_xattr(&mut self, ino: u64, name: Box<[u8]>, value: Option<Box<[u8]>>) -> Result<()> {
        let Self { base, at, time, .. } = *self;
        let node = self.node(ino)?;
        node.inode.ctime = time;
        if node.xattrs.is_none() {
            let mut set = AttributeSet::default();
            for (name, value) in base.xattrs(&node.inode)? {
                set.insert(name.into(), value.into());
            }
            node.xattrs = Some(Arc::new(set));
        }
        let xattrs = Arc::make_mut(node.xattrs.as_mut().expect("made above"));
        match value {
            Some(value) => {
                xattrs.insert(name, value);
                let size = size_of::<XattrSet>() + xattrs.stored;
                if size > XATTR_SET_MAX {
                    let limit = format!("at most {XATTR_SET_MAX}");
                    return Err(Error::corrupt("bytes of an attribute set", at, limit, size));
                }
            }
            None if !xattrs.remove(&name) => {
                let expected = "one that there is";
                return Err(Error::corrupt("name in an XATTR", at, expected, show(&name)));
            }
            None => {}
        }
        Ok(())
    }

    fn create(
        &mut self,
        parent: u64,
        name: Name,
        inode: Inode,
        target: Option<Box<[u8]>>,
    ) -> Result<()> {
        let (ino, time, directory) = (inode.ino, self.time, inode.is_dir());
        let content = match (inode.kind(), &target) {
            (mode::REGULAR, _) => Content::File(Extents::default()),
            (mode::DIRECTORY, _) => Content::Directory(Arc::new(Directory {
                base: None,
                parent: Some(parent),
                names: Map::default(),
            })),
            (_, Some(target)) => Content::Symlink(target[..].into()),
            _ => Content::Plain,
        };
        let size = target.map_or(0, |target| target.len() as u64);
        let nlink = 1 + u32::from(directory);
        let inode = Inode { size, nlink, atime: time, mtime: time, ctime: time, ..inode };
        let taken = ino == 0
            || self.base.contains(ino)
            || self
                .index
                .nodes
                .insert(ino, Node { inode, content, xattrs: None, gone: false })
                .is_some();
        if taken {
            return self.wrong("number of a created inode", "one not in use", ino);
        }
        if ino == parent {
            let found = format!("inode {ino} itself");
            return self.wrong("parent in a log entry", "a directory", found);
        }
        self.add_name(parent, name, ino, directory)
    }

    fn link(&mut self, parent: u64, name: Name, ino: u64) -> Result<()> {
        let time = self.time;
        let Node { inode, gone, .. } = self.node(ino)?;
        if inode.is_dir() || inode.nlink >= FILE_NLINK_MAX || *gone {
            let found = format!("mode {:#o}, {} names", inode.mode, inode.nlink);
            let expected = format!("no directory, in use, with fewer than {FILE_NLINK_MAX} names");
            return self.wrong("inode of a LINK", expected, found);
        }
        inode.nlink += 1;
        inode.ctime = time;
        if inode.nlink == 1 {
            self.index.nameless.remove(&ino);
        }
        self.add_name(parent, name, ino, false)
    }

    fn delete(&mut self, parent: u64, name: Name, ino: u64) -> Result<()> {
        self.expect_child(parent, &name, ino)?;
        let directory = self.drop_name_of(ino)?;
        self.remove_name(parent, &name, directory)
    }

    fn rename(
        &mut self,
        ino: u64,
        (old_parent, old_name): (u64, Name),
        (new_parent, new_name): (u64, Name),
    ) -> Result<()> {
        self.expect_child(old_parent, &old_name, ino)?;
        let replaced = self.child(new_parent, &new_name)?;
        // Two names of one inode: nothing happens, as in POSIX.
        if replaced == Some(ino) {
            return Ok(());
        }
        let directory = self.moved(ino, old_parent, new_parent)?;
        if let Some(replaced) = replaced {
            let kind = self.node(replaced)?.inode.kind();
            if (kind == mode::DIRECTORY) != directory {
                let found = format!("inode {replaced} with type {kind:#o}");
                return self.wrong("name replaced by a log entry", "the same kind", found);
            }
            self.drop_name_of(replaced)?;
            self.remove_name(new_parent, &new_name, directory)?;
        }
        self.remove_name(old_parent, &old_name, directory)?;
        self.add_name(new_parent, new_name, ino, directory)
    }

    /// Swaps the inodes of two names.
    fn exchange(&mut self, ino: u64, old: (u64, Name), new: (u64, Name)) -> Result<()> {
        self.expect_child(old.0, &old.1, ino)?;
        let Some(other) = self.child(new.0, &new.1)? else {
            let found = format!("{}, nobody's", show(&new.1));
            return self.wrong("name in a log entry", "one that exists", found);
        };
        if other == ino {
            return Ok(());
        }
        let directory = self.moved(ino, old.0, new.0)?;
        let other_directory = self.moved(other, new.0, old.0)?;
        self.remove_name(old.0, &old.1, directory)?;
        self.remove_name(new.0, &new.1, other_directory)?;
        self.add_name(old.0, old.1, other, other_directory)?;
        self.add_name(new.0, new.1, ino, directory)
    }

    /// An inode goes from one directory to another; says whether it is a directory.
    fn moved(&mut self, ino: u64, from: u64, to: u64) -> Result<bool> {
        let time = self.time;
        let inode = &mut self.node(ino)?.inode;
        inode.ctime = time;
        let directory = inode.is_dir();
        if directory && from != to {
            self.check_no_cycle(ino, to)?;
            self.directory(ino)?.1.parent = Some(to);
        }
        Ok(directory)
    }

    fn child(&mut self, parent: u64, name: &[u8]) -> Result<Option<u64>> {
        let base = self.base;
        let (_, directory) = self.directory(parent)?;
        match (directory.name(name), &directory.base) {
            (Some(changed), _) => Ok(changed),
            (None, Some(below)) => base.lookup(below, name),
            (None, None) => Ok(None),
        }
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

    /// Writes a new name into a directory, whose size counts its names, as in the base image.
    fn add_name(&mut self, parent: u64, name: Name, ino: u64, directory: bool) -> Result<()> {
        let Self { base, at, time, .. } = *self;
        let (inode, Directory { base: below, names, .. }) = self.directory(parent)?;
        let taken = |name: &[u8]| {
            Err(Error::corrupt("new name in a log entry", at, "one not in use", show(name)))
        };
        let in_base = |name: &[u8]| match &*below {
            Some(below) => base.lookup(below, name).map(|found| found.is_some()),
            None => Ok(false),
        };
        if in_base(&name)? {
            match names.get_mut(&name) {
                Some(removed) if *removed == 0 => *removed = ino,
                _ => return taken(&name),
            }
        } else if let Some(name) = names.insert_new(name, ino) {
            return taken(&name);
        }
        (inode.mtime, inode.ctime) = (time, time);
        inode.size = inode.size.saturating_add(DIRENT_SIZE);
        inode.nlink = inode.nlink.saturating_add(directory.into());
        Ok(())
    }

    fn remove_name(&mut self, parent: u64, name: &Name, directory: bool) -> Result<()> {
        let time = self.time;
        let base = self.base;
        let (inode, Directory { base: below, names, .. }) = self.directory(parent)?;
        // Only a name of the base needs a mark that it is gone.
        match below {
            Some(below) if base.lookup(below, name)?.is_some() => {
                names.insert(name.clone(), 0);
            }
            _ => {
                names.remove(name);
            }
        }
        (inode.mtime, inode.ctime) = (time, time);
        inode.size = inode.size.saturating_sub(DIRENT_SIZE);
        inode.nlink = inode.nlink.saturating_sub(directory.into());
        Ok(())
    }

    /// An inode loses a name; says whether it is a directory. A file without names stays: whoever
    /// had it open could still write.
    fn drop_name_of(&mut self, ino: u64) -> Result<bool> {
        let time = self.time;
        let node = self.node(ino)?;
        node.inode.ctime = time;
        if !node.inode.is_dir() {
            node.inode.nlink = node.inode.nlink.saturating_sub(1);
            if node.inode.nlink == 0 && matches!(node.content, Content::File(_)) {
                self.index.nameless.insert(ino, ());
            }
            return Ok(false);
        }
        if node.inode.size > 0 || ino == ROOT_INO {
            let found = format!("inode {ino} with {} names in it", node.inode.size / DIRENT_SIZE);
            return self.wrong("directory removed by a log entry", "an empty one", found);
        }
        node.inode.nlink = 0;
        node.content = Content::Plain;
        Ok(true)
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
            at = match self.index.parent(self.base, at)? {
                Some(parent) => parent,
                None => return self.wrong("parent in a RENAME", "one below the root", into),
            };
        }
        let expected = format!("at most {DEPTH_MAX} directories deep");
        self.wrong("parent in a RENAME", expected, format!("inode {into}"))
    }
}
