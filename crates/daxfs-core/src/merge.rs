// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entries that lead from the base image straight to what an index shows: what a fold writes.
//!
//! Names cannot simply be set one after the other, since they may have changed places. So
//! directories that moved are parked in the root first, then every name that is gone is removed,
//! from the bottom up; after that no name is in the way of another, and directories, from the top
//! down, and files get theirs. Times come last, since everything else changes them.
//!
//! Inodes without names are left out: no layer has entries for one that lost its last name in a
//! layer below.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::{Base, Inode};
use crate::delta::{Change, Entry, encode};
use crate::error::{Error, Result};
use crate::extents::{Extent, Extents};
use crate::format::ROOT_INO;
use crate::index::{Directory, Index, Xattrs};
use crate::name::Name;

/// Most bytes of one WRITE.
const WRITE_MAX: u64 = 1 << 30;

/// An entry to be: inode of its header, time, and what it does.
pub type Merged = (u64, i64, Change);

/// Entries that, replayed over the base alone, give the tree of `index`.
pub fn merge(base: &Base, index: &Index) -> Result<Vec<Merged>> {
    let mut merge = Merge::new(base, index)?;
    merge.park_directories()?;
    merge.remove_names()?;
    merge.place_directories()?;
    merge.make_files()?;
    merge.finish_directories()?;
    Ok(merge.entries)
}

/// Bytes that entries take in a log.
pub fn bytes_of(entries: &[Merged]) -> u64 {
    let mut buffer = Vec::new();
    let each = entries.iter().map(|(ino, time, change)| {
        // Bytes in a log go along with their entry; they need not be here to be counted.
        let (change, data) = match change {
            Change::Write { offset, data, len } => {
                (Change::Write { offset: *offset, data: *data, len: 0 }, *len)
            }
            other => (other.clone(), 0),
        };
        buffer.clear();
        encode(&mut buffer, *ino, *time, &change, &[]);
        buffer.len() as u64 + data.next_multiple_of(8)
    });
    each.sum()
}

/// Whether entries of a merge can be replayed. A directory can be moved to a limited depth only, and
/// may lie deeper since others above it were moved.
pub fn is_replayable(base: &Base, entries: &[Merged]) -> bool {
    let mut index = Index::default();
    entries.iter().all(|(ino, time, change)| {
        let entry = Entry { at: 0, ino: *ino, time: *time, change: change.clone() };
        index.apply(base, entry).is_ok()
    })
}

/// A name in a directory, and its inode.
#[derive(Debug, Clone)]
struct Link {
    parent: u64,
    name: Name,
    ino: u64,
}

struct Merge<'a> {
    base: &'a Base,
    index: &'a Index,
    /// Names of directories that the base has and the tree has not.
    lost_directories: Vec<Link>,
    /// The same of everything else.
    lost_files: Vec<Link>,
    /// Names of directories that the tree has and the base has not, by inode: each has one.
    new_directories: HashMap<u64, Link>,
    /// The same of everything else, in the order of inodes.
    new_files: Vec<Link>,
    /// Names in the root under which directories are parked.
    parked: HashMap<u64, Name>,
    entries: Vec<Merged>,
}

impl<'a> Merge<'a> {
    /// Compares the names of the touched directories with those of the base.
    fn new(base: &'a Base, index: &'a Index) -> Result<Self> {
        let mut merge = Self {
            base,
            index,
            lost_directories: Vec::new(),
            lost_files: Vec::new(),
            new_directories: HashMap::new(),
            new_files: Vec::new(),
            parked: HashMap::new(),
            entries: Vec::new(),
        };
        for inode in index.inodes().filter(|inode| inode.is_dir()) {
            match index.directory(inode.ino) {
                Some(directory) => merge.compare_names(inode.ino, directory)?,
                None if base.contains(inode.ino) => {
                    for entry in base.dirents(base.inode(inode.ino)?) {
                        let entry = entry?;
                        merge.lose(inode.ino, Name::from(entry.name()), entry.ino())?;
                    }
                }
                None => {}
            }
        }
        // Names of one file stay in the order of their directories.
        merge.new_files.sort_by_key(|link| link.ino);
        Ok(merge)
    }

