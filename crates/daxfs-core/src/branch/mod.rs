// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The branch table: which branches there are, and the chain of layers that each one shows.

mod create;
pub(crate) mod finish;
pub(crate) mod fold;
pub mod handle;
pub(crate) mod hold;
pub mod look;
pub mod reclaim;
pub(crate) mod record;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use zerocopy::IntoBytes;

use crate::delta::{Cursor, LogSpace};
use crate::error::{Error, Result, show};
use crate::finding::Findings;
use crate::format::{
    BRANCH_NAME_MAX, BRANCH_RECORDS, BranchRecord, MAIN_NAME, RENEWAL_NAME, Superblock,
    branch_flag, feature, state,
};
use crate::region::Region;
use crate::session::encode_name;

/// Image offset of `head` in the superblock.
const HEAD: u64 = std::mem::offset_of!(Superblock, head) as u64;

/// A record that is a branch, or a layer of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchInfo {
    /// Image offset of the record.
    pub at: u64,
    /// Identity.
    pub id: u64,
    /// Identity of the parent, 0 = the base image.
    pub parent: u64,
    /// Name.
    pub name: String,
    /// Where the log begins; in ours without meaning while nothing is published.
    pub log: Cursor,
    /// Bytes that the log has published.
    pub log_size: u64,
    /// The parent's log size at creation; zero in plain v3.
    pub base_size: u64,
    /// Value of `head` that the family was made from; zero in plain v3.
    pub base_head: u64,
    /// [`branch_flag`] bits; zero in plain v3.
    pub flags: u32,
}

impl BranchRecord {
    /// The checksum that the fields which never change call for.
    pub fn expected_checksum(&self) -> u32 {
        let sum = crc32c::crc32c(self.branch_id.as_bytes());
        let sum = crc32c::crc32c_append(sum, &self.name);
        let sum = crc32c::crc32c_append(sum, self.base_size.as_bytes());
        crc32c::crc32c_append(sum, self.base_head.as_bytes())
    }
}

/// The slot of the branch or opener table that an identity of ours belongs to.
pub fn slot_of(id: u64) -> Option<u64> {
    id.checked_sub(1).map(|index| index % u64::from(BRANCH_RECORDS))
}

/// A branch, as the table alone tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its record; main's has the name of main.
    pub record: &'a BranchInfo,
    /// Name of the branch it was made from; main has none.
    pub parent: Option<&'a str>,
    /// Whether branches that were made from it live.
    pub frozen: bool,
    /// Layers that its tree is made of.
    pub layers: u64,
}

/// The branch table as of one moment.
#[derive(Debug, Default)]
pub struct Table {
    records: Vec<BranchInfo>,
    by_id: HashMap<u64, usize>,
    used: HashSet<u64>,
    /// Until it is known which records main consists of.
    retired: Vec<BranchInfo>,
    /// In images of ours, the record that is main's tip.
    head: Option<u64>,
}

impl Table {
    /// Reads the table, which is to be sound, and to stay as it is meanwhile: see [`look::look`].
    pub fn read(region: &Region, superblock: &Superblock) -> Result<Self> {
        let mut findings = Findings::default();
        let table = Self::examine(region, superblock, &mut findings);
        findings.into_result()?;
        Ok(table)
    }

    /// Reads the table as far as it is sound, and notes where it is not.
    pub(crate) fn examine(
        region: &Region,
        superblock: &Superblock,
        findings: &mut Findings,
    ) -> Self {
        let mut table = Self::default();
        // First of all: what it names was complete then, and what it is moved to may not be in
        // what is read below.
        let head = superblock.has(feature::BRANCHES).then(|| region.load(HEAD)).transpose();
        let head = head.unwrap_or_else(|error| {
            findings.absorb(error);
            None
        });
        let slots = superblock.branch_table_entries.get().min(BRANCH_RECORDS);
        if slots == 0 && head.is_none() {
            // As in every image without branches.
            return table;
        }
        for slot in 0..u64::from(slots) {
            if let Err(error) = table.examine_slot(region, superblock, slot, findings) {
                findings.absorb(error);
            }
        }
        if let Some(head) = head {
            table.keep_main(head, findings);
        }
        table.drop_overlaps(findings);
        if let Some(head) = head
            && let Err(error) = table.examine_head(head)
        {
            findings.absorb(error);
        }
        table.check_names(findings);
        // Of what is dead, parents may be gone. Main's layers are on the chain of its tip.
        for record in table.live() {
            if let Err(error) = table.chain(record) {
                findings.absorb(error);
            }
        }
        table
    }

