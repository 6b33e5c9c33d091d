// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Open directories: each reads from the tree as it was when reading began, so no name comes
//! twice and none is lost while others change it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

use daxfs_core::base::Inode;
use daxfs_core::format::{ROOT_INO, mode};
use daxfs_core::view::{Entry, View};
use fuser::{Errno, FileHandle, FopenFlags, ReplyDirectory, ReplyDirectoryPlus};

use crate::tree::{CONTROL, Node, Tree};
use crate::vfs_inode::file_type;
use crate::vfs_super::{Answer, GENERATION, Mounted, errno};

/// A directory that is open.
#[derive(Debug)]
pub(crate) struct Directory {
    node: Node,
    listing: Mutex<Option<Arc<Listing>>>,
}

/// What a directory holds, and the tree that says so; the control directory is of none.
#[derive(Debug)]
struct Listing {
    from: Option<Arc<Tree>>,
    entries: Vec<Entry>,
}

/// Entries before those of the image: `.` and `..`.
const DOTS: u64 = 2;

impl Mounted {
    pub(crate) fn open_directory(&self, node: Node) -> Answer<(FileHandle, FopenFlags)> {
        if node.tag != CONTROL && !self.is_mounted_root(node) {
            self.tree(node)?.view().map_err(errno)?;
        }
        let handle = self.new_handle();
        let directory = Arc::new(Directory { node, listing: Mutex::default() });
        self.directories().insert(handle.0, directory);
        let mut flags = FopenFlags::empty();
        if self.immutable {
            flags |= FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        }
        Ok((handle, flags))
    }

    fn directory(&self, handle: FileHandle) -> Answer<Arc<Directory>> {
        self.directories().get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    pub(crate) fn close_directory(&self, handle: FileHandle) {
        self.directories().remove(&handle.0);
    }

    /// The directory's entries; from the beginning they are read anew, as `rewinddir` wants it.
    fn listing(&self, directory: &Directory, offset: u64) -> Answer<Arc<Listing>> {
        let node = directory.node;
        let mut listing = directory.listing.lock().expect("no panic holds it");
        if node.tag == CONTROL {
            let names = self.branch_names()?.into_iter();
            let entry =
                |name: String| Entry { name: name.into(), ino: ROOT_INO, mode: mode::DIRECTORY };
            let entries = names.map(entry).collect();
            return Ok(Arc::clone(listing.insert(Arc::new(Listing { from: None, entries }))));
        }
        // Also when the entries are there already: a tree that is gone has none.
        let tree = self.tree(node)?;
        let view = tree.view().map_err(errno)?;
        if let Some(listing) = &*listing
            && offset > 0
        {
            return Ok(Arc::clone(listing));
        }
        let inode = view.inode(node.ino).map_err(errno)?;
        let entries = view.entries(&inode).collect::<Result<_, _>>().map_err(errno)?;
        drop(view);
        let from = Some(tree);
        Ok(Arc::clone(listing.insert(Arc::new(Listing { from, entries }))))
    }

    pub(crate) fn read_directory(
        &self,
        handle: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectory,
    ) -> Answer<()> {
        let directory = self.directory(handle)?;
        let listing = self.listing(&directory, offset)?;
        for position in offset..listing.end() {
            let (node, name) = self.position(&directory, &listing, position);
            let kind = match listing.entry(position) {
                Some(entry) => file_type(entry.mode)?,
                None => fuser::FileType::Directory,
            };
            if reply.add(self.number(node), position + 1, kind, name) {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn read_directory_plus(
        &self,
        handle: FileHandle,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Answer<()> {
        let directory = self.directory(handle)?;
        let listing = self.listing(&directory, offset)?;
        for position in offset..listing.end() {
            let (node, name) = self.position(&directory, &listing, position);
            let entry = listing.from.as_ref().zip(listing.entry(position));
            let (attr, ttl) = match entry {
                Some((tree, entry)) => match self.current(tree, &directory, entry)? {
                    Some((view, inode)) => self.entry(tree, &view, directory.node, &inode)?,
                    // The kernel would take the name for one that is still there.
                    None => continue,
                },
                None if position >= DOTS => match self.look_up_branch(name.as_bytes()) {
                    Ok(found) => found,
                    // It has ended since the list was made.
                    Err(_) => continue,
                },
                None => self.attributes(node)?,
            };
            if reply.add(attr.ino, position + 1, name, &ttl, &attr, GENERATION) {
                break;
            }
        }
        Ok(())
    }

    /// An entry's inode as it is now, if the entry is still there.
    fn current(
        &self,
        tree: &Tree,
        directory: &Directory,
        entry: &Entry,
    ) -> Answer<Option<(View, Inode)>> {
        let view = tree.view().map_err(errno)?;
        if self.immutable {
            let inode = view.inode(entry.ino).map_err(errno)?;
            return Ok(Some((view, inode)));
        }
        let parent = view.inode(directory.node.ino).map_err(errno)?;
        let found = view.lookup(&parent, &entry.name).map_err(errno)?;
        Ok(found.filter(|inode| inode.ino == entry.ino).map(|inode| (view, inode)))
    }

    /// The node and name at a position.
    fn position<'a>(
        &self,
        directory: &Directory,
        listing: &'a Listing,
        position: u64,
    ) -> (Node, &'a OsStr) {
        match listing.entry(position) {
            Some(entry) => {
                let node = Node { tag: directory.node.tag, ino: entry.ino };
                (node, OsStr::from_bytes(&entry.name))
            }
            None if position == 0 => (directory.node, OsStr::new(".")),
            None => (self.parent(directory.node), OsStr::new("..")),
        }
    }
}

impl Listing {
    fn end(&self) -> u64 {
        DOTS + self.entries.len() as u64
    }

    fn entry(&self, position: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(position.checked_sub(DOTS)?).ok()?)
    }
}
