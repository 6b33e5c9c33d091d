// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The name of a directory entry, kept in place while it is short: an index may hold millions.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use crate::error::quote;
use crate::format::NAME_MAX;

/// Longest name kept in place.
const SHORT_MAX: usize = 22;

/// A name; it orders, and compares, as its bytes do.
#[derive(Clone)]
pub struct Name(Bytes);

#[derive(Clone)]
enum Bytes {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Self {
        if name.len() > SHORT_MAX {
            return Self(Bytes::Long(name.into()));
        }
        let mut bytes = [0; SHORT_MAX];
        bytes[..name.len()].copy_from_slice(name);
        Self(Bytes::Short { len: name.len() as u8, bytes })
    }
}

impl Deref for Name {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short { len, bytes } => &bytes[..usize::from(*len)],
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Name {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // Zeroes behind the shorter one leave the order as it is.
            (Bytes::Short { len, bytes }, Bytes::Short { len: other_len, bytes: other }) => {
                let order = head(bytes).cmp(&head(other));
                order.then_with(|| tail(bytes).cmp(&tail(other))).then(len.cmp(other_len))
            }
            _ => (**self).cmp(&**other),
        }
    }
}

/// The first bytes of a short name as a number that orders as they do.
#[inline]
fn head(bytes: &[u8; SHORT_MAX]) -> u128 {
    u128::from_be_bytes(*bytes.first_chunk().expect("16 of 22"))
}

/// The same of the last bytes.
#[inline]
fn tail(bytes: &[u8; SHORT_MAX]) -> u64 {
    u64::from_be_bytes(*bytes.last_chunk().expect("8 of 22"))
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(self))
    }
}

/// Whether bytes can name a directory entry.
pub fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && bytes != b"."
        && bytes != b".."
        && !bytes.iter().any(|byte| matches!(byte, 0 | b'/'))
}
