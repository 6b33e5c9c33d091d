// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checksums of an archive's headers, which old programs made of bytes with a sign.

use tar_core::{HEADER_SIZE, Header, HeaderError};

/// Gives the headers of the entry that begins in `window` the checksums that they have of bytes without
/// a sign, which a parser insists on, where theirs are of bytes with one.
pub(super) fn unsign(window: &mut [u8]) {
    let mut rest = window;
    while let Some((block, behind)) = rest.split_first_chunk_mut::<HEADER_SIZE>() {
        let mut header = *Header::from_bytes(block);
        if is_signed(&header) {
            header.set_checksum();
            *block = *header.as_bytes();
        }
        let kind = header.entry_type();
        let leads =
            kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink();
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok());
        let Some(size) = size.filter(|_| leads) else { return };
        let next = size.checked_next_multiple_of(HEADER_SIZE);
        let Some(others) = next.and_then(|next| behind.get_mut(next..)) else { return };
        rest = others;
    }
}

fn is_signed(header: &Header) -> bool {
    let Err(HeaderError::ChecksumMismatch { expected, computed }) = header.verify_checksum() else {
        return false;
    };
    let negative = header.as_bytes().iter().filter(|byte| !byte.is_ascii()).count() as u64;
    computed.checked_sub(256 * negative) == Some(expected)
}
