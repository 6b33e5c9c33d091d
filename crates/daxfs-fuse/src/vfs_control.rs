// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The control directory, in which every live branch is a directory `@NAME`.

use std::time::Duration;

use daxfs_core::format::{ROOT_INO, mode};
use daxfs_core::region::Access;
use daxfs_core::session::BranchStatus;
use daxfs_core::view::Entry;
use fuser::Errno;

use crate::tree::{CONTROL, Node};
use crate::vfs_inode::Lasting;
use crate::vfs_super::{Answer, Mounted, errno};

/// Name of the control directory in the root; no listing shows it.
pub(crate) const CONTROL_NAME: &[u8] = b".daxfs";

/// The mounted branch in the control directory: a link to the root.
pub(crate) const LINK: Node = Node { tag: CONTROL, ino: ROOT_INO + 1 };
/// Where it leads.
pub(crate) const LINK_TARGET: &[u8] = b"..";

impl Mounted {
    /// A branch in the control directory.
    pub(crate) fn look_up_branch(&self, name: &[u8]) -> Answer<Lasting> {
        let branch = name.strip_prefix(b"@").and_then(|name| std::str::from_utf8(name).ok());
        let branch = branch.ok_or(Errno::ENOENT)?;
        if self.is_mounted_branch(branch) {
            // A second tree of it would have a cache of its own.
            return Ok((self.control_attributes(LINK)?, Duration::ZERO));
        }
        let looking_up = self.looking_up.lock().expect("no panic holds it");
        let shown = self.trees().into_iter().find(|tree| {
            tree.name() == Some(branch) && !self.is_mounted_root(Node::root(tree.tag)) && {
                let alive = tree.view().is_ok();
                if !alive {
                    self.drop_tree(tree);
                }
                alive
            }
        });
        let tree = match shown {
            Some(tree) => tree,
            None => {
                let session = self.party().map_err(errno)?;
                let branch = session.open_branch(branch, Access::Read).map_err(errno)?;
                self.add_tree(branch, self.writes)
            }
        };
        drop(looking_up);
        let (attr, _) = self.attributes(Node::root(tree.tag))?;
        // The name may be another branch's the next time.
        Ok((attr, Duration::ZERO))
    }

    /// Whether the mount's root shows this branch, and it is alive.
    fn is_mounted_branch(&self, name: &str) -> bool {
        self.mounted_tree().is_ok_and(|tree| tree.name() == Some(name) && tree.view().is_ok())
    }

    /// What is in the control directory: directories, and a link to the root for its branch.
    pub(crate) fn branch_entries(&self) -> Answer<Vec<Entry>> {
        let branches = self.party().and_then(|session| session.branches()).map_err(errno)?;
        let entry = |branch: BranchStatus| {
            let name = format!("@{}", branch.name).into();
            if self.is_mounted_branch(&branch.name) {
                Entry { name, ino: LINK.ino, mode: mode::SYMLINK }
            } else {
                Entry { name, ino: ROOT_INO, mode: mode::DIRECTORY }
            }
        };
        Ok(branches.into_iter().map(entry).collect())
    }
}
