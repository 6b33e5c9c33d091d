// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every metadata structure of an image with its offsets, names and values, sound or not.
//!
//! What a structure holds is told by [`Layout::FIELDS`] alone. Nothing is believed: an offset that
//! leads outside the image is reported, and no table is followed beyond a limit.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Error, Result, show};
use crate::format::{
    BaseInode, BaseSuperblock, BranchRecord, ContinueBody, CreateBody, DIRENT_SIZE, DeleteBody,
    EntryHeader, ExtentBody, Kind, Layout, LinkBody, MknodBody, OWNER_WORD, OpenerEntry, PunchBody,
    RawDirent, RenameBody, SetattrBody, SetattrTimes, Superblock, SymlinkBody, TruncateBody,
    WriteBody, XATTR_NAME_MAX, XattrBody, XattrEntry, XattrSet, entry, feature, mode, setattr,
};
use crate::region::Region;

/// Most bytes of a name, target or value that are shown.
const SHOWN_MAX: u64 = 4096;

/// The form of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpFormat {
    /// A line for each structure, and an indented one for each field.
    Text,
    /// A JSON object on a line for each structure.
    Json,
}

/// How to dump.
#[derive(Debug, Clone, Copy)]
pub struct DumpOptions {
    /// The form.
    pub format: DumpFormat,
    /// Most entries shown of one table, directory or log.
    pub limit: u64,
}

/// Writes every metadata structure of an image to `out`; messages call that `name`.
pub fn dump(region: &Region, options: DumpOptions, out: &mut dyn Write, name: &Path) -> Result<()> {
    let mut dump = Dump { region, options, out, name };
    let Some(superblock) = dump.structure::<Superblock>("", 0, &[])? else { return Ok(()) };
    dump.branches(&superblock)?;
    if superblock.base_offset != 0 {
        dump.base(&superblock)?;
    }
    if superblock.has(feature::BRANCHES) {
        let at = superblock.opener_table_offset.get();
        let count = superblock.opener_table_entries.get();
        dump.table::<OpenerEntry>(at, count.into(), |_, _, _| Ok(()))?;
        dump.owner_map(&superblock)?;
    }
    Ok(())
}

/// Bytes that belong to a structure without being one of its fields.
struct Tail {
    name: &'static str,
    at: u64,
    len: u64,
}

/// A field as it is shown.
struct Shown {
    name: &'static str,
    at: u64,
    size: u64,
    kind: Kind,
    bytes: Vec<u8>,
}

struct Dump<'a> {
    region: &'a Region,
    options: DumpOptions,
    out: &'a mut dyn Write,
    name: &'a Path,
}

