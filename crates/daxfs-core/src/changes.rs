// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What changed from one tree of an image to another: paths added, changed and removed.
//!
//! Where both trees lie over one base, what neither of their chains touched is not looked at.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use crate::base::{Base, Inode};
use crate::diff::{DiffOptions, path_order};
use crate::error::{Error, Result, show};
use crate::format::{ROOT_INO, mode};
use crate::index::{Directory, Index};
use crate::progress::Progress;
use crate::view::{BYTES_PER_NAME, Entry, Extent, View};

/// Bytes compared at once.
const PIECE: u64 = 256 << 10;

/// A path that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Path from the root; the root's own is empty.
    pub path: Vec<u8>,
    /// What it named; absent if it was added.
    pub before: Option<Inode>,
    /// What it names; absent if it was removed.
    pub after: Option<Inode>,
    /// What differs, where it was there all along.
    pub aspects: Vec<Aspect>,
}

impl PathChange {
    /// What became of the path, in a word.
    pub fn kind(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        }
    }
}

/// What can differ in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Its type; then nothing else is compared.
    Type,
    /// Bytes of a regular file.
    Content,
    /// Target of a symbolic link.
    Target,
    /// Device number.
    Device,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// Modification time.
    Mtime,
    /// Extended attributes.
    Xattrs,
}

impl Aspect {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Target => "target",
            Self::Device => "device",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Xattrs => "xattrs",
        }
    }
}

/// Every path that differs between two trees, in order of paths. What is below an added or removed
/// directory is listed, too. A directory's time is not reported where names in it are.
pub fn between(
    before: &View,
    after: &View,
    options: DiffOptions,
    progress: &Progress,
) -> Result<Vec<PathChange>> {
    let one_base = std::sync::Arc::ptr_eq(before.image(), after.image());
    let comparison = Comparison {
        before,
        after,
        options,
        touched: one_base.then(|| Touched::find(before, after)).transpose()?,
    };
    let mut changes = comparison.walk(progress)?;
    // Stable and unique: each path is reported once.
    changes.sort_by(|a, b| path_order(&a.path, &b.path));
    Ok(changes)
}

/// Which inodes can differ between two trees over one base.
struct Touched {
    inodes: HashSet<u64>,
    /// Directories with such an inode somewhere below.
    above: HashSet<u64>,
}

impl Touched {
    fn find(before: &View, after: &View) -> Result<Self> {
        let indexes = || before.index().into_iter().chain(after.index());
        let mut inodes = HashSet::new();
        for inode in indexes().flat_map(Index::inodes) {
            let state = |view: &View| {
                let inode = view.inode(inode.ino)?;
                Ok::<_, Error>((inode, view.extents(&inode)?, view.xattrs(&inode)?))
            };
            // An inode that is in one tree alone was made there; numbers are not used twice.
            let same = || state(before).is_ok_and(|old| state(after).is_ok_and(|new| old == new));
            if inode.is_dir() || !same() {
                inodes.insert(inode.ino);
            }
        }
        let mut above = HashSet::new();
        if !inodes.is_empty() {
            let mut parents: HashMap<u64, Vec<u64>> = HashMap::new();
            base_parents(before.image().base(), &inodes, &mut parents)?;
            for index in indexes() {
                for directory in index.inodes() {
                    for child in index.directory(directory.ino).into_iter().flat_map(children) {
                        parents.entry(child).or_default().push(directory.ino);
                    }
                }
            }
            let mut pending: Vec<u64> = inodes.iter().copied().collect();
            while let Some(ino) = pending.pop() {
                for parent in parents.get(&ino).into_iter().flatten() {
                    if above.insert(*parent) {
                        pending.push(*parent);
                    }
                }
            }
        }
        Ok(Self { inodes, above })
    }
}

/// What the names that a touched directory has besides those of the base stand for.
fn children(directory: &Directory) -> impl Iterator<Item = u64> {
    directory.names().filter_map(|(_, ino)| ino)
}