    fn examine_slot(
        &mut self,
        region: &Region,
        superblock: &Superblock,
        slot: u64,
        findings: &mut Findings,
    ) -> Result<()> {
        let at = superblock.branch_table_offset.get() + slot * size_of::<BranchRecord>() as u64;
        // The state is stored last when a record is made, the size last when a log grows: each is
        // loaded before what it vouches for.
        let word = |field: usize| region.load(at + field as u64);
        let first = word(std::mem::offset_of!(BranchRecord, branch_id))?;
        let state = word(std::mem::offset_of!(BranchRecord, state))? as u32;
        let log_size = word(std::mem::offset_of!(BranchRecord, delta_log_size))?;
        let raw: BranchRecord = region.read(at)?;
        let id = raw.branch_id.get();
        let ours = superblock.has(feature::BRANCHES);
        let known = if ours {
            matches!(state, state::FREE | state::ACTIVE | state::NEW | state::RETIRED)
        } else {
            matches!(state, state::FREE | state::ACTIVE | state::COMMITTED | state::ABORTED)
        };
        if !known {
            let states = if ours { "0, 1, 4 or 5" } else { "0 to 3" };
            return Err(Error::corrupt("state of a branch", at + 40, states, state));
        }
        let legal = if ours { slot_of(id) == Some(slot) } else { id != 0 };
        let unused = state == state::FREE && id == 0;
        if ours && !legal && !unused {
            let expected = format!("{} and a multiple of 256", slot + 1);
            return Err(Error::corrupt("branch id", at, expected, id));
        }
        if ours && (raw.refcount != 0 || raw.next_local_ino != 0) {
            let what = "plain v3's fields of a branch record";
            return Err(Error::corrupt(what, at + 44, "zeroes", "other bytes"));
        }
        if state == state::FREE {
            // Somebody may be filling it in, a fold with blocks of its own.
            if ours && raw.owner != 0 {
                self.used.insert(id);
            }
            return Ok(());
        }
        if !legal || !self.used.insert(id) {
            return Err(Error::corrupt("branch id", at, "one of its own, not 0", id));
        }
        if !ours && raw.as_bytes()[88..].iter().any(|byte| *byte != 0) {
            let what = "reserved bytes of a branch record";
            findings.warning(what, at + 88, "zeroes", "other bytes");
        }
        match state {
            state::ACTIVE => {
                self.records.push(BranchInfo::decode(at, &raw, log_size, superblock)?);
            }
            // Whatever it holds, nobody reads it, unless it is on main's chain. Then it is not given
            // back, and its slot has not got another meanwhile.
            state::RETIRED if id == first => {
                self.retired.extend(BranchInfo::decode(at, &raw, log_size, superblock));
            }
            _ => {}
        }
        Ok(())
    }

    /// What is on main's chain is main's: a party that was thought dead may have aborted it late.
    fn keep_main(&mut self, head: u64, findings: &mut Findings) {
        let mut at = head;
        for _ in 0..BRANCH_RECORDS {
            if let Some(retired) = self.retired.iter().position(|record| record.id == at) {
                let record = self.retired.swap_remove(retired);
                findings.warning(
                    "state of a layer of main",
                    record.at + 40,
                    state::ACTIVE,
                    state::RETIRED,
                );
                self.records.push(record);
                self.records.sort_unstable_by_key(|record| record.at);
            }
            match self.records.iter().find(|record| record.id == at) {
                Some(record) => at = record.parent,
                None => break,
            }
        }
    }

