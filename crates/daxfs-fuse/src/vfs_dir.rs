// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Directories. Open ones that can change read from the tree as it was when reading began, so no
//! name comes twice and none is lost while others change it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use daxfs_core::base::Inode;
use daxfs_core::view::{Entry, View};
use fuser::{Errno, FileAttr, FileHandle, FileType, ReplyDirectoryPlus};

use crate::tree::{CONTROL, Node, Tree, Version};
use crate::vfs_inode::NOTHING;
use crate::vfs_super::{Answer, GENERATION, Mounted, errno};

/// A directory that is open.
#[derive(Debug)]
pub(crate) struct Directory {
    node: Node,
    listing: Mutex<Option<Arc<Listing>>>,
}

/// What a directory holds, and as of which state of its tree; the control directory is of none. Not
/// the tree itself: what that keeps from being given back would stay with a forgotten handle.
#[derive(Debug)]
struct Listing {
    of: Option<Version>,
    entries: Vec<Entry>,
}

/// What is being read of directories: all who read one as it is share that.
#[derive(Debug, Default)]
pub(crate) struct Listings(Mutex<HashMap<Node, Weak<Listing>>>);

impl Listings {
    fn get(&self, node: Node, version: Version) -> Option<Arc<Listing>> {
        let listing = self.lock().get(&node)?.upgrade()?;
        (listing.of == Some(version)).then_some(listing)
    }

    fn put(&self, node: Node, listing: &Arc<Listing>) {
        self.lock().insert(node, Arc::downgrade(listing));
    }

