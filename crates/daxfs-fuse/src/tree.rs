// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The trees that a mount shows, and how their inodes are numbered for the kernel.

use std::sync::Arc;

use daxfs_core::error::Result;
use daxfs_core::format::ROOT_INO;
use daxfs_core::view::View;

/// Bits of a node number that are the inode's number in the image.
const INO_BITS: u32 = 40;

/// An inode of a tree as the kernel knows it: the tree's tag above the inode's number.
///
/// The first tree of a mount has tag 0, so there the numbers are those of the image. A tree that
/// is shown later has numbers of its own: nothing that the kernel keeps of one tree is taken for
/// the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// Which tree.
    pub(crate) tag: u64,
    /// Inode number in the image.
    pub(crate) ino: u64,
}

impl Node {
    /// The number that stands for the node. The root of the tree that is mounted is `1` whatever
    /// its tag, as the kernel demands.
    pub(crate) fn number(self, mounted: u64) -> u64 {
        if self.ino == ROOT_INO && self.tag == mounted {
            return ROOT_INO;
        }
        self.tag << INO_BITS | self.ino
    }

    /// The node that a number stands for.
    pub(crate) fn of(number: u64, mounted: u64) -> Self {
        if number == ROOT_INO {
            return Self { tag: mounted, ino: ROOT_INO };
        }
        Self { tag: number >> INO_BITS, ino: number & ((1 << INO_BITS) - 1) }
    }
}

/// A tree that is shown.
#[derive(Debug)]
pub(crate) struct Tree {
    view: Arc<View>,
}

impl Tree {
    /// A tree that does not change.
    pub(crate) fn fixed(view: View) -> Self {
        Self { view: Arc::new(view) }
    }

    /// What it is now.
    pub(crate) fn view(&self) -> Result<Arc<View>> {
        Ok(Arc::clone(&self.view))
    }
}