    fn compare_names(&mut self, parent: u64, directory: &Directory) -> Result<()> {
        for (name, now) in directory.names() {
            let below = directory.base().map(|below| self.base.lookup(below, name)).transpose()?;
            let before = below.flatten();
            if before == now {
                continue;
            }
            if let Some(ino) = before {
                self.lose(parent, name.clone(), ino)?;
            }
            if let Some(ino) = now {
                let link = Link { parent, name: name.clone(), ino };
                if self.inode(ino)?.is_dir() {
                    self.new_directories.insert(ino, link);
                } else {
                    self.new_files.push(link);
                }
            }
        }
        Ok(())
    }

    fn lose(&mut self, parent: u64, name: Name, ino: u64) -> Result<()> {
        let link = Link { parent, name, ino };
        if self.inode(ino)?.is_dir() {
            self.lost_directories.push(link);
        } else {
            self.lost_files.push(link);
        }
        Ok(())
    }

    fn inode(&self, ino: u64) -> Result<Inode> {
        self.index.inode(ino).map_or_else(|| self.base.inode(ino), |inode| Ok(*inode))
    }

    /// Time of an entry that touches an inode: so most need no other to set its times.
    fn time(&self, ino: u64) -> i64 {
        self.index.inode(ino).map_or(0, |inode| inode.ctime.max(0))
    }

    fn push(&mut self, ino: u64, time: i64, change: Change) {
        self.entries.push((ino, time, change));
    }

    /// Directories of the base that are somewhere else now go to the root under names of no one.
    fn park_directories(&mut self) -> Result<()> {
        let root = self.base.inode(ROOT_INO)?;
        for Link { parent, name, ino } in std::mem::take(&mut self.lost_directories) {
            if !self.new_directories.contains_key(&ino) {
                self.lost_directories.push(Link { parent, name, ino });
                continue;
            }
            let mut parked = Name::from(&b""[..]);
            for attempt in 0u64.. {
                parked = Name::from(format!(".moved-{ino}-{attempt}").as_bytes());
                let taken = self.base.lookup(&root, &parked)?.is_some()
                    || self.index.lookup(self.base, &root, &parked)?.is_some();
                if !taken {
                    break;
                }
            }
            self.rename(ino, (parent, name), (ROOT_INO, parked.clone()));
            self.parked.insert(ino, parked);
        }
        Ok(())
    }

    fn rename(&mut self, ino: u64, old: (u64, Name), new: (u64, Name)) {
        let ((old_parent, old_name), (new_parent, new_name)) = (old, new);
        let change =
            Change::Rename { ino, old_parent, new_parent, old_name, new_name, exchange: false };
        self.push(ino, self.time(ino), change);
    }

    /// Files first, then directories that are no more, each before the one it lies in.
    fn remove_names(&mut self) -> Result<()> {
        let mut directories = std::mem::take(&mut self.lost_directories);
        let parents = directories.iter().map(|link| (link.ino, link.parent)).collect();
        let depths = self.depths(&parents, |_| Ok(None))?;
        directories.sort_by_key(|link| Reverse(depths[&link.ino]));
        let files = std::mem::take(&mut self.lost_files);
        for Link { parent, name, ino } in files.iter().chain(&directories).cloned() {
            self.push(ino, self.time(ino), Change::Delete { parent, name });
        }
        self.lost_files = files;
        Ok(())
    }

    /// Directories that are new or were parked, each after the one it lies in.
    fn place_directories(&mut self) -> Result<()> {
        let new = std::mem::take(&mut self.new_directories);
        let parents = new.iter().map(|(ino, link)| (*ino, link.parent)).collect();
        // Above a directory of the base that stayed where it was, there can only be new ones if
        // directories of the base moved.
        let depths = self.depths(&parents, |ino| {
            if self.parked.is_empty() {
                return Ok(None);
            }
            self.index.parent(self.base, ino)
        })?;
        let mut links: Vec<_> = new.into_values().collect();
        links.sort_by_key(|link| (depths[&link.ino], link.ino));
        for Link { parent, name, ino } in links {
            match self.parked.get(&ino).cloned() {
                Some(parked) => self.rename(ino, (ROOT_INO, parked), (parent, name)),
                None => {
                    let inode = self.inode(ino)?;
                    self.mknod(&inode, parent, name);
                }
            }
        }
        Ok(())
    }

