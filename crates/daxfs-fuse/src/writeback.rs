// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was changed through mappings and lies in the kernel's pages.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use daxfs_core::error::{Error, Result};
use daxfs_core::format::{ROOT_INO, mode};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::tree::{Node, Tree};
use crate::vfs_control::CONTROL_NAME;
use crate::vfs_super::Mounted;

impl Mounted {
    /// Lets the kernel write out what was changed through mappings of any tree, and waits for it.
    pub(crate) fn write_out(&self) -> Result<()> {
        // A mount that cannot be reached any more cannot be synced as a whole.
        let root = self.place.open();
        let sync = || root.as_ref().map_or(Ok(()), rustix::fs::syncfs);
        let begun = sync();
        self.trees().iter().for_each(|tree| self.wait_for_pages(root.as_ref(), tree));
        // What failed since it began is told by the same descriptor.
        let errors = [begun, sync()].into_iter().filter_map(std::result::Result::err);
        // Stale is what another tree has become.
        let mut errors = errors.filter(|errno| *errno != Errno::STALE);
        // The kernel tells also of files that are gone. It knows nothing else that we refused.
        let untold = errors.next().filter(|_| !self.has_refused());
        let lost = self.lost_pages().map(|why| Errno::from_raw_os_error(why.into()));
        match lost.or(untold) {
            Some(errno) => Err(Error::io("write out mappings", self.place.path())(errno)),
            None => Ok(()),
        }
    }

    /// Waits for pages that the kernel is writing: to have begun is enough for it to call a file
    /// system of this kind synced.
    fn wait_for_pages(&self, root: Option<&OwnedFd>, tree: &Tree) {
        let mut cached: HashSet<u64> = tree.cached().into_iter().collect();
        if let Some(root) = root {
            self.close_files(root, tree, &mut cached);
        }
        // Files without names, or which this process may not open. Before 6.16 the kernel forgets
        // pages here while copies of them are still to be written; later it waits.
        let Some(notifier) = self.notifier.get() else { return };
        for ino in cached {
            // It tells only that it has forgotten the inode.
            let _ = notifier.inval_inode(self.number(Node { tag: tree.tag, ino }), 0, 0);
        }
    }

    /// Opens and closes files of a tree, which takes as long as any of their pages are being
    /// written; leaves those that it cannot. The kernel does it without asking, as a rule.
    fn close_files(&self, root: &OwnedFd, tree: &Tree, files: &mut HashSet<u64>) {
        let top = match tree.name() {
            _ if self.is_mounted_root(Node::root(tree.tag)) => Vec::new(),
            Some(branch) => [CONTROL_NAME, b"/@", branch.as_bytes(), b"/"].concat(),
            None => return,
        };
        // Where a cached file lies the kernel knows, and knew, each directory.
        let mut unseen: HashSet<u64> = tree.known().into_iter().collect();
        let mut pending = vec![(ROOT_INO, top)];
        while let Some((directory, path)) = pending.pop() {
            let mut found = Vec::new();
            {
                // Not held while the kernel writes: space that is needed for that may have to wait
                // for those who read.
                let Ok(view) = tree.view() else { return };
                let Ok(inode) = view.remaining_inode(directory) else { continue };
                for entry in view.entries(&inode).flatten() {
                    let path = || [&path[..], &entry.name].concat();
                    match entry.mode & mode::TYPE {
                        mode::DIRECTORY if unseen.remove(&entry.ino) => {
                            pending.push((entry.ino, [&path()[..], b"/"].concat()));
                        }
                        mode::REGULAR if files.contains(&entry.ino) => {
                            found.push((entry.ino, path()));
                        }
                        _ => {}
                    }
                }
            }
            for (ino, path) in found {
                if close(root, &path) {
                    files.remove(&ino);
                }
            }
            if files.is_empty() {
                return;
            }
        }
    }
}

/// Opens a file below the mount's root and closes it; whether it could be opened.
fn close(root: &OwnedFd, path: &[u8]) -> bool {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    // Somebody may put something else there meanwhile.
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    [OFlags::RDONLY, OFlags::WRONLY].into_iter().any(|access| {
        rustix::fs::openat2(root, path, flags | access, Mode::empty(), inside).is_ok()
    })
}