impl Dump<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) -> Result<()> {
        writeln!(self.out, "{line}").map_err(Error::io("write", self.name))
    }

    /// Says what cannot be shown.
    fn note(&mut self, at: u64, what: &str) -> Result<()> {
        match self.options.format {
            DumpFormat::Text => self.line(format_args!("! {at:#x}: {what}")),
            DumpFormat::Json => self.line(format_args!("{}", json!({"offset": at, "note": what}))),
        }
    }

    /// Bytes from `at` on, as many of `len` as the image has.
    fn bytes(&self, at: u64, len: u64) -> Vec<u8> {
        let there = self.region.len().saturating_sub(at).min(len);
        self.region.read_vec(at, there).unwrap_or_default()
    }

    /// Shows fields, by name, place and value.
    fn show(&mut self, name: &str, label: &str, at: u64, fields: &[Shown]) -> Result<()> {
        if self.options.format == DumpFormat::Json {
            let fields: Vec<String> = fields
                .iter()
                .map(|Shown { name, at, size, kind, bytes }| {
                    let (name, value) = (json!(name), json(*kind, bytes));
                    format!(r#"{{"name":{name},"offset":{at},"size":{size},"value":{value}}}"#)
                })
                .collect();
            let (name, label, fields) = (json!(name), json!(label), fields.join(","));
            return self.line(format_args!(
                r#"{{"structure":{name},"label":{label},"offset":{at},"fields":[{fields}]}}"#
            ));
        }
        let space = if label.is_empty() { "" } else { " " };
        self.line(format_args!("{name}{space}{label} at {at:#x}"))?;
        for Shown { name, at, size, kind, bytes } in fields {
            let value = text(*kind, bytes);
            self.line(format_args!("  {at:#010x} {size:>4} {name:<22} {value}"))?;
        }
        Ok(())
    }

    /// A field of text that follows a structure.
    fn tail(&self, Tail { name, at, len }: &Tail) -> Shown {
        let bytes = self.bytes(*at, (*len).min(SHOWN_MAX));
        Shown { name, at: *at, size: *len, kind: Kind::Text, bytes }
    }

    /// Shows a structure and what follows it; none if the image ends inside the structure.
    fn structure<T: Layout + FromBytes + IntoBytes>(
        &mut self,
        label: &str,
        at: u64,
        tails: &[Tail],
    ) -> Result<Option<T>> {
        let bytes = self.bytes(at, size_of::<T>() as u64);
        let fields = T::FIELDS.iter().filter(|field| field.offset + field.size <= bytes.len());
        let mut shown: Vec<Shown> = fields
            .map(|field| Shown {
                name: field.name,
                at: at + field.offset as u64,
                size: field.size as u64,
                kind: field.kind,
                bytes: bytes[field.offset..field.offset + field.size].to_vec(),
            })
            .collect();
        shown.extend(tails.iter().map(|tail| self.tail(tail)));
        self.show(T::NAME, label, at, &shown)?;
        let whole = T::read_from_bytes(&bytes).ok();
        if whole.is_none() {
            let what =
                format!("the image ends inside this {} of {} bytes", T::NAME, size_of::<T>());
            self.note(at, &what)?;
        }
        Ok(whole)
    }

    /// Shows `count` structures that lie back to back, and what `below` adds to each.
    fn table<T: Layout + FromBytes + IntoBytes>(
        &mut self,
        at: u64,
        count: u64,
        mut below: impl FnMut(&mut Self, u64, T) -> Result<()>,
    ) -> Result<()> {
        let size = size_of::<T>() as u64;
        for index in 0..count {
            let Some(at) = index.checked_mul(size).and_then(|offset| at.checked_add(offset)) else {
                return self.note(at, &format!("{} {index} would lie outside", T::NAME));
            };
            if index == self.options.limit {
                let more = count - index;
                return self.note(at, &format!("{more} more of {}, not shown", T::NAME));
            }
            let Some(value) = self.structure::<T>(&index.to_string(), at, &[])? else {
                return Ok(());
            };
            below(self, at, value)?;
        }
        Ok(())
    }

    /// Branch records that are in use, and their logs.
    fn branches(&mut self, superblock: &Superblock) -> Result<()> {
        let table = superblock.branch_table_offset.get();
        let size = size_of::<BranchRecord>() as u64;
        let mut shown = 0;
        for slot in 0..u64::from(superblock.branch_table_entries.get()) {
            let Some(at) = table.checked_add(slot * size) else { break };
            let bytes = self.bytes(at, size);
            // Slots that were never used say nothing.
            if bytes.len() as u64 == size && bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            if shown == self.options.limit {
                return self.note(at, "more branch records, not shown");
            }
            shown += 1;
            let Some(record) = self.structure::<BranchRecord>(&slot.to_string(), at, &[])? else {
                break;
            };
            self.log(superblock, &record)?;
        }
        Ok(())
    }

    /// The entries of a branch's log, from segment to segment.
    fn log(&mut self, superblock: &Superblock, record: &BranchRecord) -> Result<()> {
        let ours = superblock.has(feature::BRANCHES);
        let mut at = record.delta_log_offset.get();
        let mut left = record.delta_log_size.get();
        let mut segment_end = at.saturating_add(record.delta_log_capacity.get());
        let mut index = 0;
        while left > 0 {
            if index == self.options.limit {
                return self.note(at, &format!("{left} more bytes of log, not shown"));
            }
            let Some(header) = self.structure::<EntryHeader>(&index.to_string(), at, &[])? else {
                return Ok(());
            };
            let size = u64::from(header.total_size.get());
            let room = segment_end.saturating_sub(at).min(left);
            if size < size_of::<EntryHeader>() as u64 || size > room {
                return self.note(at, &format!("an entry of {size} bytes, {room} are left"));
            }
            let body = at + size_of::<EntryHeader>() as u64;
            self.entry_body(header.kind.get(), body)?;
            at += size;
            if ours && header.kind == entry::CONTINUE {
                let bytes = self.bytes(body, size_of::<ContinueBody>() as u64);
                let Ok(segment) = ContinueBody::read_from_bytes(&bytes) else { return Ok(()) };
                at = segment.next.get();
                segment_end = at.saturating_add(segment.capacity.get());
            }
            left -= size;
            index += 1;
        }
        Ok(())
    }

    fn entry_body(&mut self, kind: u32, at: u64) -> Result<()> {
        match kind {
            entry::WRITE => self.body::<WriteBody>(at, |_| Vec::new()),
            entry::CREATE | entry::MKDIR => {
                self.body::<CreateBody>(at, |body| vec![("name", body.name_len.get().into())])
            }
            entry::DELETE => {
                self.body::<DeleteBody>(at, |body| vec![("name", body.name_len.get().into())])
            }
            entry::TRUNCATE => self.body::<TruncateBody>(at, |_| Vec::new()),
            entry::RENAME => self.body::<RenameBody>(at, |body| {
                vec![
                    ("old_name", body.old_name_len.get().into()),
                    ("new_name", body.new_name_len.get().into()),
                ]
            }),
            entry::SETATTR => {
                let bytes = self.bytes(at, size_of::<SetattrBody>() as u64);
                self.body::<SetattrBody>(at, |_| Vec::new())?;
                match SetattrBody::read_from_bytes(&bytes) {
                    Ok(body) if body.valid.get() & setattr::TIMES != 0 => {
                        self.body::<SetattrTimes>(at + bytes.len() as u64, |_| Vec::new())
                    }
                    _ => Ok(()),
                }
            }
            entry::SYMLINK => self.body::<SymlinkBody>(at, |body| {
                vec![("name", body.name_len.get().into()), ("target", body.target_len.get().into())]
            }),
            entry::CONTINUE => self.body::<ContinueBody>(at, |_| Vec::new()),
            entry::MKNOD => self.body::<MknodBody>(at, |body| {
                vec![("name", body.name_len.get().into()), ("target", body.target_len.get().into())]
            }),
            entry::LINK => {
                self.body::<LinkBody>(at, |body| vec![("name", body.name_len.get().into())])
            }
            entry::EXTENT => self.body::<ExtentBody>(at, |_| Vec::new()),
            entry::PUNCH => self.body::<PunchBody>(at, |_| Vec::new()),
            entry::XATTR => self.body::<XattrBody>(at, |body| {
                vec![("name", body.name_len.get().into()), ("value", body.value_len.get().into())]
            }),
            other => self.note(at, &format!("an entry of unknown type {other}")),
        }
    }

    /// A log entry's body and the texts that follow it.
    fn body<T: Layout + FromBytes + IntoBytes>(
        &mut self,
        at: u64,
        texts: impl FnOnce(&T) -> Vec<(&'static str, u64)>,
    ) -> Result<()> {
        let mut next = at + size_of::<T>() as u64;
        let mut tails = Vec::new();
        if let Ok(body) = T::read_from_bytes(&self.bytes(at, size_of::<T>() as u64)) {
            for (name, len) in texts(&body) {
                tails.push(Tail { name, at: next, len });
                next = next.saturating_add(len);
            }
        }
        self.structure::<T>("", at, &tails).map(drop)
    }

    fn base(&mut self, superblock: &Superblock) -> Result<()> {
        let base = superblock.base_offset.get();
        let Some(header) = self.structure::<BaseSuperblock>("", base, &[])? else { return Ok(()) };
        let Some(table) = base.checked_add(header.inode_offset.get()) else {
            return self.note(base, "an inode table that would lie outside");
        };
        self.table::<BaseInode>(table, header.inode_count.get().into(), |dump, at, inode| {
            let data = base.checked_add(inode.data_offset.get());
            let size = inode.size.get();
            match (inode.mode.get() & mode::TYPE, data) {
                (_, None) => dump.note(at, "data that would lie outside"),
                (mode::DIRECTORY, Some(data)) => {
                    dump.table::<RawDirent>(data, size / DIRENT_SIZE, |_, _, _| Ok(()))
                }
                (mode::SYMLINK, Some(at)) => {
                    let target = dump.tail(&Tail { name: "target", at, len: size });
                    dump.show("symlink target", "", at, &[target])
                }
                _ => Ok(()),
            }
        })?;
        if superblock.has(feature::XATTRS) {
            let (offset, size) = (header.xattr_offset.get(), header.xattr_size.get());
            match base.checked_add(offset).and_then(|at| Some((at, at.checked_add(size)?))) {
                Some((at, end)) => self.xattrs(at, end)?,
                None => self.note(base, "extended attributes that would lie outside")?,
            }
        }
        Ok(())
    }

    /// Attribute sets that lie back to back.
    fn xattrs(&mut self, mut at: u64, end: u64) -> Result<()> {
        let mut index = 0;
        while at < end {
            if index == self.options.limit {
                return self.note(at, &format!("{} more bytes of attributes, not shown", end - at));
            }
            let Some(set) = self.structure::<XattrSet>(&index.to_string(), at, &[])? else {
                return Ok(());
            };
            let size = u64::from(set.size.get());
            if size < size_of::<XattrSet>() as u64 || size > end - at {
                return self.note(at, &format!("a set of {size} bytes, {} are left", end - at));
            }
            self.xattr_entries(at, &set)?;
            at += size;
            index += 1;
        }
        Ok(())
    }

    fn xattr_entries(&mut self, set_at: u64, set: &XattrSet) -> Result<()> {
        let header = size_of::<XattrEntry>() as u64;
        let end = set_at + u64::from(set.size.get());
        let mut at = set_at + size_of::<XattrSet>() as u64;
        for index in 0..u64::from(set.count.get()) {
            if at + header > end {
                return self.note(at, "the set ends before its entries do");
            }
            if index == self.options.limit {
                return self.note(at, "more attributes in this set, not shown");
            }
            let mut tails = Vec::new();
            let mut next = at + header;
            if let Ok(entry) = XattrEntry::read_from_bytes(&self.bytes(at, header)) {
                let (name, value) = (entry.name_len.get().into(), entry.value_len.get().into());
                if name <= XATTR_NAME_MAX as u64 && next + name + value <= end {
                    tails.push(Tail { name: "name", at: next, len: name });
                    tails.push(Tail { name: "value", at: next + name, len: value });
                }
                next += (name + value).next_multiple_of(8);
            }
            self.structure::<XattrEntry>(&index.to_string(), at, &tails)?;
            at = next;
        }
        Ok(())
    }

    /// Runs of heap blocks that have the same owner.
    fn owner_map(&mut self, superblock: &Superblock) -> Result<()> {
        let map = superblock.owner_map_offset.get();
        let blocks = superblock.heap_blocks.get();
        let (mut block, mut shown) = (0, 0);
        while block < blocks {
            let word = |block: u64| {
                let at = map.checked_add(block.checked_mul(OWNER_WORD)?)?;
                self.region.read::<[u8; 8]>(at).ok().map(u64::from_le_bytes)
            };
            let Some(owner) = word(block) else {
                return self
                    .note(map, &format!("the image ends before word {block} of the owner map"));
            };
            let mut end = block + 1;
            while end < blocks && word(end) == Some(owner) {
                end += 1;
            }
            let (first, count, at) = (block, end - block, map + block * OWNER_WORD);
            block = end;
            if owner == 0 {
                continue;
            }
            if shown == self.options.limit {
                return self.note(at, "more of the owner map, not shown");
            }
            shown += 1;
            match self.options.format {
                DumpFormat::Text => self.line(format_args!(
                    "owner map at {at:#x}: {count} blocks from {first} on belong to {owner}"
                ))?,
                DumpFormat::Json => {
                    let line = json!({
                        "structure": "owner map", "offset": at,
                        "first_block": first, "blocks": count, "owner": owner,
                    });
                    self.line(format_args!("{line}"))?;
                }
            }
        }
        Ok(())
    }
}

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text without the zeroes that pad it.
fn unpadded(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Reserved bytes: where the first one is that is not zero.
fn reserved(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some((first, unpadded(&bytes[first..])))
}

fn text(kind: Kind, bytes: &[u8]) -> String {
    match kind {
        Kind::Number => format!("{0:#x} ({0})", number(bytes)),
        Kind::Signed => format!("{0:#x} ({0})", number(bytes).cast_signed()),
        Kind::Text => format!("\"{}\"", show(unpadded(bytes)).replace('"', "\\\"")),
        Kind::Bytes => hex(bytes),
        Kind::Reserved => match reserved(bytes) {
            None => "zero".into(),
            Some((first, rest)) => {
                format!("not zero: +{first} {}", hex(&rest[..rest.len().min(32)]))
            }
        },
    }
}

/// As text: names are bytes, and JSON's strings alone cannot hold all of them.
fn json(kind: Kind, bytes: &[u8]) -> String {
    match kind {
        Kind::Number => number(bytes).to_string(),
        Kind::Signed => number(bytes).cast_signed().to_string(),
        Kind::Text => quoted(unpadded(bytes)),
        Kind::Bytes => quoted(hex(bytes).as_bytes()),
        Kind::Reserved => match reserved(bytes) {
            None => "0".into(),
            Some((_, rest)) => quoted(hex(rest).as_bytes()),
        },
    }
}

/// A string of ASCII alone, with what is not UTF-8 as lone surrogates, as Python has it.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let valid = json!(chunk.valid()).to_string();
        for c in valid[1..valid.len() - 1].chars() {
            if matches!(c, ' '..='~') {
                text.push(c);
            } else {
                text.extend(
                    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")),
                );
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\udc{byte:02x}")));
    }
    text + "\""
}
