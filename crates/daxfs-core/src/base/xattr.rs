// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attribute sets of the base image.

use zerocopy::FromBytes;

use super::{Base, Inode, Xattr};
use crate::error::{Error, Result};
use crate::format::{XATTR_NAME_MAX, XATTR_SET_MAX, XATTR_VALUE_MAX, XattrEntry, XattrSet};

impl Base {
    /// An inode's extended attributes.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        if inode.xattrs == 0 {
            return Ok(Vec::new());
        }
        let (header, bytes) = self.xattr_set(inode.xattrs)?;
        parse_xattrs(inode.xattrs, &header, &bytes)
    }

    /// The header at an attribute set's image offset, and all bytes of the set.
    pub fn xattr_set(&self, at: u64) -> Result<(XattrSet, Vec<u8>)> {
        let header: XattrSet = self.region.read(at)?;
        let size = u64::from(header.size.get());
        let room = self.xattrs.end.saturating_sub(at).min(XATTR_SET_MAX as u64);
        if size < size_of::<XattrSet>() as u64 || size > room || !size.is_multiple_of(8) {
            let limit = format!("a multiple of 8 from 16 to {room}");
            return Err(Error::corrupt("size of an attribute set", at, limit, size));
        }
        let bytes = self.region.read_vec(at, size)?;
        // One copy is judged and used: the header is taken from it, and must still say its size.
        let (header, _) = XattrSet::read_from_prefix(&bytes).expect("at least a header");
        if header.size.get() as usize != bytes.len() {
            return Err(Error::corrupt("size of an attribute set", at, size, header.size));
        }
        Ok((header, bytes))
    }
}

/// The attributes in the copy of a set that lies at image offset `at`.
pub fn parse_xattrs(at: u64, header: &XattrSet, bytes: &[u8]) -> Result<Vec<Xattr>> {
    let wrong = |position: usize, expected: &str, found: String| {
        Error::corrupt("extended attribute", at + position as u64, expected, found)
    };
    if header.reserved != [0; 4] {
        return Err(wrong(0, "zero padding", format!("{:?}", header.reserved)));
    }
    let mut xattrs: Vec<Xattr> = Vec::new();
    let mut position = size_of::<XattrSet>();
    for _ in 0..header.count.get() {
        let Ok((entry, rest)) = XattrEntry::read_from_prefix(&bytes[position..]) else {
            return Err(wrong(position, "an entry", "the end of the set".into()));
        };
        let (name_len, value_len) =
            (usize::from(entry.name_len.get()), entry.value_len.get() as usize);
        if name_len == 0 || name_len > XATTR_NAME_MAX || value_len > XATTR_VALUE_MAX {
            let found = format!("name of {name_len} bytes, value of {value_len}");
            return Err(wrong(position, "a name of 1 to 255 bytes, a value of 65536", found));
        }
        let stored = (name_len + value_len).next_multiple_of(8);
        if stored > rest.len() {
            return Err(wrong(position, "an entry inside the set", format!("{stored} bytes")));
        }
        let name = rest[..name_len].to_vec();
        let padding = &rest[name_len + value_len..stored];
        if name.contains(&0)
            || entry.reserved != [0; 2]
            || padding.iter().any(|byte| *byte != 0)
            || xattrs.last().is_some_and(|(last, _)| *last >= name)
        {
            let found = crate::error::show(&name);
            return Err(wrong(position, "names in ascending order, zero padding", found));
        }
        xattrs.push((name, rest[name_len..name_len + value_len].to_vec()));
        position += size_of::<XattrEntry>() + stored;
    }
    if position != bytes.len() {
        let found = format!("{} bytes of {}", position, bytes.len());
        return Err(wrong(position, "entries that fill the set", found));
    }
    Ok(xattrs)
}
