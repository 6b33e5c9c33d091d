// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The directories of a tree that is taken out, each by the one that it lies in.
//!
//! Their paths, kept for each, would take far more memory than a deep tree has bytes.

use crate::base::Inode;
use crate::paths::join;

/// A directory: where it lies, as what, and what it is.
pub(super) struct Directory {
    above: usize,
    name: Vec<u8>,
    pub(super) inode: Inode,
}

impl Directory {
    /// One that lies in the directory numbered `above`.
    pub(super) fn new(above: usize, name: Vec<u8>, inode: Inode) -> Self {
        Self { above, name, inode }
    }
}

/// Directories by number; 0 is the top.
pub(super) struct Directories(Vec<Directory>);

impl Directories {
    /// The top alone.
    pub(super) fn new(top: Inode) -> Self {
        Self(vec![Directory::new(0, Vec::new(), top)])
    }

    /// Adds a directory; gives its number.
    pub(super) fn add(&mut self, directory: Directory) -> usize {
        self.0.push(directory);
        self.0.len() - 1
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The inode of one.
    pub(super) fn inode(&self, number: usize) -> &Inode {
        &self.0[number].inode
    }

    /// The path of one, relative to the top, whose own is empty.
    pub(super) fn path(&self, mut number: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while number != 0 {
            let directory = &self.0[number];
            names.push(&directory.name[..]);
            number = directory.above;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of a name in one.
    pub(super) fn path_of(&self, number: usize, name: &[u8]) -> Vec<u8> {
        join(&self.path(number), name)
    }
}
