// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a file's bytes lie: disjoint runs in order; what none covers reads as zeroes.

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::error::Result;
use crate::map::Map;
use crate::region::Region;

/// A run of a file's bytes that lies in one piece in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub file_offset: u64,
    /// Image offset of the bytes.
    pub image_offset: u64,
    /// Bytes.
    pub len: u64,
    /// Whether the bytes lie in a log, and not in the base image or in blocks of their own.
    pub in_log: bool,
}

impl Extent {
    /// First offset in the file after the run; both ends of a run are at most
    /// [`crate::delta::FILE_SIZE_MAX`].
    pub fn end(&self) -> u64 {
        self.file_offset + self.len
    }

    /// The part of the run that lies in `range`, which it must reach into.
    fn clip(&self, range: &Range<u64>) -> Self {
        let file_offset = self.file_offset.max(range.start);
        Self {
            file_offset,
            image_offset: self.image_offset + (file_offset - self.file_offset),
            len: self.end().min(range.end) - file_offset,
            in_log: self.in_log,
        }
    }

    /// Whether `next` goes on where this run ends, in the file and in the image.
    fn continues_in(&self, next: &Self) -> bool {
        self.end() == next.file_offset
            && self.image_offset + self.len == next.image_offset
            && self.in_log == next.in_log
    }
}

/// The runs of one file. Most files have one, which needs no memory of its own.
#[derive(Debug, Clone, Default)]
pub struct Extents {
    runs: Runs,
}

#[derive(Debug, Clone, Default)]
enum Runs {
    #[default]
    None,
    One(Extent),
    // By their offsets in the file; `held` is the sum of their lengths.
    Many {
        map: Map<u64, Extent>,
        held: u64,
    },
}

/// Fewer runs are laid over a file one by one.
const FEW: usize = 16;

/// What is seen of runs of which each lies over those before it: disjoint runs in order.
fn paint(layers: &[Extent]) -> Vec<Extent> {
    let mut begins: Vec<(u64, usize)> =
        layers.iter().enumerate().map(|(layer, run)| (run.file_offset, layer)).collect();
    begins.sort_unstable();
    let mut seen: Vec<Extent> = Vec::with_capacity(layers.len());
    // Layers that reach the offset that was come to, or ended before it.
    let mut here = BinaryHeap::new();
    let mut at = 0;
    let last = (u64::MAX, layers.len());
    for (next, layer) in begins.into_iter().chain([last]) {
        while at < next
            && let Some(&top) = here.peek()
        {
            let run: &Extent = &layers[top];
            if run.end() <= at {
                here.pop();
                continue;
            }
            let part = run.clip(&(at..next));
            at = part.end();
            match seen.last_mut() {
                Some(before) if before.continues_in(&part) => before.len += part.len,
                _ => seen.push(part),
            }
        }
        at = next;
        here.push(layer);
    }
    seen
}

impl Extents {
    /// Lays runs over what is there, one after the other.
    ///
    /// Each would have to find its place in memory that is in no cache; many are put in order
    /// first, and laid down from one end of the file to the other.
    pub fn insert_all(&mut self, extents: &[Extent]) {
        if extents.len() < FEW {
            return extents.iter().for_each(|extent| self.insert(*extent));
        }
        paint(extents).into_iter().for_each(|run| self.insert(run));
    }

    /// Lays a run over what is there.
    pub fn insert(&mut self, extent: Extent) {
        if extent.len == 0 {
            return;
        }
        match &mut self.runs {
            Runs::None => self.runs = Runs::One(extent),
            Runs::One(only) if only.continues_in(&extent) => only.len += extent.len,
            Runs::One(only)
                if extent.file_offset <= only.file_offset && extent.end() >= only.end() =>
            {
                *only = extent;
            }
            _ => self.insert_among(extent),
        }
    }

    fn insert_among(&mut self, mut extent: Extent) {
        let (map, _) = self.many();
        let around = |map: &Map<u64, Extent>| {
            let before = map.below(&extent.file_offset).map(|(_, run)| *run);
            // What is written last mostly comes last, and then there is nothing behind it.
            let behind = map.last().is_some_and(|(at, _)| *at >= extent.file_offset);
            let after = behind.then(|| map.first_from(&extent.file_offset));
            (before, after.flatten().map(|(_, run)| *run))
        };
        let (mut before, mut after) = around(map);
        if before.is_some_and(|run| run.end() > extent.file_offset)
            || after.is_some_and(|run| run.file_offset < extent.end())
        {
            self.remove(extent.file_offset..extent.end());
            (before, after) = around(self.many().0);
        }
        let (map, held) = self.many();
        *held += extent.len;
        if let Some(after) = after.filter(|after| extent.continues_in(after)) {
            map.remove(&after.file_offset);
            extent.len += after.len;
        }
        match before.filter(|before| before.continues_in(&extent)) {
            Some(before) => {
                let run = map.get_mut(&before.file_offset).expect("it was just found");
                run.len += extent.len;
            }
            None => drop(map.insert(extent.file_offset, extent)),
        }
    }

