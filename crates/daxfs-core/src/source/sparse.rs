// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Maps of sparse files in tar archives: old GNU, and PAX 0.0, 0.1 and 1.0.

use super::pax::{Records, decimal};
use super::spool::Archive;
use super::tar::{BLOCK, number};
use crate::error::Result;

/// Most pieces of one file.
const SEGMENTS_MAX: usize = 1 << 22;

/// A block of the archive.
type Block = [u8; BLOCK as usize];
/// Offset in the file and length of each piece.
type Segments = Vec<(u64, u64)>;

/// A file whose pieces lie packed in the archive.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Bytes of the file.
    pub(super) size: u64,
    /// Where the first piece lies in the archive.
    pub(super) position: u64,
    /// The pieces, in order.
    pub(super) segments: Segments,
}

impl Sparse {
    /// Checks a map: pieces in order, inside the file, and all of them in the archive.
    pub(super) fn new(
        segments: Segments,
        position: u64,
        stored: u64,
        size: u64,
    ) -> std::result::Result<Self, String> {
        let (mut end, mut packed) = (0, 0u64);
        for (offset, len) in &segments {
            let stop = offset.checked_add(*len).filter(|stop| *offset >= end && *stop <= size);
            end = stop.ok_or("sparse file whose pieces overlap or lie outside")?;
            packed += len;
        }
        if packed > stored {
            return Err(format!("sparse file of {packed} bytes, only {stored} are there"));
        }
        Ok(Self { size, position, segments })
    }
}

/// The map of an old GNU entry, and the size of the file; `next` gives the blocks that continue
/// it.
pub(super) fn old_gnu(
    header: &Block,
    mut next: impl FnMut() -> Result<Option<Block>>,
) -> Result<Option<(Segments, u64)>> {
    let Some(size) = number(&header[483..495]).and_then(|size| u64::try_from(size).ok()) else {
        return Ok(None);
    };
    let mut segments = Vec::new();
    if !add_old(&mut segments, &header[386..482]) {
        return Ok(None);
    }
    let mut continued = header[482] != 0;
    while continued {
        let Some(block) = next()? else { return Ok(None) };
        if segments.len() > SEGMENTS_MAX || !add_old(&mut segments, &block[..504]) {
            return Ok(None);
        }
        continued = block[504] != 0;
    }
    Ok(Some((segments, size)))
}

fn add_old(segments: &mut Segments, fields: &[u8]) -> bool {
    for pair in fields.chunks_exact(24) {
        // Unused pairs are empty.
        if pair[0] == 0 {
            return true;
        }
        match (number(&pair[..12]), number(&pair[12..])) {
            (Some(offset @ 0..), Some(len @ 0..)) => {
                segments.push((offset.cast_unsigned(), len.cast_unsigned()));
            }
            _ => return false,
        }
    }
    true
}

/// The map that PAX records describe, if they do; `stored` bytes lie at `position`.
pub(super) fn pax(
    records: &Records,
    archive: &Archive,
    position: u64,
    stored: u64,
) -> Result<std::result::Result<Option<Sparse>, String>> {
    let version = (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor"));
    match version {
        (Some(b"1"), Some(b"0")) => {
            let mut text = Text { archive, at: position, end: position + stored, block: [0; 512] };
            let Some(segments) = text.map()? else {
                return Ok(Err("sparse file whose map makes no sense".into()));
            };
            let start = text.at.next_multiple_of(BLOCK).min(position + stored);
            let size = match records.number("GNU.sparse.realsize") {
                Ok(size) => size.unwrap_or(0),
                Err(reason) => return Ok(Err(reason)),
            };
            Ok(Sparse::new(segments, start, position + stored - start, size).map(Some))
        }
        (Some(b"0"), Some(_)) | (None, None) => {
            Ok(pax_zero(records).and_then(|found| match found {
                Some((segments, size)) => Sparse::new(segments, position, stored, size).map(Some),
                None => Ok(None),
            }))
        }
        _ => Ok(Err("sparse file in a format that is not known".into())),
    }
}

/// The map of formats 0.0 (a record for each number) and 0.1 (one for all).
fn pax_zero(records: &Records) -> std::result::Result<Option<(Segments, u64)>, String> {
    let Some(size) = records.number("GNU.sparse.size")? else { return Ok(None) };
    let numbers: Option<Vec<u64>> = match records.get("GNU.sparse.map") {
        Some(map) => map.split(|byte| *byte == b',').map(decimal).collect(),
        None => records
            .local()
            .filter(|(keyword, _)| {
                matches!(*keyword, b"GNU.sparse.offset" | b"GNU.sparse.numbytes")
            })
            .map(|(_, value)| decimal(value))
            .collect(),
    };
    match numbers {
        Some(numbers) if numbers.len().is_multiple_of(2) => {
            let segments = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            Ok(Some((segments, size)))
        }
        _ => Err("sparse file whose map makes no sense".into()),
    }
}

/// Decimal lines at the start of an entry's data.
struct Text<'a> {
    archive: &'a Archive,
    at: u64,
    end: u64,
    block: Block,
}

impl Text<'_> {
    fn map(&mut self) -> Result<Option<Segments>> {
        let Some(count) = self.number()?.filter(|count| *count <= SEGMENTS_MAX as u64) else {
            return Ok(None);
        };
        let mut segments = Vec::new();
        for _ in 0..count {
            match (self.number()?, self.number()?) {
                (Some(offset), Some(len)) => segments.push((offset, len)),
                _ => return Ok(None),
            }
        }
        Ok(Some(segments))
    }

    fn number(&mut self) -> Result<Option<u64>> {
        let mut digits = Vec::new();
        while self.at < self.end && digits.len() < 20 {
            let within = (self.at % BLOCK) as usize;
            if within == 0 {
                let len = (self.end - self.at).min(BLOCK) as usize;
                self.archive.read_at(self.at, &mut self.block[..len])?;
            }
            self.at += 1;
            match self.block[within] {
                b'\n' => return Ok(decimal(&digits)),
                digit => digits.push(digit),
            }
        }
        Ok(None)
    }
}
