// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of the heap a writer leaves to others: a full image can always be emptied.
//!
//! What was removed comes back when main's layers are folded, and folding writes what is left of
//! their logs once more. So whoever writes leaves as many blocks free as all of its branch's tree
//! would take in a log, and growth the reserve besides. Entries that remove are short beside
//! those that made what they remove, so they come to an end before the room does.

use super::Writer;
use crate::branch::handle::Open;
use crate::error::{Error, Result};
use crate::format::BLOCK_SIZE;
use crate::merge::{bytes_of, is_replayable, merge};

/// What blocks are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// File data, and the entries that add something.
    Growth,
    /// Entries that remove something.
    Relief,
}

/// What a log with nothing but the tree of a branch would take.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// Bytes of the logs below the branch's own.
    below: Option<u64>,
    /// Bytes when it was last found out, and how long the branch's own log was then.
    found: Option<(u64, u64)>,
}

impl Merged {
    /// Bytes that suffice, with an own log of `position` bytes.
    fn most(&self, below: u64, position: u64) -> u64 {
        let logs = below.saturating_add(position);
        self.found.map_or(logs, |(bytes, at)| logs.min(bytes + position.saturating_sub(at)))
    }
}

/// Blocks of a log of `bytes`, with what is lost at the ends of its segments.
fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_SIZE) * 9 / 8 + 2
}

impl Open {
    /// How many blocks stay free when some are taken for `purpose`.
    pub(super) fn keep(&self, writer: &mut Writer, purpose: Purpose) -> Result<u64> {
        let state = self.read_state();
        let below = match writer.merged.below {
            Some(bytes) => bytes,
            None => {
                let records = &self.session.records;
                let chain = records.chain(state.id)?;
                let sizes = chain.iter().skip(1).map(|slot| records.size(*slot));
                let sum = sizes
                    .into_iter()
                    .try_fold(0, |sum, size| Ok::<_, Error>(u64::saturating_add(sum, size?)));
                *writer.merged.below.insert(sum?)
            }
        };
        let folding = match below.saturating_add(state.cursor.position) {
            // Nothing is there yet that could be removed.
            0 => 0,
            _ => blocks(writer.merged.most(below, state.cursor.position)),
        };
        Ok(match purpose {
            Purpose::Growth => folding + self.session.heap.reserve(),
            Purpose::Relief => folding,
        })
    }

    /// Finds out what the tree would take in a log of its own, in blocks; none if it cannot be in one.
    pub(super) fn measure(&self, writer: &mut Writer) -> Result<Option<u64>> {
        let (state, base) = (self.read_state(), self.session.image.base());
        let entries = merge(base, &state.index)?;
        let bytes = bytes_of(&entries);
        writer.merged = Merged { below: None, found: Some((bytes, state.cursor.position)) };
        Ok(is_replayable(base, &entries).then(|| blocks(bytes)))
    }
}