    fn examine_head(&mut self, head: u64) -> Result<()> {
        let Some(tip) = self.by_id.get(&head) else {
            return Err(Error::corrupt("head", HEAD, "an active record", head));
        };
        // Whatever it was called before its commit.
        self.records[*tip].name = MAIN_NAME.into();
        self.head = Some(head);
        Ok(())
    }

    /// Logs that share bytes are nobody's: what is kept lies apart.
    fn drop_overlaps(&mut self, findings: &mut Findings) {
        let mut order: Vec<&BranchInfo> = self.records.iter().collect();
        order.sort_by_key(|record| (record.log.at, record.log.segment_end));
        let mut end = 0;
        let mut overlapping = HashSet::new();
        for record in order.into_iter().filter(|record| record.log.segment_end > record.log.at) {
            if record.log.at < end {
                let expected = format!("at or after {end:#x}, where another ends");
                let found = format!("{:#x}", record.log.at);
                findings.error("offset of a log", record.at + 16, expected, found);
                overlapping.insert(record.id);
            }
            end = end.max(record.log.segment_end);
        }
        self.records.retain(|record| !overlapping.contains(&record.id));
        self.by_id =
            self.records.iter().enumerate().map(|(index, record)| (record.id, index)).collect();
    }

    fn check_names(&self, findings: &mut Findings) {
        let mut names = HashSet::new();
        // In ours the tip is main, whatever it was called before its commit.
        names.extend(self.head.map(|_| MAIN_NAME));
        for record in self.live() {
            if Some(record.id) != self.head && !names.insert(&record.name) {
                findings.error("name of a branch", record.at + 56, "one of its own", &record.name);
            }
        }
    }

    /// Every record that is active or main's, in the order of the table.
    pub fn records(&self) -> &[BranchInfo] {
        &self.records
    }

    /// The branches, main among them if it has a record.
    pub fn live(&self) -> impl Iterator<Item = &BranchInfo> {
        self.records.iter().filter(|record| self.is_live(record))
    }

    /// The branches, main first.
    pub fn branches(&self) -> Result<Vec<Listed<'_>>> {
        let main = self.find(MAIN_NAME)?.map(|main| main.id);
        // Not one that is main's next record as soon as it is committed.
        let mut records: Vec<_> =
            self.live().filter(|record| record.name != RENEWAL_NAME).collect();
        records.sort_by_key(|record| (Some(record.id) != main, record.id));
        let mut list = Vec::new();
        for record in &records {
            let is_main = Some(record.id) == main;
            let parent = records.iter().find(|other| other.id == record.parent && !is_main);
            let mut others = records.iter().filter(|other| Some(other.id) != main);
            list.push(Listed {
                record,
                parent: parent.map(|parent| parent.name.as_str()),
                frozen: others.any(|other| other.parent == record.id),
                layers: self.chain(record)?.len() as u64,
            });
        }
        Ok(list)
    }

    /// In images of ours, the record that is main's tip.
    pub fn head(&self) -> Option<u64> {
        self.head
    }

    /// Whether a slot that is in use has this identity.
    pub fn is_used(&self, id: u64) -> bool {
        self.used.contains(&id)
    }

    /// Whether the record is a branch: in ours main's tip, or made from what the tip is now.
    pub fn is_live(&self, record: &BranchInfo) -> bool {
        self.head.is_none_or(|head| record.id == head || record.base_head == head)
    }

    fn record(&self, id: u64) -> Option<&BranchInfo> {
        self.by_id.get(&id).map(|index| &self.records[*index])
    }

    /// The branch of this name; main need not have a record in plain v3: then it is the base.
    pub fn find(&self, name: &str) -> Result<Option<&BranchInfo>> {
        let found = match self.head {
            Some(head) if name == MAIN_NAME => self.record(head),
            head => self.live().find(|record| record.name == name && Some(record.id) != head),
        };
        if found.is_none() && name != MAIN_NAME {
            return Err(Error::NoBranch { name: name.into() });
        }
        Ok(found)
    }

    /// The layers that a branch shows, the oldest first and its own record last.
    pub fn chain<'a>(&'a self, branch: &'a BranchInfo) -> Result<Vec<&'a BranchInfo>> {
        let mut chain = vec![branch];
        let mut at = branch;
        while at.parent != 0 {
            let parent = self.record(at.parent).ok_or_else(|| {
                Error::corrupt("parent of a branch", at.at + 8, "an active record", at.parent)
            })?;
            // More layers than records: some came twice.
            if chain.len() >= self.records.len() {
                let expected = "a chain that ends at the base image";
                return Err(Error::corrupt("parent of a branch", at.at + 8, expected, "a cycle"));
            }
            chain.push(parent);
            at = parent;
        }
        chain.reverse();
        Ok(chain)
    }
}

