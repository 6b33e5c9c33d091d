// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Headers of an archive, made what a strict parser takes: it knows fewer ways to say a thing than
//! there are writers.

use tar_core::{HEADER_SIZE, Header, HeaderError, PaxExtensions};

use super::pax::{Records, length};

/// Amends the headers of the entry that begins in `window`, as far as they are in it. Returns the PAX
/// header as it was, if that was changed.
pub(super) fn amend(window: &mut [u8]) -> Option<Vec<u8>> {
    let mut pax = None;
    let mut at = 0;
    let own = loop {
        let Some(block) = window.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else {
            break None;
        };
        unsign(block);
        let header = Header::from_bytes(block);
        let kind = header.entry_type();
        let is_pax = kind.is_pax_local_extensions();
        if !is_pax && !kind.is_gnu_longname() && !kind.is_gnu_longlink() {
            break Some(at);
        }
        let start = at + HEADER_SIZE;
        let end = start.checked_add(header.entry_size().ok()?.try_into().ok()?)?;
        if is_pax && end <= window.len() {
            pax.get_or_insert(start..end);
        }
        at = end.checked_next_multiple_of(HEADER_SIZE)?;
    };
    let pax = pax?;
    let records = Records::parse(&[&window[pax.clone()]]);
    let size = records.and_then(|records| records.number("size").ok().flatten());
    let given = match (own, size) {
        (Some(own), Some(size)) => give_size(window[own..].first_chunk_mut()?, size),
        _ => false,
    };
    mask_keywords(&mut window[pax], given)
}

/// Gives a header the checksum that it has of bytes without a sign, where its own is of bytes with one,
/// as old programs made them.
pub(super) fn unsign(block: &mut [u8; HEADER_SIZE]) {
    let mut header = *Header::from_bytes(block);
    let Err(HeaderError::ChecksumMismatch { expected, computed }) = header.verify_checksum() else {
        return;
    };
    let negative = block.iter().filter(|byte| !byte.is_ascii()).count() as u64;
    if computed.checked_sub(256 * negative) == Some(expected) {
        header.set_checksum();
        *block = *header.as_bytes();
    }
}

/// Gives a sound header the size that a PAX record says: of a sparse file it is that of the map, too,
/// and the parser takes the map off the header's alone.
fn give_size(block: &mut [u8; HEADER_SIZE], size: u64) -> bool {
    let mut header = *Header::from_bytes(block);
    let sound = header.verify_checksum().is_ok();
    if sound {
        // As GNU tar writes what octal digits have no room for.
        let field = &mut header.as_ustar_mut().size;
        *field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
        header.set_checksum();
        *block = *header.as_bytes();
    }
    sound
}

/// Puts ASCII in the place of all else in the keywords of a PAX header, for a parser that takes
/// keywords for text; they may hold names of attributes, which are bytes. And hides that of the size
/// where the header has `given` it. Returns the PAX header as it was, if that changed it.
fn mask_keywords(pax: &mut [u8], given: bool) -> Option<Vec<u8>> {
    let as_it_was = pax.to_vec();
    let mut rest = pax;
    let mut masked = false;
    for record in PaxExtensions::new(&as_it_was) {
        let Ok(record) = record else { break };
        let (keyword, value) = (record.key_bytes(), record.value_bytes());
        let (now, others) = rest.split_at_mut_checked(length(keyword, value))?;
        let end = now.len() - value.len() - 2;
        let hidden = given && keyword == b"size";
        for byte in &mut now[end - keyword.len()..end] {
            if hidden || !byte.is_ascii() {
                *byte = b'_';
                masked = true;
            }
        }
        rest = others;
    }
    masked.then_some(as_it_was)
}
