// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A branch chain as one tree: look-up, directories, reading, walks.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::fence;

use crate::base::{Inode, Xattr};
use crate::branch::Table;
use crate::branch::look::look;
use crate::branch::record::EPOCH;
use crate::delta::LogSpace;
use crate::error::{Error, Result};
pub use crate::extents::Extent;
use crate::extents::Extents;
use crate::format::{BLOCK_SIZE, ROOT_INO, feature};
use crate::image::Image;
use crate::index::{DEPTH_MAX, Directory, Index};
use crate::opener::Pin;
use crate::region::DataView;

/// Fewest bytes of an image that a name takes: a dirent has 144, a log entry at least 49.
pub(crate) const BYTES_PER_NAME: u64 = 48;

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name's bytes.
    pub name: Vec<u8>,
    /// Inode number.
    pub ino: u64,
    /// Mode of the inode.
    pub mode: u32,
}

/// What to do with a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Go where it points.
    Follow,
    /// Take the link itself.
    Keep,
}

/// One branch's tree, as of the moment it was opened. A copy costs nothing.
#[derive(Debug, Clone)]
pub struct View {
    image: Arc<Image>,
    // What the branch's chain changed; absent where that is nothing.
    index: Option<Index>,
    guard: Guard,
}

/// What makes sure that blocks of branches still hold what they held.
#[derive(Debug, Clone)]
enum Guard {
    /// Nobody gives any back: there are none, or they are those of plain v3.
    None,
    /// They are kept as long as this is.
    Pin(#[expect(dead_code, reason = "it works by being held")] Arc<Pin>),
    /// Who is not registered looks after each copy whether the epoch of the beginning still is.
    Epoch(u64, Arc<str>),
}

impl View {
    /// The tree of the base image.
    pub fn base(image: Arc<Image>) -> Self {
        Self { image, index: None, guard: Guard::None }
    }

    /// The tree of a branch, found by replaying the logs of its chain.
    pub fn open(image: Arc<Image>, branch: &str) -> Result<Self> {
        let (view, epoch) = look(&image, |table| Self::replay(&image, table, branch))?;
        if !image.superblock().has(feature::BRANCHES) {
            return Ok(view);
        }
        Ok(Self { guard: Guard::Epoch(epoch, branch.into()), ..view })
    }

    pub(crate) fn replay(image: &Arc<Image>, table: &Table, branch: &str) -> Result<Self> {
        let space = LogSpace::of(image.superblock());
        let mut index = Index::default();
        if let Some(record) = table.find(branch)? {
            for layer in table.chain(record)? {
                let (region, base) = (image.region(), image.base());
                index.replay(base, region, &space, layer.log, layer.log_size)?;
            }
        }
        Ok(Self::new(Arc::clone(image), index))
    }

    /// The tree that an index lays over the base image.
    pub fn new(image: Arc<Image>, index: Index) -> Self {
        let index = (!index.is_empty()).then_some(index);
        Self { image, index, guard: Guard::None }
    }

    /// The same, while a pin keeps what it shows.
    pub(crate) fn pinned(image: Arc<Image>, index: Index, pin: Arc<Pin>) -> Self {
        Self { guard: Guard::Pin(pin), ..Self::new(image, index) }
    }

    /// The image that the tree lies in.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// What the branch's chain changed, if anything.
    pub(crate) fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// Numbers of the inodes that need not be as the base image has them.
    pub fn touched(&self) -> impl Iterator<Item = u64> {
        self.index.iter().flat_map(Index::inodes).map(|inode| inode.ino)
    }

    /// The inode numbered `ino`.
    pub fn inode(&self, ino: u64) -> Result<Inode> {
        let touched = match &self.index {
            Some(index) => index.inode_in_use(ino)?,
            None => None,
        };
        touched.map_or_else(|| self.image.base().inode(ino), |inode| Ok(*inode))
    }

