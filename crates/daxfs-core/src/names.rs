// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Directories of an image that was not proved, or that others can store to.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::Inode;
use crate::error::{Error, Result, quote};
use crate::name::is_name;
use crate::view::{BYTES_PER_NAME, Entry, View};

/// The names of a tree, safe to use, and no more of them than its image can hold: directories of
/// a hostile one may share their bytes.
pub(crate) struct Names<'a> {
    view: &'a View,
    room: AtomicU64,
}

impl<'a> Names<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        let room = view.image().superblock().total_size.get() / BYTES_PER_NAME;
        Self { view, room: AtomicU64::new(room) }
    }

    /// The entries of a directory, in order of their names.
    pub(crate) fn of(&self, directory: &Inode) -> Result<Vec<Entry>> {
        let entries = self.view.read_dir(directory)?;
        let count = entries.len() as u64;
        let order = Ordering::Relaxed;
        if self.room.fetch_update(order, order, |room| room.checked_sub(count)).is_err() {
            let found = "directories that share their bytes";
            return Err(Error::corrupt("directory", directory.data, "names of its own", found));
        }
        for (index, entry) in entries.iter().enumerate() {
            let name = &entry.name[..];
            let twice = index > 0 && entries[index - 1].name == name;
            if twice || !is_name(name) {
                return Err(Error::corrupt(
                    "name in a directory",
                    directory.data,
                    "a name of its own without slash and NUL",
                    quote(name),
                ));
            }
        }
        Ok(entries)
    }
}