/// Notes in which directories of the base other directories, and `inodes`, are.
fn base_parents(
    base: &Base,
    inodes: &HashSet<u64>,
    parents: &mut HashMap<u64, Vec<u64>>,
) -> Result<()> {
    // Directories that share their bytes could make this endless; sound ones lie apart.
    let range = base.range();
    let mut room = range.end - range.start;
    for ino in 1..=base.inode_count().into() {
        let directory = base.inode(ino)?;
        if !directory.is_dir() {
            continue;
        }
        room = room.checked_sub(directory.size).ok_or_else(|| {
            let (at, limit) = (base.inode_offset(ino) + 16, format!("at most {room:#x}"));
            Error::corrupt("size of a directory", at, limit, directory.size)
        })?;
        for entry in base.dirents(directory) {
            let entry = entry?;
            let is_dir = entry.mode() & mode::TYPE == mode::DIRECTORY;
            if is_dir || inodes.contains(&entry.ino()) {
                parents.entry(entry.ino()).or_default().push(ino);
            }
        }
    }
    Ok(())
}

struct Comparison<'a> {
    before: &'a View,
    after: &'a View,
    options: DiffOptions,
    /// Absent if the trees have nothing in common.
    touched: Option<Touched>,
}

/// A path that is to be compared: what it names on either side.
struct Pair {
    path: Vec<u8>,
    before: Option<Inode>,
    after: Option<Inode>,
}

impl Comparison<'_> {
    fn walk(&self, progress: &Progress) -> Result<Vec<PathChange>> {
        let root = |view: &View| view.inode(ROOT_INO).map(Some);
        let (before, after) = (root(self.before)?, root(self.after)?);
        let mut pending = vec![Pair { path: Vec::new(), before, after }];
        let mut changes = Vec::new();
        let (mut seen_before, mut seen_after) = (Seen::new(self.before), Seen::new(self.after));
        while let Some(Pair { path, before, after }) = pending.pop() {
            progress.check()?;
            progress.advance(1, 0);
            let old = seen_before.enter(&path, before.as_ref())?;
            let new = seen_after.enter(&path, after.as_ref())?;
            let names_changed = self.merge(&path, old, new, &mut pending)?;
            let aspects = match (&before, &after) {
                (Some(before), Some(after)) => {
                    self.compare(before, after, names_changed, progress)?
                }
                _ => Vec::new(),
            };
            if before.is_none() || after.is_none() || !aspects.is_empty() {
                changes.push(PathChange { path, before, after, aspects });
            }
        }
        Ok(changes)
    }

    /// Notes what is to be compared in a directory; says whether names came, went or changed hands.
    fn merge(
        &self,
        path: &[u8],
        old: Vec<Entry>,
        new: Vec<Entry>,
        pending: &mut Vec<Pair>,
    ) -> Result<bool> {
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        let mut changed = false;
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return Ok(changed),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.name.cmp(&new.name),
            };
            let old = if order.is_le() { old.next() } else { None };
            let new = if order.is_ge() { new.next() } else { None };
            let (before, after) = (old.as_ref().map(|e| e.ino), new.as_ref().map(|e| e.ino));
            if let Some(touched) = &self.touched {
                changed |= before != after;
                let ino = after.unwrap_or(0);
                let may_differ = touched.inodes.contains(&ino) || touched.above.contains(&ino);
                if before == after && !may_differ {
                    continue;
                }
            } else {
                changed |= before.is_none() || after.is_none();
            }
            let name = old.or(new).map(|entry| entry.name).unwrap_or_default();
            let path = if path.is_empty() { name } else { [path, b"/", &name].concat() };
            let before = before.map(|ino| self.before.inode(ino)).transpose()?;
            let after = after.map(|ino| self.after.inode(ino)).transpose()?;
            pending.push(Pair { path, before, after });
        }
    }

    fn compare(
        &self,
        before: &Inode,
        after: &Inode,
        names_changed: bool,
        progress: &Progress,
    ) -> Result<Vec<Aspect>> {
        if before.kind() != after.kind() {
            return Ok(vec![Aspect::Type]);
        }
        let options = self.options;
        let content = before.is_file() && self.contents_differ(before, after, progress)?;
        let target =
            before.is_symlink() && self.before.readlink(before)? != self.after.readlink(after)?;
        let mtime = !options.ignore_mtime && !names_changed && before.mtime != after.mtime;
        let owner = (before.uid, before.gid) != (after.uid, after.gid);
        let xattrs = !options.ignore_xattrs && {
            let (mut old, mut new) = (self.before.xattrs(before)?, self.after.xattrs(after)?);
            old.sort_unstable();
            new.sort_unstable();
            old != new
        };
        let found = [
            (Aspect::Content, content),
            (Aspect::Target, target),
            (Aspect::Device, before.rdev != after.rdev),
            (Aspect::Mode, before.mode != after.mode),
            (Aspect::Owner, !options.ignore_owner && owner),
            (Aspect::Mtime, mtime),
            (Aspect::Xattrs, xattrs),
        ];
        Ok(found.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect())
    }

    fn contents_differ(&self, before: &Inode, after: &Inode, progress: &Progress) -> Result<bool> {
        if before.size != after.size {
            return Ok(true);
        }
        let (old, new) = (self.before.data_extents(before)?, self.after.data_extents(after)?);
        let (mut old, mut new) = (Runs::new(&old), Runs::new(&new));
        let (mut here, mut there) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < before.size {
            let ((old, old_end), (new, new_end)) = (old.at(at), new.at(at));
            let end = old_end.min(new_end).min(before.size);
            // In one image, bytes at one place are the same bytes, and holes are holes in any.
            if old == new && (old.is_none() || self.touched.is_some()) {
                at = end;
                continue;
            }
            progress.check()?;
            let len = (end - at).min(PIECE);
            let sides =
                [(self.before, before, old, &mut here), (self.after, after, new, &mut there)];
            for (view, file, place, bytes) in sides {
                bytes.resize(len as usize, 0);
                match place {
                    Some(_) => view.read(file, at, bytes).map(drop)?,
                    None => bytes.fill(0),
                }
            }
            if here != there {
                return Ok(true);
            }
            at += len;
            progress.advance(0, len);
        }
        Ok(false)
    }
}