    /// The same of a number that was heard of earlier; not found, if others have removed it since.
    pub fn remaining_inode(&self, ino: u64) -> Result<Inode> {
        match self.inode(ino) {
            // What the base image does not have came from a log, which may have been begun anew
            // without it.
            Err(Error::Corrupt { .. })
                if self.index.is_some() && ino > self.image.base().inode_count().into() =>
            {
                Err(Error::NotFound { path: format!("inode {ino}").into_bytes() })
            }
            found => found,
        }
    }

    /// The inode that `name` in `directory` names.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<Inode>> {
        let base = self.image.base();
        let found = match &self.index {
            Some(index) => index.lookup(base, directory, name)?,
            None => base.lookup(directory, name)?,
        };
        found.map(|ino| self.inode(ino)).transpose()
    }

    /// The entries of a directory, one by one.
    pub fn entries<'a>(
        &'a self,
        directory: &Inode,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + Send + 'a> {
        self.entries_from(directory, 0)
    }

    /// The same from the entry at `position` on. As long as the directory does not change, every
    /// entry keeps its position.
    pub fn entries_from<'a>(
        &'a self,
        directory: &Inode,
        position: u64,
    ) -> Box<dyn Iterator<Item = Result<Entry>> + Send + 'a> {
        let Some(index) = &self.index else {
            return Box::new(self.base_entries(*directory, position));
        };
        match index.directory(directory.ino) {
            Some(touched) => Box::new(self.merged_entries(touched).skip(position as usize)),
            // Removed, and still in somebody's hands: it has no names.
            None if index.inode(directory.ino).is_some() => Box::new(std::iter::empty()),
            None => {
                let entries = self.base_entries(*directory, position);
                Box::new(entries.map(|entry| self.renew(entry?)))
            }
        }
    }

    fn base_entries(
        &self,
        directory: Inode,
        position: u64,
    ) -> impl Iterator<Item = Result<Entry>> + Send + '_ {
        self.image.base().dirents_from(directory, position).map(|entry| {
            entry.map(|entry| Entry {
                name: entry.name().to_vec(),
                ino: entry.ino(),
                mode: entry.mode(),
            })
        })
    }

    /// The names of a touched directory: first those of the base that are as they were.
    fn merged_entries<'a>(
        &'a self,
        touched: &'a Directory,
    ) -> impl Iterator<Item = Result<Entry>> + Send + 'a {
        let below = touched.base().into_iter().flat_map(|base| self.base_entries(*base, 0));
        let kept = below.filter(|entry| {
            entry.as_ref().map_or(true, |entry| touched.name(&entry.name).is_none())
        });
        let made = touched.names().filter_map(|(name, ino)| Some((name, ino?)));
        let made = made
            .map(|(name, ino)| Ok(Entry { name: name.to_vec(), ino, mode: self.inode(ino)?.mode }));
        kept.map(|entry| self.renew(entry?)).chain(made)
    }

    /// An entry of the base with the mode that its inode has by now.
    fn renew(&self, entry: Entry) -> Result<Entry> {
        let touched = self.index.as_ref().and_then(|index| index.inode(entry.ino));
        Ok(Entry { mode: touched.map_or(entry.mode, |inode| inode.mode), ..entry })
    }

    /// The entries of a directory in byte order of their names.
    pub fn read_dir(&self, directory: &Inode) -> Result<Vec<Entry>> {
        let mut entries = self.entries(directory).collect::<Result<Vec<_>>>()?;
        if !entries.is_sorted_by(|a, b| a.name < b.name) {
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(entries)
    }

    /// Copies a file's bytes from `offset` on; returns how many, 0 at the end.
    pub fn read(&self, file: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let Some(extents) = self.index.as_ref().and_then(|index| index.extents(file.ino)) else {
            return self.image.base().read(file, offset, buffer);
        };
        let len = file.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        extents.read(self.image.region(), offset, &mut buffer[..len])?;
        self.expect_kept()?;
        Ok(len)
    }

    /// An error if the bytes of a branch that were copied up to now may be others' by now.
    pub(crate) fn expect_kept(&self) -> Result<()> {
        // The copies come first.
        fence(Acquire);
        match &self.guard {
            Guard::Epoch(epoch, name) if self.image.region().load(EPOCH)? != *epoch => {
                let why = "space was given back since it was opened for reading; open it again";
                Err(Error::Stale { name: name.to_string(), why })
            }
            _ => Ok(()),
        }
    }

    /// Whether an extent's bytes stay what they are as long as this view is held.
    fn keeps(&self, extent: &Extent) -> bool {
        let base = self.image.base().range();
        !matches!(self.guard, Guard::Epoch(..)) || base.contains(&extent.image_offset)
    }

    /// An extent's bytes in place. Those of a branch only while they are kept.
    pub fn window(&self, extent: &Extent) -> Result<DataView> {
        if !self.keeps(extent) {
            let what = "bytes of a branch in place, when the image is open for reading only: \
                        nothing would keep them; open it for writing, or copy them";
            return Err(Error::Unsupported { what: what.into() });
        }
        self.image.region().view(extent.image_offset, extent.len)
    }

    /// Where a file's bytes lie; what no extent covers reads as zeroes.
    pub fn extents(&self, file: &Inode) -> Result<Vec<Extent>> {
        Ok(self.extents_within(file, 0..file.size).collect())
    }

    /// As [`View::extents`], without what is a hole of the file that the image lies in. Reading it
    /// takes time for nothing, and tmpfs would fill it.
    pub(crate) fn data_extents(&self, file: &Inode) -> Result<Vec<Extent>> {
        let mut data = Vec::new();
        for extent in self.extents(file)? {
            let start = extent.image_offset;
            data.extend(
                self.image.region().data_within(start..start + extent.len).into_iter().map(|run| {
                    Extent {
                        file_offset: extent.file_offset + (run.start - start),
                        image_offset: run.start,
                        len: run.end - run.start,
                        ..extent
                    }
                }),
            );
        }
        Ok(data)
    }

    /// The first bytes of an extent that are no hole of the file that the image lies in, as file
    /// offsets. Blocks of branches have memory behind them.
    pub fn first_data(&self, extent: &Extent) -> Option<Range<u64>> {
        let start = extent.image_offset;
        if !self.image.base().range().contains(&start) {
            return Some(extent.file_offset..extent.file_offset + extent.len);
        }
        let run = self.image.region().first_data(start..start + extent.len)?;
        let at = |offset: u64| extent.file_offset + (offset - start);
        Some(at(run.start)..at(run.end))
    }

    /// Where the bytes of a range of a file lie; the range may reach beyond the file's end.
    pub fn extents_within(
        &self,
        file: &Inode,
        range: Range<u64>,
    ) -> impl Iterator<Item = Extent> + '_ {
        let touched = self.index.as_ref().and_then(|index| index.extents(file.ino));
        let end = range.end.min(file.size);
        let whole = (touched.is_none() && range.start < end).then(|| Extent {
            file_offset: range.start,
            image_offset: file.data + range.start,
            len: end - range.start,
            in_log: false,
        });
        touched.into_iter().flat_map(move |extents| extents.overlapping(range.clone())).chain(whole)
    }

    /// Whether a directory is another one, or lies below it.
    pub fn is_below(&self, directory: u64, above: u64) -> Result<bool> {
        let (base, mut at) = (self.image.base(), directory);
        for _ in 0..DEPTH_MAX {
            if at == above {
                return Ok(true);
            }
            let parent = match &self.index {
                Some(index) => index.parent(base, at)?,
                None => base.parent(at)?,
            };
            match parent {
                Some(parent) if at != ROOT_INO => at = parent,
                _ => return Ok(false),
            }
        }
        Err(Error::invalid(format!("the directory is more than {DEPTH_MAX} directories deep")))
    }

    /// Units of 512 bytes that an inode's data take, in whole blocks.
    pub fn blocks(&self, inode: &Inode) -> u64 {
        let extents = self.index.as_ref().and_then(|index| index.extents(inode.ino));
        let held = extents.map_or(inode.size, Extents::held);
        held.div_ceil(BLOCK_SIZE).saturating_mul(BLOCK_SIZE / 512)
    }

    /// A file's bytes without a copy, if they lie in one piece in the image and are kept.
    pub fn contiguous(&self, file: &Inode, offset: u64, len: u64) -> Result<Option<DataView>> {
        let region = self.image.region();
        if len == 0 {
            return region.view(0, 0).map(Some);
        }
        let range = offset..offset.saturating_add(len);
        match self.extents_within(file, range).next() {
            Some(run) if run.file_offset == offset && run.len == len && self.keeps(&run) => {
                region.view(run.image_offset, len).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A symlink's target.
    pub fn readlink(&self, link: &Inode) -> Result<Vec<u8>> {
        match self.index.as_ref().and_then(|index| index.target(link.ino)) {
            Some(target) => Ok(target.to_vec()),
            None => self.image.base().readlink(link),
        }
    }

    /// An inode's extended attributes.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        match self.index.as_ref().and_then(|index| index.xattrs(inode.ino)) {
            Some(xattrs) => {
                Ok(xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
            }
            None => self.image.base().xattrs(inode),
        }
    }

    /// Everything below `top`, depth first, in byte order of names; `top` itself comes first.
    pub fn walk(&self, top: Inode) -> Walk<'_> {
        let room = self.image.superblock().total_size.get() / BYTES_PER_NAME;
        let (open, path, seen) = Default::default();
        Walk { view: self, top: Some(top), open, path, seen, room }
    }
}

