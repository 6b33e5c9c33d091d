// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Looking at branches without being registered. Nobody waits for such a reader, so it finds out
//! itself whether what it saw is of one moment.

use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::fence;

use super::Table;
use super::record::EPOCH;
use crate::error::{Error, Result, show_path};
use crate::format::{BRANCH_TABLE_SIZE, feature};
use crate::image::Image;

/// Times that it starts over because space is given back meanwhile.
const TRIES: usize = 64;

/// What `look` finds in the branch table and in the logs that it names, all of one moment, and the
/// epoch of that moment.
pub fn look<T>(image: &Image, mut look: impl FnMut(&Table) -> Result<T>) -> Result<(T, u64)> {
    let (region, superblock) = (image.region(), image.superblock());
    let mut once = || Table::read(region, superblock).and_then(|table| look(&table));
    // Of plain v3's branches none goes.
    if !superblock.has(feature::BRANCHES) {
        return Ok((once()?, 0));
    }
    let bytes = || region.read_vec(superblock.branch_table_offset.get(), BRANCH_TABLE_SIZE);
    for _ in 0..TRIES {
        let epoch = region.load(EPOCH)?;
        let before = bytes()?;
        let found = once();
        // The look comes first.
        fence(Acquire);
        // A layer may be replaced by one that was not there yet when its slot was read.
        if region.load(EPOCH)? != epoch || found.is_err() && bytes()? != before {
            continue;
        }
        return Ok((found?, epoch));
    }
    Err(Error::ImageBusy {
        name: show_path(region.name()),
        why: "space is given back all the time; open it for writing, and what is looked at stays"
            .into(),
    })
}