    /// The runs as a map, whatever they were.
    fn many(&mut self) -> (&mut Map<u64, Extent>, &mut u64) {
        if !matches!(self.runs, Runs::Many { .. }) {
            let (mut map, mut held) = (Map::default(), 0);
            if let Runs::One(only) = self.runs {
                map.insert(only.file_offset, only);
                held = only.len;
            }
            self.runs = Runs::Many { map, held };
        }
        match &mut self.runs {
            Runs::Many { map, held } => (map, held),
            _ => unreachable!("made above"),
        }
    }

    /// Drops everything from `size` on.
    pub fn truncate(&mut self, size: u64) {
        self.remove(size..u64::MAX);
    }

    /// Makes a hole: runs inside are dropped, runs that reach into it are trimmed or split.
    pub fn remove(&mut self, hole: Range<u64>) {
        match &mut self.runs {
            Runs::None => return,
            Runs::One(only) if only.end() <= hole.start || only.file_offset >= hole.end => return,
            Runs::One(only) if only.file_offset >= hole.start && only.end() <= hole.end => {
                self.runs = Runs::None;
                return;
            }
            Runs::One(only) if only.end() <= hole.end => {
                *only = only.clip(&(0..hole.start));
                return;
            }
            _ => {}
        }
        let (map, held) = self.many();
        // At most one run begins before the hole and reaches into it.
        if let Some((_, &before)) = map.below(&hole.start)
            && before.end() > hole.start
        {
            map.insert(before.file_offset, before.clip(&(0..hole.start)));
            *held -= before.end().min(hole.end) - hole.start;
            if before.end() > hole.end {
                map.insert(hole.end, before.clip(&(hole.end..u64::MAX)));
            }
        }
        while let Some((_, &run)) = map.first_from(&hole.start)
            && run.file_offset < hole.end
        {
            map.remove(&run.file_offset);
            *held -= run.end().min(hole.end) - run.file_offset;
            if run.end() > hole.end {
                map.insert(hole.end, run.clip(&(hole.end..u64::MAX)));
            }
        }
    }

    /// Bytes that the runs have, those behind the file's size included.
    pub fn held(&self) -> u64 {
        match &self.runs {
            Runs::None => 0,
            Runs::One(only) => only.len,
            Runs::Many { held, .. } => *held,
        }
    }

    /// All runs, those behind the file's size included, in order.
    pub fn iter(&self) -> impl Iterator<Item = Extent> + '_ {
        self.overlapping(0..u64::MAX)
    }

    /// The runs that reach into `range`, clipped to it, in order; it must not be reversed.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let (one, map) = match &self.runs {
            Runs::None => (None, None),
            Runs::One(only) => (Some(only), None),
            Runs::Many { map, .. } => (map.below(&range.start).map(|(_, run)| run), Some(map)),
        };
        let rest = map.into_iter().flat_map({
            let start = range.start;
            move |map| map.from(&start).map(|(_, run)| run)
        });
        let (start, end) = (range.start, range.end);
        one.into_iter()
            .filter(move |run| run.end() > start)
            .chain(rest)
            .take_while(move |run| run.file_offset < end && start < end)
            .map(move |run| run.clip(&range))
    }

    /// Fills `buffer` with the file's bytes from `offset` on.
    pub fn read(&self, region: &Region, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        for run in self.overlapping(offset..offset.saturating_add(buffer.len() as u64)) {
            let start = (run.file_offset - offset) as usize;
            let end = start + run.len as usize;
            buffer[filled..start].fill(0);
            region.read_into(run.image_offset, &mut buffer[start..end])?;
            filled = end;
        }
        buffer[filled..].fill(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn laid_at_once_or_one_by_one(
            before in prop::collection::vec((0..80u64, 0..30u64), 0..4),
            writes in prop::collection::vec((0..80u64, 0..30u64, any::<bool>()), 0..80),
        ) {
            // Some lie where what goes on in the file goes on in the image as well.
            let extent = |(file_offset, len, apart): (u64, u64, bool)| Extent {
                file_offset,
                image_offset: 1000 + file_offset + if apart { 500 } else { 0 },
                len,
                in_log: false,
            };
            let mut one_by_one = Extents::default();
            before.iter().for_each(|&(at, len)| one_by_one.insert(extent((at, len, true))));
            let mut at_once = one_by_one.clone();
            let writes: Vec<Extent> = writes.into_iter().map(extent).collect();
            writes.iter().for_each(|write| one_by_one.insert(*write));
            at_once.insert_all(&writes);
            prop_assert_eq!(at_once.iter().collect::<Vec<_>>(), one_by_one.iter().collect::<Vec<_>>());
            prop_assert_eq!(at_once.held(), one_by_one.held());
        }
    }
}
