// SPDX-License-Identifier: Apache-2.0 OR MIT
//! POSIX access control lists, as they are kept in extended attributes (acl(5), POSIX.1e draft 17).
//!
//! The kernel checks lists and obeys them. What it leaves to a file system is here: that a mode and
//! a list say the same, and what new files inherit.

use daxfs_core::base::{Base, Xattr};
use daxfs_core::xattr;

/// The list that says who may do what.
pub(crate) const ACCESS: &[u8] = xattr::ACL_ACCESS.to_bytes();
/// The list of a directory that what is made in it begins with.
pub(crate) const DEFAULT: &[u8] = xattr::ACL_DEFAULT.to_bytes();

const VERSION: [u8; 4] = 2u32.to_le_bytes();
/// Bytes of an entry: whom it is for, what they may, a user or group.
const ENTRY: usize = 8;

/// How many bytes the names of both lists begin with alike.
const ALIKE: usize = "system.posix_acl_".len();
/// Bytes of attributes that are looked through at a time.
const PIECE: usize = 1 << 20;

/// Whom an entry is for.
mod tag {
    pub(super) const OWNER: u16 = 0x01;
    pub(super) const USER: u16 = 0x02;
    pub(super) const GROUP: u16 = 0x04;
    pub(super) const NAMED_GROUP: u16 = 0x08;
    pub(super) const MASK: u16 = 0x10;
    pub(super) const OTHER: u16 = 0x20;
}

/// A list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acl {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: [u8; 4],
}

/// Whether lists may be among the attributes of a base image: their names begin alike.
pub(crate) fn may_be_in(base: &Base) -> bool {
    let (name, range, region) = (&ACCESS[..ALIKE], base.xattr_range(), base.region());
    range.clone().step_by(PIECE).any(|at| {
        let len = (range.end - at).min((PIECE + ALIKE) as u64);
        // What cannot be read may be anything.
        let bytes = region.read_vec(at, len);
        bytes.map_or(true, |bytes| bytes.windows(ALIKE).any(|part| part == name))
    })
}

/// The value of a list among a file's attributes.
pub(crate) fn find<'a>(xattrs: &'a [Xattr], name: &[u8]) -> Option<&'a [u8]> {
    xattrs.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
}

impl Acl {
    /// Reads an attribute; none if it is no list.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let entries = value.strip_prefix(&VERSION)?.chunks(ENTRY);
        let parse = |entry: &[u8]| {
            let (&[t0, t1, p0, p1], id) = entry.split_first_chunk()?;
            let (tag, permissions) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]));
            Some(Entry { tag, permissions, id: id.try_into().ok()? })
        };
        let entries = entries.map(parse).collect::<Option<Vec<_>>>()?;
        let has = |tag| entries.iter().any(|entry| entry.tag == tag);
        let whole = has(tag::OWNER) && has(tag::GROUP) && has(tag::OTHER);
        whole.then_some(Self { entries })
    }

    /// The attribute.
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = VERSION.to_vec();
        for Entry { tag, permissions, id } in &self.entries {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&permissions.to_le_bytes());
            value.extend_from_slice(id);
        }
        value
    }

    /// Whether a mode says all that the list does.
    pub(crate) fn is_a_mode(&self) -> bool {
        self.entries.len() == 3
    }

    /// Where the three digits of a mode are in the list: the group's is the mask, if there is one.
    fn digits(&mut self) -> impl Iterator<Item = (u32, &mut u16)> {
        let masked = self.entries.iter().any(|entry| entry.tag == tag::MASK);
        self.entries.iter_mut().filter_map(move |entry| {
            let shift = match entry.tag {
                tag::OWNER => 6,
                tag::MASK => 3,
                tag::GROUP if !masked => 3,
                tag::OTHER => 0,
                _ => return None,
            };
            Some((shift, &mut entry.permissions))
        })
    }

    /// The mode that the list says, of whose bits all but the permissions are taken from `mode`.
    pub(crate) fn mode(&mut self, mode: u32) -> u32 {
        let permissions = self.digits().map(|(shift, digit)| u32::from(*digit & 7) << shift);
        mode & !0o777 | permissions.fold(0, |mode, digit| mode | digit)
    }

    /// Makes the list say what a new mode does.
    pub(crate) fn change_mode(&mut self, mode: u32) {
        for (shift, digit) in self.digits() {
            *digit = (mode >> shift & 7) as u16;
        }
    }

    /// Whether somebody may do something with a file of owner and group, as the kernel decides it:
    /// `wanted` are bits of a digit.
    pub(crate) fn permits(
        &self,
        wanted: u16,
        user: u32,
        (owner, group): (u32, u32),
        has_group: impl Fn(u32) -> bool,
    ) -> bool {
        let entry = |tag| self.entries.iter().find(|entry| entry.tag == tag);
        let has = |entry: &Entry, mask: u16| entry.permissions & mask & wanted == wanted;
        let mask = entry(tag::MASK).map_or(7, |mask| mask.permissions);
        if user == owner {
            return entry(tag::OWNER).is_some_and(|entry| has(entry, 7));
        }
        let id = |entry: &Entry| u32::from_le_bytes(entry.id);
        if let Some(named) =
            self.entries.iter().find(|entry| entry.tag == tag::USER && id(entry) == user)
        {
            return has(named, mask);
        }
        let mut groups = self.entries.iter().filter(|entry| match entry.tag {
            tag::GROUP => has_group(group),
            tag::NAMED_GROUP => has_group(id(entry)),
            _ => false,
        });
        match groups.next() {
            Some(first) => has(first, mask) || groups.any(|entry| has(entry, mask)),
            None => entry(tag::OTHER).is_some_and(|entry| has(entry, 7)),
        }
    }

    /// Makes a directory's default the list of what is made in it, which gets no more than was asked
    /// for; says the mode that comes of both.
    pub(crate) fn inherit(&mut self, mode: u32) -> u32 {
        for (shift, digit) in self.digits() {
            *digit &= (mode >> shift & 7) as u16;
        }
        self.mode(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_not_what_the_group_may() {
        let entries: [(u16, u16, u32); 6] = [
            (tag::OWNER, 7, u32::MAX),
            (tag::USER, 7, 10),
            (tag::GROUP, 5, u32::MAX),
            (tag::NAMED_GROUP, 2, 30),
            (tag::MASK, 7, u32::MAX),
            (tag::OTHER, 5, u32::MAX),
        ];
        let mut value = VERSION.to_vec();
        for (tag, permissions, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(permissions.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        let list = Acl::parse(&value).unwrap();
        let writes =
            |user, groups: &[u32]| list.permits(2, user, (1, 20), |group| groups.contains(&group));
        assert!(writes(1, &[]) && writes(10, &[]) && writes(11, &[20, 30]));
        assert!(!writes(11, &[20]) && !writes(11, &[]));
        // Of what two groups give, neither all that is wanted, nothing is added up.
        assert!(!list.permits(6, 11, (1, 20), |group| [20, 30].contains(&group)));
    }
}
