// SPDX-License-Identifier: Apache-2.0 OR MIT
//! PAX records: what they say, and how they are written.

use std::collections::BTreeMap;

use crate::base::Xattr;
use crate::format::{XATTR_NAME_MAX, XATTR_SET_MAX, XATTR_VALUE_MAX};

/// Keyword before the name of an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// The same with name and value encoded, as libarchive writes it beside or instead.
const XATTR_ENCODED: &[u8] = b"LIBARCHIVE.xattr.";
/// GNU tar's record of the SELinux label.
const SELINUX: &[u8] = b"RHT.security.selinux";

/// Keyword and value.
type Record = (Vec<u8>, Vec<u8>);

/// The records that apply to an entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Of the whole archive from here on.
    global: Vec<Record>,
    /// Of the next entry.
    local: Vec<Record>,
}

impl Records {
    /// Takes a global header's records.
    pub(super) fn add_global(&mut self, bytes: &[u8]) -> Option<()> {
        self.global.extend(parse(bytes)?);
        Some(())
    }

    /// Takes the records of the next entry.
    pub(super) fn add_local(&mut self, bytes: &[u8]) -> Option<()> {
        self.local.extend(parse(bytes)?);
        Some(())
    }

    /// Forgets what applied to one entry only.
    pub(super) fn end_entry(&mut self) {
        self.local.clear();
    }

    /// A value; an empty one takes back what was said before.
    pub(super) fn get(&self, keyword: &str) -> Option<&[u8]> {
        let (_, value) = self
            .local
            .iter()
            .rev()
            .chain(self.global.iter().rev())
            .find(|(name, _)| name == keyword.as_bytes())?;
        (!value.is_empty()).then_some(value)
    }

    /// A decimal number, if the record is there.
    pub(super) fn number(&self, keyword: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(keyword) else { return Ok(None) };
        match decimal(value) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("PAX record {keyword} is not a number")),
        }
    }

    /// The modification time in ns, if the record is there.
    pub(super) fn mtime(&self) -> Result<Option<i64>, String> {
        let Some(value) = self.get("mtime") else { return Ok(None) };
        match time(value) {
            Some(time) => Ok(Some(time)),
            None => Err("PAX record mtime is not a time".into()),
        }
    }

    /// Records of the next entry, in order.
    pub(super) fn local(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.local.iter().map(|(keyword, value)| (&keyword[..], &value[..]))
    }

    /// Extended attributes in byte order of names.
    pub(super) fn xattrs(&self) -> Result<Vec<Xattr>, String> {
        // The plain form wins over the encoded one, wherever they stand.
        let (mut encoded, mut plain) = (BTreeMap::new(), BTreeMap::new());
        for (keyword, value) in self.global.iter().chain(&self.local) {
            if let Some(name) = keyword.strip_prefix(XATTR) {
                plain.insert(unescape(name, |code| matches!(code, b'%' | b'=')), value.clone());
            } else if let Some(name) = keyword.strip_prefix(XATTR_ENCODED) {
                let value = base64(value).ok_or("extended attribute that is not base64")?;
                encoded.insert(unescape(name, |_| true), value);
            } else if keyword == SELINUX {
                let mut label = value.clone();
                label.push(0);
                encoded.insert(b"security.selinux".to_vec(), label);
            }
        }
        encoded.append(&mut plain);
        let mut bytes = 16;
        for (name, value) in &encoded {
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
        Ok(encoded.into_iter().collect())
    }
}

/// Records of a PAX header: `length keyword=value\n` each.
fn parse(mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
        if length <= space + 1 || length > bytes.len() {
            return None;
        }
        let (record, rest) = bytes.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = rest;
    }
    Some(records)
}

/// Appends a record; its length counts its own digits.
pub(crate) fn append(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(keyword);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Appends the record of an extended attribute.
pub(crate) fn append_xattr(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
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

/// A decimal number and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Decimal seconds as ns; digits below ns are cut, and times out of range brought inside it.
fn time(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|byte| *byte == b'.');
    let (seconds, fraction) = match dot {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9).fold(0, |sum, digit| {
        sum * 10 + fraction.get(digit).map_or(0, |digit| i128::from(digit - b'0'))
    });
    let total = i128::from(decimal(seconds)?) * 1_000_000_000 + nanoseconds;
    let signed = if negative { -total } else { total };
    Some(signed.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

/// Replaces `%XX` by the byte it stands for, where `known` accepts that byte.
fn unescape(text: &[u8], known: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match code.filter(|code| known(*code)) {
            Some(code) => {
                plain.push(code);
                rest = &tail[2..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for position in 0..4 {
            let value = match group.get(position) {
                None => 0,
                Some(letter @ b'A'..=b'Z') => letter - b'A',
                Some(letter @ b'a'..=b'z') => letter - b'a' + 26,
                Some(letter @ b'0'..=b'9') => letter - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        if group.len() == 1 {
            return None;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
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
            assert_eq!(time(text.as_bytes()), Some(ns));
            assert_eq!(format_time(ns), text);
        }
        assert_eq!(time(b"1.9999999999"), Some(1_999_999_999));
        assert_eq!(time(b"99999999999999999"), Some(i64::MAX));
        assert_eq!(time(b"x"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn records_count_their_own_digits() {
        for len in [0, 1, 80, 86, 87, 88, 89, 90, 986, 987, 988, 989, 9000] {
            let mut bytes = Vec::new();
            let value = vec![b'\n'; len];
            append(&mut bytes, b"keyword", &value);
            assert_eq!(parse(&bytes), Some(vec![(b"keyword".to_vec(), value)]));
        }
    }

    #[test]
    fn names_of_attributes_are_escaped_both_ways() {
        let mut bytes = Vec::new();
        append_xattr(&mut bytes, b"user.a=b%c%3D", b"1\n=2");
        append(&mut bytes, b"LIBARCHIVE.xattr.user.%7e", b"AP8Q");
        let mut records = Records::default();
        records.add_local(&bytes).unwrap();
        let expected = vec![
            (b"user.a=b%c%3D".to_vec(), b"1\n=2".to_vec()),
            (b"user.~".to_vec(), vec![0, 0xff, 0x10]),
        ];
        assert_eq!(records.xattrs(), Ok(expected));
    }
}
