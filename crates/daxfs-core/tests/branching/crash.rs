// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every image that a loss of power could leave, made from what a region remembers.

use std::collections::{BTreeMap, HashSet};

use daxfs_core::region::trace::Event;

const LINE: usize = 64;
const WORD: usize = 8;
/// Fewest combinations of unwritten lines that are sampled instead of tried one by one.
const EXHAUSTIVE: u64 = 64;

/// A cache line since it was last durable.
#[derive(Debug, Default)]
struct Line {
    /// What it held after each store.
    versions: Vec<[u8; LINE]>,
    /// How many of them are being written back.
    written: usize,
}

/// The memory at one point of a trace.
pub(crate) struct Memory {
    durable: Vec<u8>,
    lines: BTreeMap<usize, Line>,
    seen: HashSet<u64>,
    random: u64,
}

impl Memory {
    pub(crate) fn new(image: &[u8]) -> Self {
        let mut durable = image.to_vec();
        durable.resize(durable.len().next_multiple_of(LINE), 0);
        Self {
            durable,
            lines: BTreeMap::new(),
            seen: HashSet::new(),
            random: 0x2545_f491_4f6c_dd1d,
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Store { offset, bytes } => self.store(*offset as usize, bytes),
            Event::WriteBack { offset, len } => {
                let first = *offset as usize / LINE;
                let end = (*offset + *len).div_ceil(LINE as u64) as usize;
                for (_, line) in self.lines.range_mut(first..end.max(first)) {
                    line.written = line.versions.len();
                }
            }
            Event::Fence => {
                for (number, line) in &mut self.lines {
                    if line.written > 0 {
                        let durable = &mut self.durable[number * LINE..][..LINE];
                        durable.copy_from_slice(&line.versions[line.written - 1]);
                        line.versions.drain(..line.written);
                        line.written = 0;
                    }
                }
                self.lines.retain(|_, line| !line.versions.is_empty());
            }
            Event::Mark(_) => {}
        }
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        let mut at = offset;
        while at < offset + bytes.len() {
            let (number, start) = (at / LINE, at % LINE);
            let len = (LINE - start).min(offset + bytes.len() - at);
            let line = self.lines.entry(number).or_default();
            let mut now = [0; LINE];
            match line.versions.last() {
                Some(last) => now = *last,
                None => now.copy_from_slice(&self.durable[number * LINE..][..LINE]),
            }
            now[start..start + len].copy_from_slice(&bytes[at - offset..][..len]);
            line.versions.push(now);
            at += len;
        }
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Calls `check` with every image that a crash now could leave and that none before did:
    /// each line, as a whole, of any age since it was durable; where that is too many, or to mix
    /// ages within lines, a sample. Returns how many there were.
    pub(crate) fn crash(&mut self, mut check: impl FnMut(&[u8])) -> u64 {
        let choices: Vec<(usize, usize)> =
            self.lines.iter().map(|(number, line)| (*number, line.versions.len() + 1)).collect();
        let all = choices.iter().try_fold(1u64, |all, (_, count)| all.checked_mul(*count as u64));
        let mut count = 0;
        match all.filter(|all| *all <= EXHAUSTIVE) {
            Some(all) => {
                for mut number in 0..all {
                    let mut ages = Vec::new();
                    for (_, count) in &choices {
                        ages.push((number % *count as u64) as usize);
                        number /= *count as u64;
                    }
                    count += self.check(&choices, |line, _| ages[line], &mut check);
                }
            }
            None => {
                let newest = |line: usize| choices[line].1 - 1;
                count += self.check(&choices, |_, _| 0, &mut check);
                count += self.check(&choices, |line, _| newest(line), &mut check);
                for _ in 0..8 {
                    let only = self.next() as usize % choices.len();
                    let age = |line| if line == only { newest(line) } else { 0 };
                    count += self.check(&choices, |line, _| age(line), &mut check);
                    let age = |line| if line == only { 0 } else { newest(line) };
                    count += self.check(&choices, |line, _| age(line), &mut check);
                }
            }
        }
        // Words of a line reach the memory independently.
        for _ in 0..4 {
            let seed = self.next();
            let age = |line: usize, word: usize| {
                let mix = (seed ^ (line * LINE + word) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mix >> 33) as usize % choices[line].1
            };
            count += self.check(&choices, age, &mut check);
        }
        count
    }

    fn check(
        &mut self,
        choices: &[(usize, usize)],
        age: impl Fn(usize, usize) -> usize,
        check: &mut impl FnMut(&[u8]),
    ) -> u64 {
        let mut image = self.durable.clone();
        for (index, (number, _)) in choices.iter().enumerate() {
            for word in 0..LINE / WORD {
                let age = age(index, word);
                if age > 0 {
                    let version = &self.lines[number].versions[age - 1];
                    image[number * LINE + word * WORD..][..WORD]
                        .copy_from_slice(&version[word * WORD..][..WORD]);
                }
            }
        }
        let digest = u64::from(crc32c::crc32c(&image)) << 32 | u64::from(adler(&image));
        if !self.seen.insert(digest) {
            return 0;
        }
        check(&image);
        1
    }
}

fn adler(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("4")));
    words.fold(1, |sum: u32, word| sum.rotate_left(5).wrapping_mul(0x9e37_79b1) ^ word)
}