    /// Forgets what nobody reads any more.
    fn clear(&self, node: Node) {
        let mut listings = self.lock();
        if listings.get(&node).is_some_and(|listing| listing.strong_count() == 0) {
            listings.remove(&node);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Node, Weak<Listing>>> {
        self.0.lock().expect("no panic holds it")
    }
}

/// Entries before those of the image: `.` and `..`.
const DOTS: u64 = 2;

impl Mounted {
    /// Opens a directory. One that can never change needs nothing to be kept for it: the kernel
    /// opens it by itself after this answer, as it does all others, and keeps its entries.
    pub(crate) fn open_directory(&self, node: Node) -> Answer<FileHandle> {
        if self.immutable {
            return Err(Errno::ENOSYS);
        }
        if node.tag != CONTROL && !self.is_mounted_root(node) {
            self.tree(node)?.view().map_err(errno)?;
        }
        let handle = self.new_handle();
        let directory = Arc::new(Directory { node, listing: Mutex::default() });
        self.directories().insert(handle.0, directory);
        Ok(handle)
    }

    pub(crate) fn close_directory(&self, handle: FileHandle) {
        let closed = self.directories().remove(&handle.0);
        if let Some(node) = closed.map(|directory| directory.node) {
            self.listings.clear(node);
        }
    }

    /// The directory's entries, and the tree that they are of; from the beginning they are read anew,
    /// as `rewinddir` wants it.
    fn listing(
        &self,
        handle: FileHandle,
        offset: u64,
    ) -> Answer<(Arc<Listing>, Option<Arc<Tree>>)> {
        let directory = self.directories().get(&handle.0).cloned().ok_or(Errno::EBADF)?;
        let node = directory.node;
        let mut listing = directory.listing.lock().expect("no panic holds it");
        let begun = listing.as_ref().filter(|_| offset > 0).cloned();
        if node.tag == CONTROL {
            if let Some(begun) = begun {
                return Ok((begun, None));
            }
            let new = Arc::new(Listing { of: None, entries: self.branch_entries()? });
            return Ok((Arc::clone(listing.insert(new)), None));
        }
        // Also when the entries are there already: a tree that is gone has none.
        let tree = self.tree(node)?;
        // Before the view, so that nothing older is taken for it.
        let version = tree.version().map_err(errno)?;
        let view = tree.view().map_err(errno)?;
        if let Some(begun) = begun {
            return Ok((begun, Some(tree)));
        }
        let inode = view.remaining_inode(node.ino).map_err(errno)?;
        if let Some(shared) = self.listings.get(node, version) {
            return Ok((Arc::clone(listing.insert(shared)), Some(tree)));
        }
        let entries = view.entries(&inode).collect::<Result<_, _>>().map_err(errno)?;
        drop(view);
        let new = Arc::new(Listing { of: Some(version), entries });
        self.listings.put(node, &new);
        Ok((Arc::clone(listing.insert(new)), Some(tree)))
    }

    /// Goes through a directory from an offset on, until `add` has no room left. It gets each
    /// entry with the offset that follows it, and the tree that it is of; `.` and `..` are of none
    /// and have no entry.
    fn each_entry(
        &self,
        node: Node,
        handle: FileHandle,
        offset: u64,
        mut add: impl FnMut(u64, Node, &OsStr, Option<&Entry>, Option<&Arc<Tree>>) -> Answer<bool>,
    ) -> Answer<()> {
        let dots = [(node, "."), (self.parent(node), "..")];
        for (position, (node, name)) in (0..DOTS).zip(dots).skip(offset as usize) {
            if add(position + 1, node, OsStr::new(name), None, None)? {
                return Ok(());
            }
        }
        let first = offset.saturating_sub(DOTS);
        let mut add_entry = |position: u64, entry: &Entry, tree: Option<&Arc<Tree>>| {
            if self.is_control(node, &entry.name) {
                return Ok(false);
            }
            let node = Node { tag: node.tag, ino: entry.ino };
            let name = OsStr::from_bytes(&entry.name);
            add(DOTS + position + 1, node, name, Some(entry), tree)
        };
        if self.immutable {
            let tree = self.tree(node)?;
            let view = tree.view().map_err(errno)?;
            let inode = view.remaining_inode(node.ino).map_err(errno)?;
            for (position, entry) in (first..).zip(view.entries_from(&inode, first)) {
                if add_entry(position, &entry.map_err(errno)?, Some(&tree))? {
                    break;
                }
            }
            return Ok(());
        }
        let (listing, tree) = self.listing(handle, offset)?;
        for (position, entry) in (0..).zip(&listing.entries).skip(first as usize) {
            if add_entry(position, entry, tree.as_ref())? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn read_directory_plus(
        &self,
        directory: Node,
        handle: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Answer<()> {
        let mut given = false;
        let answer = self.each_entry(directory, handle, offset, |next, node, name, entry, tree| {
            let (attr, ttl) = match (entry, tree) {
                (Some(entry), Some(tree)) => {
                    let ttl = self.ttl(tree);
                    match self.current(tree, directory, entry)? {
                        Some((view, inode)) => self.entry(tree, &view, directory, &inode, ttl)?,
                        // The kernel would take the name for one that is still there.
                        None => return Ok(false),
                    }
                }
                (Some(_), None) => match self.look_up_branch(name.as_bytes()) {
                    Ok(found) => found,
                    // It has ended since the list was made.
                    Err(_) => return Ok(false),
                },
                // Of these two the kernel takes the number alone, and where the directory lay may be gone.
                (None, _) => {
                    let (ino, kind) = (self.number(node), FileType::Directory);
                    (FileAttr { ino, kind, ..NOTHING }, Duration::ZERO)
                }
            };
            let full = reply.add(attr.ino, next, name, &ttl, &attr, GENERATION);
            if !full && entry.is_some() {
                self.tell(attr.ino);
            }
            given |= !full;
            Ok(full)
        });
        // The kernel is told of what was given: the next request meets the error.
        if given { Ok(()) } else { answer }
    }

    /// The inode that an entry's name stands for now, if for any: it may be another than when the
    /// directory was read.
    fn current(
        &self,
        tree: &Tree,
        directory: Node,
        entry: &Entry,
    ) -> Answer<Option<(View, Inode)>> {
        let view = tree.view().map_err(errno)?;
        if self.immutable {
            let inode = view.inode(entry.ino).map_err(errno)?;
            return Ok(Some((view, inode)));
        }
        let parent = view.remaining_inode(directory.ino).map_err(errno)?;
        let found = view.lookup(&parent, &entry.name).map_err(errno)?;
        Ok(found.map(|inode| (view, inode)))
    }
}
