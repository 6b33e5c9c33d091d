// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shared words, their addresses, and the unit in which they are written back.
//!
//! A word of the model is a byte; numbers are small enough. What matters of the real layout is
//! kept: which words share a cache line (they are written back together) and which do not.

/// Branch slots. `id = 1 + slot + SLOTS·n`, as in the format with 256.
pub const SLOTS: u8 = 4;
/// Heap blocks.
pub const BLOCKS: u8 = 4;
/// Opener entries.
pub const ENTRIES: u8 = 4;
/// Pages of the one file that every branch has; a log entry writes one of them.
pub const PAGES: usize = 2;

/// `state` of a record.
pub mod state {
    /// The slot may be claimed.
    pub const FREE: u8 = 0;
    /// A branch, or a layer of main.
    pub const ACTIVE: u8 = 1;
    /// Being created.
    pub const NEW: u8 = 4;
    /// No longer needed by anybody who starts now.
    pub const RETIRED: u8 = 5;
}

/// `flags` of a record.
pub mod flag {
    /// A fold stands in for this layer.
    pub const ABSORBED: u8 = 1;
    /// Made by a fold.
    pub const FOLDED: u8 = 2;
    /// The blocks of the fold are its own.
    pub const FOLD_DONE: u8 = 4;
    /// Taken without proof from an owner that may still run: takes no entry from anybody else.
    pub const QUARANTINED: u8 = 8;
}

/// Owner word: the branch may not be written.
pub const FROZEN: u8 = 0x80;
/// Entry word: given back; the low bits keep the last id.
pub const FREED: u8 = 0x40;
/// Entry word: claimed, identity not yet written.
pub const CLAIMED: u8 = 0x20;
/// Log entry: writes anew what the entry before it wrote, whose block nothing names from then on.
pub const REPLACES: u8 = 0x40;
/// Name of a branch that is made only to be committed.
pub const RENEWAL: u8 = 2;
/// Stamp of a record that is retired but has no epoch yet.
pub const UNSTAMPED: u8 = 0xff;
/// Stamp of a record in use, its creation time: larger than any epoch.
pub const CREATED: u8 = 0xfe;

/// A word of a branch record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// FREE, NEW, ACTIVE or RETIRED.
    State,
    /// Identity of the record; keeps its value when the slot is freed.
    Id,
    /// FROZEN bit and opener id.
    Owner,
    /// The layer below.
    Parent,
    /// Entries published.
    Size,
    /// The parent's size at creation.
    BaseSize,
    /// The head that the family was made from.
    BaseHead,
    /// The branch's name.
    Name,
    /// ABSORBED, FOLDED, FOLD_DONE.
    Flags,
    /// Creation time or epoch of retirement.
    Stamp,
    /// First log segment, of folds only: block + 1.
    Segment,
    /// First log entry: block + 1, of page 0.
    Log0,
    /// Second log entry: of page 1, or with REPLACES of page 0.
    Log1,
}

const FIELDS: u8 = 13;
const RECORDS: u8 = 3;
const MAP: u8 = RECORDS + SLOTS * FIELDS;
const DATA: u8 = MAP + BLOCKS;
const ENTRY: u8 = DATA + BLOCKS;
const PIN: u8 = ENTRY + ENTRIES;
/// Words in all.
pub const WORDS: usize = (PIN + ENTRIES) as usize;

/// Address of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(pub u8);

/// Id of main's tip.
pub const HEAD: Word = Word(0);
/// Counts retirements.
pub const EPOCH: Word = Word(1);
/// Opener that does maintenance.
pub const MAINT: Word = Word(2);

/// A word of the record in `slot`.
pub fn rec(slot: u8, field: Field) -> Word {
    Word(RECORDS + slot * FIELDS + field as u8)
}

/// Log entry `k` of the record in `slot`.
pub fn log(slot: u8, k: u8) -> Word {
    rec(slot, if k == 0 { Field::Log0 } else { Field::Log1 })
}

/// Owner map word of a block.
pub fn map(block: u8) -> Word {
    Word(MAP + block)
}

/// Content of a block.
pub fn data(block: u8) -> Word {
    Word(DATA + block)
}

/// Id word of an opener entry.
pub fn entry(index: u8) -> Word {
    Word(ENTRY + index)
}

/// Pin of an opener entry.
pub fn pin(index: u8) -> Word {
    Word(PIN + index)
}

/// Slot of a record id.
pub fn slot_of(id: u8) -> u8 {
    (id - 1) % SLOTS
}

