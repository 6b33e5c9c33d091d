// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The superblock: where every region lies, read once and checked as a whole.

use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::finding::Findings;
use crate::format::{
    BLOCK_SIZE, BRANCH_RECORDS, BRANCH_TABLE_SIZE, MAGIC, OPENER_ENTRIES, OPENER_TABLE_SIZE,
    OWNER_WORD, Superblock, VERSION, feature,
};
use crate::region::Region;

/// A named range of bytes in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What lies there.
    pub name: &'static str,
    /// Image offset in bytes.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Span {
    /// First byte after the range; images are checked not to overflow it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.size)
    }
}

impl Superblock {
    /// Reads the superblock and refuses what cannot be an image for this version.
    ///
    /// In a box from the start: moving 4 KiB about costs more than all else that opening does.
    pub fn read(region: &Region) -> Result<Box<Self>> {
        if region.len() < BLOCK_SIZE {
            return Err(Error::corrupt(
                "superblock",
                0,
                format_args!("{BLOCK_SIZE} bytes"),
                format_args!("an image of {} bytes", region.len()),
            ));
        }
        let mut superblock = Box::new(Self::zeroed());
        region.read_into(0, superblock.as_mut_bytes())?;
        if superblock.magic != MAGIC {
            return Err(Error::corrupt(
                "magic number of the superblock",
                0,
                format_args!("{MAGIC:#x}"),
                format_args!("{:#x} (not a daxfs image)", superblock.magic.get()),
            ));
        }
        if superblock.version != VERSION {
            let what = format!("format version {}, only 3 is known", superblock.version);
            return Err(Error::Unsupported { what });
        }
        let known = feature::NAMES.iter().fold(0, |known, (bit, _)| known | bit);
        let unknown = superblock.flags.get() & feature::INCOMPATIBLE & !known;
        if unknown != 0 {
            let what = format!("incompatible feature bit {}", unknown.trailing_zeros());
            return Err(Error::Unsupported { what });
        }
        Ok(superblock)
    }

    /// Whether a feature bit is set.
    pub fn has(&self, bit: u32) -> bool {
        self.flags.get() & bit != 0
    }

