// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Extended attributes that a log changed, and how much room sets of them take.

use super::Xattrs;
use crate::format::{XattrEntry, XattrSet};

/// The attributes of an inode that a log changed.
#[derive(Debug, Clone, Default)]
pub(super) struct AttributeSet {
    pub(super) pairs: Xattrs,
    /// Bytes that they take. Adding them up for every entry would take long for a crafted log.
    pub(super) stored: usize,
}

impl AttributeSet {
    pub(super) fn insert(&mut self, name: Box<[u8]>, value: Box<[u8]>) {
        self.remove(&name);
        self.stored += xattr_size(&name, &value);
        self.pairs.insert(name, value);
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        let old = self.pairs.remove(name);
        self.stored -= old.as_ref().map_or(0, |old| xattr_size(name, old));
        old.is_some()
    }
}

/// Bytes that extended attributes take as a [set](XattrSet).
pub fn xattr_set_size<'a>(xattrs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    size_of::<XattrSet>() + xattrs.map(|(name, value)| xattr_size(name, value)).sum::<usize>()
}

fn xattr_size(name: &[u8], value: &[u8]) -> usize {
    size_of::<XattrEntry>() + (name.len() + value.len()).next_multiple_of(8)
}