impl BranchInfo {
    /// Whether a [`branch_flag`] bit is set.
    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn decode(at: u64, raw: &BranchRecord, log_size: u64, superblock: &Superblock) -> Result<Self> {
        let ours = superblock.has(feature::BRANCHES);
        if ours && raw.checksum != raw.expected_checksum() {
            let expected = format!("{:#x}", raw.expected_checksum());
            let found = format!("{:#x}", raw.checksum);
            return Err(Error::corrupt("checksum of a branch record", at + 116, expected, found));
        }
        let (start, capacity) = (raw.delta_log_offset.get(), raw.delta_log_capacity.get());
        let space = LogSpace::of(superblock);
        let Range { start: low, end: high } = space.heap;
        let none = if ours { log_size == 0 } else { capacity == 0 && start == 0 };
        if !none && !space.is_segment(start, capacity) {
            let expected = format!("inside {low:#x} to {high:#x}, in ours whole blocks");
            let found = format!("{capacity:#x} bytes from {start:#x}");
            return Err(Error::corrupt("log of a branch", at + 16, expected, found));
        }
        // In ours the log may go on in other segments.
        let most = if ours { high - low } else { capacity };
        if log_size > most {
            let limit = format!("at most {most:#x}");
            return Err(Error::corrupt("size of a log", at + 24, limit, format!("{log_size:#x}")));
        }
        let flags = if ours { raw.flags.get() } else { 0 };
        if flags & !branch_flag::ALL != 0 {
            let expected = format!("bits of {:#x}", branch_flag::ALL);
            return Err(Error::corrupt("flags of a branch", at + 112, expected, flags));
        }
        let name = decode_name(at + 56, &raw.name)?;
        // Others nobody could ask for, and so never end.
        let possible = match name.as_str() {
            RENEWAL_NAME => raw.name[RENEWAL_NAME.len()..].iter().all(|byte| *byte == 0),
            name => encode_name(name).is_ok_and(|encoded| encoded == raw.name),
        };
        if ours && !possible {
            let expected = "one that can be given to a branch, and zeroes";
            return Err(Error::corrupt("name of a branch", at + 56, expected, show(&raw.name)));
        }
        Ok(Self {
            at,
            id: raw.branch_id.get(),
            parent: raw.parent_id.get(),
            name,
            log: if none { Cursor::default() } else { Cursor::new(start, capacity) },
            log_size,
            base_size: raw.base_size.get(),
            base_head: raw.base_head.get(),
            flags,
        })
    }
}

fn decode_name(at: u64, field: &[u8; BRANCH_NAME_MAX + 1]) -> Result<String> {
    let end = field.iter().position(|byte| *byte == 0).filter(|end| *end > 0);
    let name = end.and_then(|end| std::str::from_utf8(&field[..end]).ok());
    name.map(str::to_owned).ok_or_else(|| {
        let expected = "1 to 31 bytes of UTF-8 and a NUL";
        Error::corrupt("name of a branch", at, expected, show(field))
    })
}