/// Goes along a file's extents.
struct Runs<'a> {
    rest: &'a [Extent],
}

impl<'a> Runs<'a> {
    fn new(extents: &'a [Extent]) -> Self {
        Self { rest: extents }
    }

    /// Where the byte at an offset lies, which must not go back, and up to where the next ones
    /// lie behind it; no place for a hole.
    fn at(&mut self, offset: u64) -> (Option<u64>, u64) {
        while let Some((run, rest)) = self.rest.split_first() {
            let end = run.file_offset + run.len;
            if end > offset {
                return match offset.checked_sub(run.file_offset) {
                    Some(inside) => (Some(run.image_offset + inside), end),
                    None => (None, run.file_offset),
                };
            }
            self.rest = rest;
        }
        (None, u64::MAX)
    }
}

/// Keeps the walk of a tree that is none from going on for ever.
struct Seen<'a> {
    view: &'a View,
    directories: HashSet<u64>,
    /// Names that may still come.
    room: u64,
}

impl<'a> Seen<'a> {
    fn new(view: &'a View) -> Self {
        let room = view.image().superblock().total_size.get() / BYTES_PER_NAME;
        Self { view, directories: HashSet::new(), room }
    }

    /// The names in `inode`, if it is a directory.
    fn enter(&mut self, path: &[u8], inode: Option<&Inode>) -> Result<Vec<Entry>> {
        let Some(inode) = inode.filter(|inode| inode.is_dir()) else { return Ok(Vec::new()) };
        let at = self.view.image().base().inode_offset(inode.ino);
        if !self.directories.insert(inode.ino) {
            let found = format!("a second one, {}", show(path));
            return Err(Error::corrupt("directory", at, "one name", found));
        }
        let entries = self.view.read_dir(inode)?;
        self.room = self.room.checked_sub(entries.len() as u64).ok_or_else(|| {
            let found = format!("more, up to {}", show(path));
            Error::corrupt("directory", at, "names that fit into the image", found)
        })?;
        Ok(entries)
    }
}
