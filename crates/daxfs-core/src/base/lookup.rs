// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names found in directories of the base image.

use std::cmp::Ordering;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Base, Inode};
use crate::error::Result;
use crate::format::{DIRENT_SIZE, RawDirent, feature};

impl Base {
    /// The number of the inode that a name in a directory stands for, by binary search.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let count = self.dirent_count(directory);
        if self.has(feature::SORTED_DIRS) {
            self.search(directory, name, count, |position| position)
        } else {
            let order = self.order(directory)?;
            self.search(directory, name, count, |position| order[position as usize].into())
        }
    }

    fn search(
        &self,
        directory: &Inode,
        name: &[u8],
        count: u64,
        position_of: impl Fn(u64) -> u64,
    ) -> Result<Option<u64>> {
        let wanted = prefix(name);
        let at = |index| directory.data + position_of(index) * DIRENT_SIZE;
        let middle_of = |part: &Range<u64>| part.start + (part.end - part.start) / 2;
        let mut part = 0..count;
        while !part.is_empty() {
            let middle = middle_of(&part);
            let (before, after) = (part.start..middle, middle + 1..part.end);
            // Whichever of them is next, its middle is on its way by then.
            for half in [&before, &after] {
                if !half.is_empty() {
                    self.region.prefetch::<Head>(at(middle_of(half)));
                }
            }
            // The first bytes of a name mostly decide, and cost one cache line instead of three.
            let head: Head = self.region.read(at(middle))?;
            let order = match head.prefix().cmp(&wanted) {
                // Then they are all that there is of the name.
                Ordering::Equal if name.len() <= PREFIX && name.len() == head.name_len() => {
                    return Ok(Some(head.ino.get().into()));
                }
                Ordering::Equal => {
                    let entry = self.dirent(directory, position_of(middle))?;
                    match entry.name().cmp(name) {
                        Ordering::Equal => return Ok(Some(entry.ino())),
                        order => order,
                    }
                }
                order => order,
            };
            part = if order == Ordering::Less { after } else { before };
        }
        Ok(None)
    }

    /// Positions of an unsorted directory's entries in order of names, made once.
    fn order(&self, directory: &Inode) -> Result<Arc<[u32]>> {
        if let Some(order) = self.orders.read().expect("no panic holds it").get(&directory.ino) {
            // The count is of this load of the inode; a peer may have changed it since.
            if order.len() as u64 == self.dirent_count(directory) {
                return Ok(Arc::clone(order));
            }
        }
        let mut names = Vec::new();
        for entry in self.dirents(*directory) {
            names.push((entry?.name().to_vec(), names.len() as u32));
        }
        names.sort_unstable();
        let order: Arc<[u32]> = names.into_iter().map(|(_, position)| position).collect();
        let mut orders = self.orders.write().expect("no panic holds it");
        orders.insert(directory.ino, Arc::clone(&order));
        Ok(order)
    }
}

/// Bytes of a name that are compared as one number.
const PREFIX: usize = size_of::<u128>();

/// What a search looks at: a [`RawDirent`] up to the first bytes of its name.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Head {
    ino: U32,
    mode: U32,
    name_len: U16,
    reserved: [u8; 6],
    name: [u8; PREFIX],
}

const _: () = assert!(offset_of!(Head, name_len) == offset_of!(RawDirent, name_len));
const _: () = assert!(offset_of!(Head, name) == offset_of!(RawDirent, name));

impl Head {
    fn name_len(&self) -> usize {
        self.name_len.get().into()
    }

    /// As [`prefix`] of the whole name. Plain v3 leaves what it likes behind a name.
    fn prefix(&self) -> u128 {
        let bits = 8 * self.name_len().min(PREFIX) as u32;
        u128::from_be_bytes(self.name) & !u128::MAX.checked_shr(bits).unwrap_or(0)
    }
}

/// The first bytes of a name as a number that is ordered as names are, which have no NUL.
fn prefix(name: &[u8]) -> u128 {
    let mut bytes = [0; PREFIX];
    let len = name.len().min(PREFIX);
    bytes[..len].copy_from_slice(&name[..len]);
    u128::from_be_bytes(bytes)
}