    /// How many of the directories in `parents` each of them lies below; `above` leads on from
    /// directories that are not among them.
    fn depths(
        &self,
        parents: &HashMap<u64, u64>,
        above: impl Fn(u64) -> Result<Option<u64>>,
    ) -> Result<HashMap<u64, usize>> {
        // More directories than there are: some came twice.
        let most = parents.len() + self.base.inode_count() as usize;
        let mut depths: HashMap<u64, usize> = HashMap::with_capacity(parents.len());
        let mut path = Vec::new();
        for start in parents.keys() {
            let mut at = Some(*start);
            let mut depth = 0;
            while let Some(ino) = at {
                if let Some(known) = depths.get(&ino) {
                    depth = *known;
                    break;
                }
                path.push(ino);
                if path.len() > most {
                    let at = self.base.inode_offset(ino);
                    return Err(Error::corrupt("directory", at, "one below the root", "a cycle"));
                }
                at = match parents.get(&ino) {
                    Some(parent) => Some(*parent),
                    None => above(ino)?,
                };
            }
            while let Some(ino) = path.pop() {
                depth += 1;
                depths.insert(ino, depth);
            }
        }
        Ok(depths)
    }

    fn mknod(&mut self, inode: &Inode, parent: u64, name: Name) {
        let Inode { ino, mode, uid, gid, rdev, .. } = *inode;
        let target = self.index.target(ino).map(Into::into);
        let change = Change::Mknod { parent, mode, uid, gid, rdev, name, target };
        self.push(ino, inode.atime.max(0), change);
    }

    /// Everything but directories: names, bytes, attributes, times, inode by inode.
    fn make_files(&mut self) -> Result<()> {
        let lost: HashSet<u64> = self.lost_files.iter().map(|link| link.ino).collect();
        let links = std::mem::take(&mut self.new_files);
        let mut links = links.into_iter().peekable();
        let index = self.index;
        for inode in index.inodes().filter(|inode| !inode.is_dir()) {
            let ino = inode.ino;
            let old = self.old(ino)?;
            let mut names = std::iter::from_fn(|| links.next_if(|link| link.ino == ino));
            let first = names.next();
            if first.is_none() && (old.is_none() || inode.nlink == 0) {
                continue;
            }
            let mut state = old.unwrap_or(Inode { atime: inode.atime.max(0), ..*inode });
            let begun = self.entries.len();
            let mut linked = first;
            if old.is_none()
                && let Some(Link { parent, name, .. }) = linked.take()
            {
                self.mknod(inode, parent, name);
                (state.mtime, state.ctime) = (state.atime, state.atime);
            }
            let made = self.entries.len() - begun;
            for Link { parent, name, .. } in linked.into_iter().chain(names) {
                self.push(ino, self.time(ino), Change::Link { parent, name });
            }
            let before = self.entries.len();
            if let Some(extents) = self.index.extents(ino) {
                self.contents(inode, old.as_ref(), extents);
            }
            if self.entries.len() > before {
                state.mtime = self.time(ino);
            }
            self.attributes(ino, old.as_ref())?;
            if self.entries.len() > begun + made || lost.contains(&ino) {
                state.ctime = self.time(ino);
            }
            self.finish(inode, &state, false);
        }
        Ok(())
    }

    /// The inode as the base has it, if it is the base's.
    fn old(&self, ino: u64) -> Result<Option<Inode>> {
        self.base.contains(ino).then(|| self.base.inode(ino)).transpose()
    }

