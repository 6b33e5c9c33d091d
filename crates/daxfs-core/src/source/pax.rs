// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PAX records: what they say, and how they are written.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::percent_decode;
use tar_core::PaxExtensions;

use super::acl::Acl;
use crate::base::Xattr;
use crate::error::show;
use crate::format::{XATTR_NAME_MAX, XATTR_SET_MAX, XATTR_VALUE_MAX};
use crate::xattr::{ACL_ACCESS, ACL_DEFAULT};

/// Keyword before the name of an extended attribute. GNU tar escapes `%` and `=` in names,
/// libarchive whatever is not plain ASCII.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// The same with a value in base64, not padded, which libarchive writes besides, or alone.
const XATTR_ENCODED: &[u8] = b"LIBARCHIVE.xattr.";
/// The access control list of a file, and the one of what is made in a directory.
const LIST: &str = "SCHILY.acl.access";
const DEFAULT_LIST: &str = "SCHILY.acl.default";
/// The attributes that they are on Linux.
const LISTS: [(&str, &[u8]); 2] =
    [(LIST, ACL_ACCESS.to_bytes()), (DEFAULT_LIST, ACL_DEFAULT.to_bytes())];
/// Access control lists of NFSv4.
const NFS_LIST: &str = "SCHILY.acl.ace";
/// GNU tar's record of the SELinux label.
const SELINUX: &[u8] = b"RHT.security.selinux";

/// The records that apply to an entry; the last one of a keyword counts.
#[derive(Debug)]
pub(super) struct Records<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Records<'a> {
    /// The records of some headers, if all of them can be read to their end.
    pub(super) fn parse(headers: &[&'a [u8]]) -> Option<Self> {
        let mut records = Vec::new();
        for header in headers {
            let mut known = 0;
            for record in PaxExtensions::new(header) {
                let record = record.ok()?;
                let (keyword, value) = (record.key_bytes(), record.value_bytes());
                known += length(keyword, value);
                records.push((keyword, value));
            }
            // The iterator ends at what does not begin with a number.
            if known != header.len() {
                return None;
            }
        }
        Some(Self(records))
    }

    /// Whether some keyword begins with `prefix`.
    pub(super) fn has(&self, prefix: &str) -> bool {
        self.0.iter().any(|(keyword, _)| keyword.starts_with(prefix.as_bytes()))
    }

    /// A value; an empty one takes back what was said before.
    fn get(&self, keyword: &str) -> Option<&'a [u8]> {
        let (_, value) = self.0.iter().rfind(|(name, _)| *name == keyword.as_bytes())?;
        (!value.is_empty()).then_some(*value)
    }

    /// A decimal number, if the record is there.
    pub(super) fn number(&self, keyword: &str) -> Result<Option<u64>, String> {
        self.parsed(keyword, |text| text.parse().ok())
    }

    /// The modification time in ns, if the record is there.
    pub(super) fn mtime(&self) -> Result<Option<i64>, String> {
        self.parsed("mtime", time)
    }

    fn parsed<T>(
        &self,
        keyword: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.get(keyword) else { return Ok(None) };
        match std::str::from_utf8(value).ok().and_then(parse) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("PAX record {keyword} is not a number")),
        }
    }

    /// What an access control list makes of a file's permissions, if there is one.
    pub(super) fn permissions(&self) -> Result<Option<u32>, String> {
        Ok(self.list(LIST)?.map(|list| list.permissions()))
    }

    fn list(&self, keyword: &str) -> Result<Option<Acl>, String> {
        self.get(keyword).map(Acl::parse).transpose()
    }

    /// Extended attributes in byte order of names.
    pub(super) fn xattrs(&self) -> Result<Vec<Xattr>, String> {
        let mut xattrs = BTreeMap::new();
        for (keyword, value) in &self.0 {
            if let Some(name) = keyword.strip_prefix(XATTR) {
                xattrs.insert(percent_decode(name).collect(), value.to_vec());
            } else if let Some(name) = keyword.strip_prefix(XATTR_ENCODED) {
                let name: Vec<u8> = percent_decode(name).collect();
                let value = STANDARD_NO_PAD
                    .decode(value)
                    .map_err(|error| format!("extended attribute {}: {error}", show(&name)))?;
                xattrs.insert(name, value);
            } else if *keyword == SELINUX {
                xattrs.insert(b"security.selinux".to_vec(), [value, &b"\0"[..]].concat());
            }
        }
        for (keyword, name) in LISTS {
            if let Some(value) = self.list(keyword)?.and_then(|list| list.value()) {
                xattrs.insert(name.to_vec(), value);
            }
        }
        if self.get(NFS_LIST).is_some() {
            return Err("an access control list of NFSv4, which Linux has no attribute for".into());
        }
        let mut bytes = 16;
        for (name, value) in &xattrs {
            if name.is_empty() || name.len() > XATTR_NAME_MAX || name.contains(&0) {
                return Err(format!("extended attribute with a name of {} bytes", name.len()));
            }
            if value.len() > XATTR_VALUE_MAX {
                return Err(format!("extended attribute of {} bytes, too long", value.len()));
            }
            bytes += name.len() + value.len() + 16;
        }
        if bytes > XATTR_SET_MAX {
            return Err(format!("{bytes} bytes of extended attributes, too many"));
        }
        Ok(xattrs.into_iter().collect())
    }
}

