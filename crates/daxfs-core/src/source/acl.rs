// SPDX-License-Identifier: Apache-2.0 OR MIT
//! POSIX access control lists as archives have them, in text (acl(5), POSIX.1e draft 17), and as the
//! extended attributes in which Linux keeps them.

/// Version of the attribute.
const VERSION: u32 = 2;
/// In the place of an id where an entry needs none.
const NO_ID: u32 = u32::MAX;
/// Entries of the shortest list, which says no more than a mode.
const MODE_ENTRIES: usize = 3;

/// Whom an entry is for; the kernel wants entries in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner = 0x01,
    User = 0x02,
    OwningGroup = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

/// All of them.
const TAGS: [Tag; 6] = [Tag::Owner, Tag::User, Tag::OwningGroup, Tag::Group, Tag::Mask, Tag::Other];

type Entry = (Tag, u32, u16);

/// A list: entries in the kernel's order, of those that each list has one of each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    /// Reads a list in text.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        // It may be long; what is wrong is told without it.
        let wrong = |why: &str| format!("access control list: {why}");
        let text = std::str::from_utf8(text).map_err(|_| wrong("not UTF-8"))?;
        let lines = text.split([',', '\n']).map(|line| line.split('#').next().unwrap_or_default());
        let mut entries = lines
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| parse(line).map_err(wrong))
            .collect::<Result<Vec<Entry>, _>>()?;
        entries.sort_unstable();
        let list = Self(entries);
        if list.is_whole() { Ok(list) } else { Err(wrong("an entry is missing, or there twice")) }
    }

    /// Whether each entry that a list must have is there, and those once that it may have once.
    fn is_whole(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.0 == tag).count();
        let named = count(Tag::User) + count(Tag::Group);
        let whole = [Tag::Owner, Tag::OwningGroup, Tag::Other].iter().all(|tag| count(*tag) == 1);
        whole && count(Tag::Mask) <= 1 && (named == 0 || count(Tag::Mask) == 1)
    }

    /// Reads a list in an attribute, if it is one.
    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        let (version, entries) = value.split_first_chunk()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if *version != VERSION.to_le_bytes() || !rest.is_empty() {
            return None;
        }
        let entry = |&[tag, tag_high, may, may_high, a, b, c, d]: &[u8; 8]| {
            let tag = TAGS
                .into_iter()
                .find(|known| *known as u16 == u16::from_le_bytes([tag, tag_high]))?;
            let permissions = u16::from_le_bytes([may, may_high]);
            (permissions <= 7).then_some((tag, u32::from_le_bytes([a, b, c, d]), permissions))
        };
        entries.iter().map(entry).collect::<Option<_>>().map(Self).filter(Self::is_whole)
    }

    /// The list in text, with numbers for all who have names.
    pub(super) fn text(&self) -> String {
        let entry = |(tag, id, permissions): &Entry| {
            let (whom, id) = match tag {
                Tag::Owner => ("user", String::new()),
                Tag::User => ("user", id.to_string()),
                Tag::OwningGroup => ("group", String::new()),
                Tag::Group => ("group", id.to_string()),
                Tag::Mask => ("mask", String::new()),
                Tag::Other => ("other", String::new()),
            };
            let may = |bit: u16, letter| if permissions & bit == 0 { '-' } else { letter };
            format!("{whom}:{id}:{}{}{}", may(4, 'r'), may(2, 'w'), may(1, 'x'))
        };
        self.0.iter().map(entry).collect::<Vec<_>>().join(",")
    }

    /// The attribute; none if the list says no more than a mode.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        if self.0.len() == MODE_ENTRIES {
            return None;
        }
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, id, permissions) in &self.0 {
            value.extend_from_slice(&(*tag as u16).to_le_bytes());
            value.extend_from_slice(&permissions.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        Some(value)
    }

    /// What the mode of a file with the list says: of its group, what the mask does. Writers do not
    /// agree on that.
    pub(super) fn permissions(&self) -> u32 {
        let masked = self.0.iter().any(|entry| entry.0 == Tag::Mask);
        let digit = |(tag, _, permissions): &Entry| match tag {
            Tag::Owner => u32::from(*permissions) << 6,
            Tag::Mask => u32::from(*permissions) << 3,
            Tag::OwningGroup if !masked => u32::from(*permissions) << 3,
            Tag::Other => u32::from(*permissions),
            _ => 0,
        };
        self.0.iter().map(digit).sum()
    }
}

/// One entry: whom it is for, their name or number, what they may, and perhaps their number again.
fn parse(line: &str) -> Result<Entry, &'static str> {
    let fields: Vec<&str> = line.split(':').map(str::trim).collect();
    let (whom, name, permissions, number) = match *fields.as_slice() {
        [whom @ ("mask" | "m" | "other" | "o"), permissions] => (whom, "", permissions, None),
        [whom, name, permissions] => (whom, name, permissions, None),
        [whom, name, permissions, number] => (whom, name, permissions, Some(number)),
        _ => return Err("an entry that makes no sense"),
    };
    let tag = match (whom, name) {
        ("user" | "u", "") => Tag::Owner,
        ("user" | "u", _) => Tag::User,
        ("group" | "g", "") => Tag::OwningGroup,
        ("group" | "g", _) => Tag::Group,
        ("mask" | "m", "") => Tag::Mask,
        ("other" | "o", "") => Tag::Other,
        _ => return Err("an entry that makes no sense"),
    };
    let id = match tag {
        // Whose number a name is, another machine cannot say.
        Tag::User | Tag::Group => number.unwrap_or(name).parse().map_err(|_| {
            "names of users or groups without their numbers; write the archive with bsdtar --acls, \
             which adds them"
        })?,
        _ => NO_ID,
    };
    let mut bits = 0;
    for letter in permissions.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err("permissions that make no sense"),
        };
    }
    Ok((tag, id, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "user::rwx",
            "user::rwx,group::r-x,other::r-x,other::r-x",
            "user::rwx,user:7:rwx,group::r-x,other::r-x",
            "user::rwz,group::r-x,other::r-x",
            "user::rwx,group::r-x,other:7:r-x",
            "user::rwx,user:joe:rwx,group::r-x,mask::r-x,other::r-x",
            "nobody::rwx,user::rwx,group::r-x,other::r-x",
        ] {
            assert!(Acl::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Acl::parse(b"user::\xff").is_err());
        // An owner alone.
        assert_eq!(Acl::from_value(&[2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255]), None);
        let mode = Acl::parse(b"u::rwx,g::r-x,o:r-x").unwrap();
        assert_eq!((mode.value(), mode.permissions()), (None, 0o755));
    }

    #[test]
    fn numbers_beside_names_count() {
        let libarchive =
            b"user::rw-\nuser:joe:r--:7\ngroup::r--\nmask::r--\t#effective:r--\nother::---";
        let plain = b"other::---,mask::r--,user:7:r--,user::rw-,group::r--";
        let list = Acl::parse(plain).unwrap();
        assert_eq!(Acl::from_value(&list.value().unwrap()).as_ref(), Some(&list));
        assert_eq!(Acl::parse(list.text().as_bytes()).as_ref(), Ok(&list));
        assert_eq!(Acl::parse(libarchive).as_ref(), Ok(&list));
        assert_eq!((list.value().unwrap().len(), list.permissions()), (4 + 5 * 8, 0o640));
    }
}