    /// The checksum that the other fields call for.
    pub fn expected_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..64]), &bytes[72..1020])
    }

    /// The label, without its padding.
    pub fn label(&self) -> &[u8] {
        let end = self.label.iter().position(|byte| *byte == 0).unwrap_or(self.label.len());
        &self.label[..end]
    }

    /// Every region, in the order of the format.
    pub fn spans(&self) -> Vec<Span> {
        let part = |there: bool, name, offset, size| there.then_some(Span { name, offset, size });
        let entries = self.branch_table_entries.get();
        let (base, delta) = (self.base_offset.get(), self.delta_region_size.get());
        let table_size = u64::from(entries) * 128;
        let parts = [
            part(true, "superblock", 0, BLOCK_SIZE),
            part(entries != 0, "branch table", self.branch_table_offset.get(), table_size),
            part(base != 0, "base image", base, self.base_size.get()),
            part(delta != 0, "delta region", self.delta_region_offset.get(), delta),
        ];
        parts.into_iter().flatten().collect()
    }

    /// The parts of a delta region of ours.
    pub fn delta_spans(&self) -> Vec<Span> {
        if !self.has(feature::BRANCHES) {
            return Vec::new();
        }
        let blocks = self.heap_blocks.get();
        vec![
            Span {
                name: "owner map",
                offset: self.owner_map_offset.get(),
                size: blocks.saturating_mul(OWNER_WORD),
            },
            Span {
                name: "opener table",
                offset: self.opener_table_offset.get(),
                size: OPENER_TABLE_SIZE,
            },
            Span {
                name: "heap",
                offset: self.heap_offset.get(),
                size: blocks.saturating_mul(BLOCK_SIZE),
            },
        ]
    }

    /// Checks everything that the superblock alone can prove, for a region of `len` bytes.
    pub fn check(&self, len: u64, findings: &mut Findings) {
        findings.equal("block size", 12, BLOCK_SIZE as u32, self.block_size.get());
        if self.total_size.get() > len {
            findings.error(
                "total size",
                16,
                format_args!("at most the {len} bytes that are there"),
                self.total_size,
            );
        }
        if self.has(feature::CHECKSUMS) {
            let expected = self.expected_checksum();
            findings.equal("checksum of the superblock", 1020, expected, self.checksum.get());
        }
        self.check_zeroes(findings);
        self.check_branch_fields(findings);
        let whole = Span { name: "image", offset: 0, size: self.total_size.get() };
        check_spans(&self.spans(), whole, findings);
        let delta = Span {
            name: "delta region",
            offset: self.delta_region_offset.get(),
            size: self.delta_region_size.get(),
        };
        check_spans(&self.delta_spans(), delta, findings);
    }

    fn check_zeroes(&self, findings: &mut Findings) {
        let bytes = self.as_bytes();
        let mut zeroes = |what, range: std::ops::Range<usize>| {
            findings.zeroes(what, range.start as u64, &bytes[range]);
        };
        zeroes("reserved bytes of the superblock", 224..1020);
        zeroes("reserved bytes of the superblock", 1032..1088);
        zeroes("reserved bytes of the superblock", 1096..1152);
        zeroes("reserved bytes of the superblock", 1160..1216);
        zeroes("reserved bytes of the superblock", 1224..4096);
        if !self.has(feature::IDENTITY) {
            zeroes("identity without its feature bit", 96..176);
        }
        if !self.has(feature::BRANCHES) {
            zeroes("branch fields without their feature bit", 176..224);
            zeroes("branch words without their feature bit", 1024..1224);
        }
        if !self.has(feature::CHECKSUMS) {
            zeroes("checksum without its feature bit", 1020..1024);
        }
        let label_end = 112 + self.label().len();
        zeroes("padding of the label", label_end..176);
    }

    fn check_branch_fields(&self, findings: &mut Findings) {
        let entries = self.branch_table_entries.get();
        if self.base_offset == 0 {
            findings.equal("size of no base image", 32, 0, self.base_size.get());
        }
        if entries == 0 {
            findings.equal("offset of no branch table", 40, 0, self.branch_table_offset.get());
            findings.equal("active branches", 52, 0, self.active_branches.get());
            findings.equal("next branch", 56, 0, self.next_branch_id.get());
            findings.equal("offset of no delta region", 72, 0, self.delta_region_offset.get());
            findings.equal("size of no delta region", 80, 0, self.delta_region_size.get());
            findings.equal("allocation in no delta region", 88, 0, self.delta_alloc_offset.get());
        } else {
            findings.equal("entries of the branch table", 48, BRANCH_RECORDS, entries);
        }
        if self.has(feature::BRANCHES) {
            findings.equal("entries of the branch table", 48, BRANCH_RECORDS, entries);
            findings.equal("active branches", 52, 0, self.active_branches.get());
            findings.equal("next branch", 56, 0, self.next_branch_id.get());
            let openers = self.opener_table_entries.get();
            findings.equal("entries of the opener table", 192, OPENER_ENTRIES, openers);
            let end = self.delta_region_offset.get().saturating_add(self.delta_region_size.get());
            findings.equal("end of allocation", 88, end, self.delta_alloc_offset.get());
            if self.reserve_slots.get() >= BRANCH_RECORDS {
                findings.error("reserved slots", 196, "below 256", self.reserve_slots);
            }
            let blocks = self.heap_blocks.get();
            if self.reserve_blocks.get() > blocks {
                let most = format_args!("at most {blocks}").to_string();
                findings.error("reserved blocks", 216, most, self.reserve_blocks);
            }
        }
    }
}

/// Every span on a block, inside `whole`, and apart from the others.
fn check_spans(spans: &[Span], whole: Span, findings: &mut Findings) {
    for span in spans {
        if !span.offset.is_multiple_of(BLOCK_SIZE) {
            findings.error(span.name, span.offset, "a block boundary", "an offset between blocks");
        }
        let end = span.offset.checked_add(span.size);
        if span.offset < whole.offset || end.is_none_or(|end| end > whole.end()) {
            findings.error(
                span.name,
                span.offset,
                format_args!(
                    "inside the {} ({:#x} to {:#x})",
                    whole.name,
                    whole.offset,
                    whole.end()
                ),
                format_args!("{:#x} bytes from {:#x}", span.size, span.offset),
            );
        }
    }
    let mut sorted: Vec<_> = spans.iter().filter(|span| span.size > 0).collect();
    sorted.sort_by_key(|span| span.offset);
    for pair in sorted.windows(2) {
        if pair[0].end() > pair[1].offset {
            findings.error(
                pair[1].name,
                pair[1].offset,
                format_args!("apart from the {}, which ends at {:#x}", pair[0].name, pair[0].end()),
                "an overlap",
            );
        }
    }
}

const _: () = assert!(BRANCH_TABLE_SIZE.is_multiple_of(BLOCK_SIZE));
