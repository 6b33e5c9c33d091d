// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes to an image, made one at a time and taken back.

use std::ops::Range;
use std::sync::Arc;

use daxfs_core::region::Region;
use daxfs_core::validate::{Depth, validate};
use rayon::prelude::*;

use super::exhaust::{exhaust_sound, exhaust_trusting};

/// Bytes to store, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change(pub(crate) Vec<(u64, Vec<u8>)>);

impl Change {
    /// A change of one byte.
    pub(crate) fn byte(offset: u64, value: u8) -> Self {
        Self(vec![(offset, vec![value])])
    }

    /// Two ranges that change places.
    pub(crate) fn swap(image: &[u8], a: u64, b: u64, len: u64) -> Self {
        let bytes = |at: u64| image[at as usize..(at + len) as usize].to_vec();
        Self(vec![(a, bytes(b)), (b, bytes(a))])
    }

    /// Makes the change in `region`; gives the change that takes it back.
    pub(crate) fn apply(&self, region: &Region) -> Self {
        let mut undo = Vec::new();
        for (offset, bytes) in &self.0 {
            let old = region.read_vec(*offset, bytes.len() as u64).expect("inside");
            region.write(*offset, bytes).expect("inside");
            undo.push((*offset, old));
        }
        undo.reverse();
        Self(undo)
    }
}

/// Every value of every byte in `range`, but for the one it has.
pub(crate) fn every_value(
    image: &[u8],
    range: Range<u64>,
) -> impl ParallelIterator<Item = Change> + '_ {
    range.into_par_iter().flat_map_iter(move |offset| {
        let old = image[offset as usize];
        (0..=u8::MAX).filter(move |new| *new != old).map(move |new| Change::byte(offset, new))
    })
}

/// Every value of the bytes in `range` that are not zero; of those that are, the values that could
/// matter, which spares most of the time where most bytes are padding.
pub(crate) fn telling_values(
    image: &[u8],
    range: Range<u64>,
) -> impl ParallelIterator<Item = Change> + '_ {
    let telling = |value: u8| value.is_power_of_two() || matches!(value, b'.' | b'/' | 0xff);
    every_value(image, range).filter(move |change| {
        let (offset, bytes) = &change.0[0];
        image[*offset as usize] != 0 || telling(bytes[0])
    })
}

/// Every flip of one bit in `range`, and the ends of what a byte can be.
pub(crate) fn flips(image: &[u8], range: Range<u64>) -> impl ParallelIterator<Item = Change> + '_ {
    every_value(image, range).filter(|change| {
        let (offset, bytes) = &change.0[0];
        matches!(bytes[0], 0 | 0xff) || (bytes[0] ^ image[*offset as usize]).is_power_of_two()
    })
}

/// Whether the proof finds a region sound.
pub(crate) fn is_sound(region: &Arc<Region>) -> bool {
    validate(region, Depth::Metadata).is_ok_and(|report| report.findings.errors() == 0)
}

/// What became of many changes.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How many were made.
    pub(crate) tried: u64,
    /// Those that left the image sound.
    pub(crate) accepted: Vec<Change>,
}

impl Verdict {
    fn join(mut self, other: Self) -> Self {
        self.tried += other.tried;
        self.accepted.extend(other.accepted);
        self
    }
}

/// Makes each change on its own, and proves and reads the image that results: in good faith
/// always, and to its end where it is sound.
pub(crate) fn try_each(image: &[u8], changes: impl ParallelIterator<Item = Change>) -> Verdict {
    changes
        .map_init(
            || Arc::new(Region::from_bytes(image).expect("memory")),
            |region, change| {
                let undo = change.apply(region);
                let sound = is_sound(region);
                let read = if sound { exhaust_sound(region) } else { exhaust_trusting(region) };
                assert!(!sound || read.is_ok(), "found sound, and refused when opened: {change:?}");
                undo.apply(region);
                Verdict { tried: 1, accepted: if sound { vec![change] } else { Vec::new() } }
            },
        )
        .reduce(Verdict::default, Verdict::join)
}
