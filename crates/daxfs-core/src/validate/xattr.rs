// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Proof of the extended attributes: sets back to back, each well-formed.

use crate::base::{Base, parse_xattrs};
use crate::finding::Findings;

/// Checks every set; gives the image offsets where they start, in ascending order.
pub(super) fn check_sets(base: &Base, checksums: bool, findings: &mut Findings) -> Vec<u64> {
    let range = base.xattr_range();
    let mut starts = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let (header, bytes) = match base.xattr_set(at) {
            Ok(set) => set,
            Err(error) => {
                // Where the next one starts is unknown now.
                findings.absorb(error);
                return starts;
            }
        };
        if checksums {
            let expected = crc32c::crc32c(&bytes[8..]);
            findings.equal("checksum of an attribute set", at + 4, expected, header.checksum.get());
        }
        if let Err(error) = parse_xattrs(at, &header, &bytes) {
            findings.absorb(error);
        }
        starts.push(at);
        at += bytes.len() as u64;
    }
    starts
}