/// Iterator over a tree: paths relative to its top, and inodes.
#[derive(Debug)]
pub struct Walk<'a> {
    view: &'a View,
    top: Option<Inode>,
    /// The directories on the way down: length of each one's path, and what is still to come.
    open: Vec<(usize, std::vec::IntoIter<Entry>)>,
    path: Vec<u8>,
    seen: HashSet<u64>,
    /// Names that may still come.
    room: u64,
}

impl Walk<'_> {
    /// The next inode, with its path in `self.path`.
    fn advance(&mut self) -> Option<Result<Inode>> {
        if let Some(top) = self.top.take() {
            return Some(self.enter(top));
        }
        loop {
            let (len, entries) = self.open.last_mut()?;
            self.path.truncate(*len);
            let Some(entry) = entries.next() else {
                self.open.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&entry.name);
            return Some(self.view.inode(entry.ino).and_then(|inode| self.enter(inode)));
        }
    }

    /// Goes down into `inode` if it is a directory.
    fn enter(&mut self, inode: Inode) -> Result<Inode> {
        if !inode.is_dir() {
            return Ok(inode);
        }
        let at = self.view.image.base().inode_offset(inode.ino);
        // A sound tree reaches each directory once; anything else would walk for ever.
        if !self.seen.insert(inode.ino) {
            let found = format!("a second one, {}", crate::error::show(&self.path));
            return Err(Error::corrupt("directory", at, "one name", found));
        }
        // Directories that share their bytes would make the walk quadratic.
        let entries = self.view.read_dir(&inode)?;
        let Some(room) = self.room.checked_sub(entries.len() as u64) else {
            let found = format!("more, up to {}", crate::error::show(&self.path));
            return Err(Error::corrupt("directory", at, "names that fit into the image", found));
        };
        self.room = room;
        self.open.push((self.path.len(), entries.into_iter()));
        Ok(inode)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Vec<u8>, Inode)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance()?;
        if next.is_err() {
            self.open.clear();
        }
        Some(next.map(|inode| (self.path.clone(), inode)))
    }
}