    /// What makes a file's bytes of those of the base.
    fn contents(&mut self, inode: &Inode, old: Option<&Inode>, extents: &Extents) {
        let (ino, size) = (inode.ino, inode.size);
        let time = self.time(ino);
        let before = old.map_or(0, |old| old.size);
        let runs: Vec<Extent> = extents.overlapping(0..u64::MAX).collect();
        let kept = |run: &Extent| {
            // Bytes of the base never lie anywhere else in a file.
            old.is_some_and(|old| {
                let in_base = old.data..old.data.saturating_add(old.size);
                in_base.contains(&run.image_offset)
            })
        };
        let reached = runs.iter().filter(|run| !kept(run) && run.end() <= size).map(Extent::end);
        let reached = reached.max().unwrap_or(0).max(before);
        if reached != size {
            self.push(ino, time, Change::Truncate { size });
        }
        let mut end = 0;
        let last = before.min(size);
        let starts = runs.iter().map(|run| (run.file_offset, run.end())).chain([(last, last)]);
        for (start, next) in starts {
            let hole = end..start.min(last);
            if !hole.is_empty() {
                let (offset, len) = (hole.start, hole.end - hole.start);
                self.push(ino, time, Change::Punch { offset, len });
            }
            end = end.max(next);
        }
        for run in runs.iter().filter(|run| !kept(run)) {
            let Extent { file_offset: offset, image_offset, len, in_log } = *run;
            if !in_log {
                let keep_size = run.end() > size;
                self.push(ino, time, Change::Extent { offset, len, image_offset, keep_size });
                continue;
            }
            let mut done = 0;
            while done < len {
                let len = (len - done).min(WRITE_MAX);
                let (offset, data) = (offset + done, image_offset + done);
                self.push(ino, time, Change::Write { offset, data, len });
                done += len;
            }
        }
    }

    /// Extended attributes: what goes or changes goes first, so that a set is never too large.
    fn attributes(&mut self, ino: u64, old: Option<&Inode>) -> Result<()> {
        let Some(now) = self.index.xattrs(ino) else { return Ok(()) };
        let before: Xattrs = match old {
            Some(old) => self.base.xattrs(old)?.into_iter().map(boxed).collect(),
            None => BTreeMap::new(),
        };
        let time = self.time(ino);
        let gone = before.iter().filter(|(name, value)| now.get(*name) != Some(*value));
        for (name, _) in gone {
            self.push(ino, time, Change::SetXattr { name: name.clone(), value: None });
        }
        let new = now.iter().filter(|(name, value)| before.get(*name) != Some(*value));
        for (name, value) in new {
            let (name, value) = (name.clone(), Some(value.clone()));
            self.push(ino, time, Change::SetXattr { name, value });
        }
        Ok(())
    }

    fn finish_directories(&mut self) -> Result<()> {
        let root = self.inode(ROOT_INO)?;
        // Parking touches the root, whether or not anything else did.
        let untouched = self.index.inode(ROOT_INO).is_none() && !self.parked.is_empty();
        let touched = self.index.inodes().filter(|inode| inode.is_dir() && inode.nlink > 0);
        for inode in untouched.then_some(&root).into_iter().chain(touched) {
            let old = self.old(inode.ino)?;
            self.attributes(inode.ino, old.as_ref())?;
            // Names changed its times: to what does not matter any more.
            let state = old.unwrap_or(Inode { atime: inode.atime.max(0), ..*inode });
            self.finish(inode, &state, true);
        }
        Ok(())
    }

    /// One entry for everything in which an inode differs from `state`; the modification time
    /// too if `names` may have changed it.
    fn finish(&mut self, inode: &Inode, state: &Inode, names: bool) {
        fn changed<T: PartialEq>(now: T, before: T) -> Option<T> {
            (now != before).then_some(now)
        }
        let (uid, gid) = (changed(inode.uid, state.uid), changed(inode.gid, state.gid));
        let mode = changed(inode.mode, state.mode);
        let atime = changed(inode.atime, state.atime);
        let mtime = if names { Some(inode.mtime) } else { changed(inode.mtime, state.mtime) };
        let same = [mode, uid, gid] == [None; 3] && [atime, mtime] == [None; 2];
        if same && inode.ctime == state.ctime {
            return;
        }
        // The entry's own time does where it can.
        let ctime = (inode.ctime < 0).then_some(inode.ctime);
        let change = Change::SetAttr { mode, uid, gid, size: None, atime, mtime, ctime };
        self.push(inode.ino, inode.ctime.max(0), change);
    }
}

fn boxed((name, value): (Vec<u8>, Vec<u8>)) -> (Box<[u8]>, Box<[u8]>) {
    (name.into(), value.into())
}