/// Bytes of a record, `length keyword=value\n`; the length counts its own digits.
pub(super) fn length(keyword: &[u8], value: &[u8]) -> usize {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    length
}

/// Appends a record.
pub(crate) fn append(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    records.extend_from_slice(length(keyword, value).to_string().as_bytes());
    for part in [b" ", keyword, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Appends the record of an extended attribute, and of an access control list its text: who unpacks
/// lists takes no attributes for them.
pub(crate) fn append_xattr(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let list = LISTS.into_iter().find(|(_, attribute)| *attribute == name);
    if let Some((keyword, _)) = list
        && let Some(list) = Acl::from_value(value)
    {
        append(records, keyword.as_bytes(), list.text().as_bytes());
    }
    let mut keyword = XATTR.to_vec();
    for byte in name {
        // A keyword ends at the first equals sign.
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            other => keyword.push(*other),
        }
    }
    append(records, &keyword, value);
}

/// A time in ns as PAX writes it: seconds, and as much of a fraction as is needed.
pub(crate) fn format_time(time: i64) -> String {
    let magnitude = time.unsigned_abs();
    let (seconds, fraction) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
    let sign = if time < 0 { "-" } else { "" };
    if fraction == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{fraction:09}").trim_end_matches('0').to_owned()
}

/// Decimal seconds as ns; digits below ns are cut, and times out of range brought inside it.
fn time(text: &str) -> Option<i64> {
    // As Python writes what is next to nothing, or far away.
    if text.contains('e') {
        return Some((text.parse::<f64>().ok()? * 1e9).round() as i64);
    }
    let magnitude = text.strip_prefix('-').unwrap_or(text);
    let (seconds, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i128 = format!("{fraction:0<9.9}").parse().ok()?;
    let total = i128::from(seconds.parse::<u64>().ok()?) * 1_000_000_000 + nanoseconds;
    let signed = if text.starts_with('-') { -total } else { total };
    Some(signed.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_sign_and_nanoseconds() {
        for (text, ns) in [
            ("0", 0),
            ("-1.5", -1_500_000_000),
            ("-0.000000001", -1),
            ("1700000000.123456789", 1_700_000_000_123_456_789),
        ] {
            assert_eq!(time(text), Some(ns));
            assert_eq!(format_time(ns), text);
        }
        assert_eq!(time("1.9999999999"), Some(1_999_999_999));
        assert_eq!(time("99999999999999999"), Some(i64::MAX));
        for (text, ns) in [("1e-09", 1), ("-2.5e-05", -25_000), ("1e+17", i64::MAX), ("5e-324", 0)]
        {
            assert_eq!(time(text), Some(ns));
        }
        assert_eq!(time("1e"), None);
        assert_eq!(time("x"), None);
        assert_eq!(time(""), None);
    }

    #[test]
    fn records_count_their_own_digits() {
        for len in [1, 80, 86, 87, 88, 89, 90, 986, 987, 988, 989, 9000] {
            let mut bytes = Vec::new();
            let value = vec![b'\n'; len];
            append(&mut bytes, b"keyword", &value);
            assert_eq!(Records::parse(&[&bytes]).unwrap().get("keyword"), Some(&value[..]));
            bytes.extend_from_slice(b"more");
            assert!(Records::parse(&[&bytes]).is_none());
        }
    }

    #[test]
    fn names_of_attributes_are_escaped_both_ways() {
        let mut bytes = Vec::new();
        append_xattr(&mut bytes, b"user.a=b%c%3D\xff", b"1\n=2");
        let expected = vec![(b"user.a=b%c%3D\xff".to_vec(), b"1\n=2".to_vec())];
        assert_eq!(Records::parse(&[&bytes]).unwrap().xattrs(), Ok(expected));
    }
}