/// Entry of an opener id.
pub fn entry_of(opener: u8) -> u8 {
    (opener - 1) % ENTRIES
}

/// What is written back as one: the words of a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// `head`, alone on its line.
    Head,
    /// Record bytes 0–63: id, parent, first segment, size, state.
    RecordA(u8),
    /// Record bytes 64–127: owner, base_size, base_head, name, flags, stamp.
    RecordB(u8),
    /// The log of a record.
    Log(u8),
    /// One owner map word. (Eight share a line; writing back fewer allows more losses.)
    Map(u8),
    /// A block's content.
    Data(u8),
    /// An opener entry.
    Entry(u8),
}

impl Line {
    /// Does the line hold this word?
    pub fn holds(self, word: Word) -> bool {
        let any = |slot: u8, fields: &[Field]| fields.iter().any(|f| rec(slot, *f) == word);
        use Field::*;
        match self {
            Line::Head => word == HEAD,
            Line::RecordA(slot) => any(slot, &[Id, Parent, Segment, Size, State]),
            Line::RecordB(slot) => any(slot, &[Owner, BaseSize, BaseHead, Name, Flags, Stamp]),
            Line::Log(slot) => any(slot, &[Log0, Log1]),
            Line::Map(block) => word == map(block),
            Line::Data(block) => word == data(block),
            Line::Entry(index) => word == entry(index) || word == pin(index),
        }
    }
}

/// The memory: what every party sees, and what a power loss may bring back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memory {
    words: [u8; WORDS],
    /// Values that words had since they were last written back, sorted. A power loss may bring
    /// back any of them, each word by itself. Unused when the scenario knows no power loss.
    older: Vec<(Word, u8)>,
    volatile: bool,
}

impl Memory {
    /// A memory of zeroes; `volatile` if power may be lost.
    pub fn new(volatile: bool) -> Self {
        Self { words: [0; WORDS], older: Vec::new(), volatile }
    }

    /// The same words, all of them durable.
    pub fn settled(&self, volatile: bool) -> Self {
        Self { words: self.words, older: Vec::new(), volatile }
    }

    /// Load a word.
    pub fn load(&self, word: Word) -> u8 {
        self.words[word.0 as usize]
    }

    /// Load a word of a record.
    pub fn rec(&self, slot: u8, field: Field) -> u8 {
        self.load(rec(slot, field))
    }

    /// Store a word.
    pub fn store(&mut self, word: Word, value: u8) {
        let old = std::mem::replace(&mut self.words[word.0 as usize], value);
        if self.volatile
            && old != value
            && let Err(at) = self.older.binary_search(&(word, old))
        {
            self.older.insert(at, (word, old));
        }
    }

    /// Store a word if it holds `expected`.
    pub fn cas(&mut self, word: Word, expected: u8, value: u8) -> bool {
        let hit = self.load(word) == expected;
        if hit {
            self.store(word, value);
        }
        hit
    }

    /// Write back and fence.
    pub fn persist(&mut self, line: Line) {
        if self.volatile {
            self.older.retain(|(word, _)| !line.holds(*word));
        }
    }

    /// Every memory that a power loss now may leave behind. Fields of FREE records, which nobody
    /// looks at, are made equal, so that outcomes that differ in nothing else are one.
    pub fn after_power_loss(&self) -> Vec<Memory> {
        let mut outcomes = vec![Memory { older: Vec::new(), ..self.clone() }];
        let mut rest = self.older.as_slice();
        while let Some(&(word, _)) = rest.first() {
            let (versions, others) = rest.split_at(rest.partition_point(|(w, _)| *w == word));
            for i in 0..outcomes.len() {
                if outcomes[i].ignores(word) {
                    continue;
                }
                for (_, value) in versions.iter().filter(|(_, value)| *value != self.load(word)) {
                    let mut outcome = outcomes[i].clone();
                    outcome.words[word.0 as usize] = *value;
                    outcomes.push(outcome);
                }
            }
            rest = others;
        }
        for outcome in &mut outcomes {
            for word in (0..WORDS as u8).map(Word) {
                if outcome.ignores(word) {
                    outcome.words[word.0 as usize] = 0;
                }
            }
        }
        outcomes
    }

    /// A field of a FREE record other than state, id and owner. (They come first in a record.)
    fn ignores(&self, word: Word) -> bool {
        let Some(at) = word.0.checked_sub(RECORDS).filter(|at| *at < SLOTS * FIELDS) else {
            return false;
        };
        at % FIELDS > Field::Owner as u8 && self.rec(at / FIELDS, Field::State) == state::FREE
    }
}
