// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The words of the branch table, by name, and the rules for changing them.

use std::mem::offset_of;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{
    BRANCH_NAME_MAX, BRANCH_RECORDS, BranchRecord, OPENER_FREED, OWNER_FROZEN, Superblock,
    branch_flag, state,
};
use crate::region::Region;

pub(crate) const HEAD: u64 = offset_of!(Superblock, head) as u64;
pub(crate) const EPOCH: u64 = offset_of!(Superblock, epoch) as u64;
pub(crate) const MAINT: u64 = offset_of!(Superblock, maint) as u64;

const RECORD: u64 = size_of::<BranchRecord>() as u64;
const SLOTS: u64 = BRANCH_RECORDS as u64;

/// A stamp that is still to be replaced by an epoch.
pub(crate) const UNSTAMPED: u64 = u64::MAX;

/// States of a branch that has not ended, or is in the making.
const LIVE: [u32; 2] = [state::NEW, state::ACTIVE];

/// A branch name as it lies in a record.
pub(crate) type Name = [u8; BRANCH_NAME_MAX + 1];

/// What a new record says once and for all.
#[derive(Debug)]
pub(crate) struct NewRecord {
    pub(crate) parent: u64,
    pub(crate) name: Name,
    pub(crate) base_size: u64,
    pub(crate) base_head: u64,
    pub(crate) flags: u32,
    pub(crate) created: u64,
}

/// The branch table and the words that govern it.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) region: Arc<Region>,
    table: u64,
    reserve: u64,
}

/// Bytes from the start of a record to its fields.
macro_rules! field {
    ($name:ident) => {
        offset_of!(BranchRecord, $name) as u64
    };
}

impl Records {
    pub(crate) fn new(region: Arc<Region>, superblock: &Superblock) -> Self {
        let reserve = superblock.reserve_slots.get().into();
        Self { region, table: superblock.branch_table_offset.get(), reserve }
    }

    pub(crate) fn slots(&self) -> std::ops::Range<u64> {
        0..SLOTS
    }

    /// Slots that records of this kind may be made in.
    pub(crate) fn open_slots(&self, fold: bool) -> std::ops::Range<u64> {
        0..if fold { SLOTS } else { SLOTS.saturating_sub(self.reserve) }
    }

    pub(crate) fn at(&self, slot: u64) -> u64 {
        self.table + slot * RECORD
    }

    fn load(&self, slot: u64, field: u64) -> Result<u64> {
        self.region.load(self.at(slot) + field)
    }

    fn store(&self, slot: u64, field: u64, value: u64) -> Result<()> {
        self.region.store(self.at(slot) + field, value)
    }

    #[inline]
    pub(crate) fn id(&self, slot: u64) -> Result<u64> {
        self.load(slot, field!(branch_id))
    }

    pub(crate) fn parent(&self, slot: u64) -> Result<u64> {
        self.load(slot, field!(parent_id))
    }

    #[inline]
    pub(crate) fn size(&self, slot: u64) -> Result<u64> {
        self.load(slot, field!(delta_log_size))
    }

    #[inline]
    pub(crate) fn state(&self, slot: u64) -> Result<u32> {
        self.region.load32(self.at(slot) + field!(state))
    }

    #[inline]
    pub(crate) fn owner(&self, slot: u64) -> Result<u64> {
        self.load(slot, field!(owner))
    }

    #[inline]
    pub(crate) fn base_head(&self, slot: u64) -> Result<u64> {
        self.load(slot, field!(base_head))
    }

    #[inline]
    pub(crate) fn flags(&self, slot: u64) -> Result<u32> {
        self.region.load32(self.at(slot) + field!(flags))
    }

    pub(crate) fn stamp(&self, slot: u64) -> Result<u64> {
        self.load(slot, field!(stamp))
    }

    /// Image offset and bytes of the log's first segment.
    pub(crate) fn log(&self, slot: u64) -> Result<(u64, u64)> {
        Ok((
            self.load(slot, field!(delta_log_offset))?,
            self.load(slot, field!(delta_log_capacity))?,
        ))
    }

    /// The name as text.
    pub(crate) fn name(&self, slot: u64) -> Result<String> {
        let at = self.at(slot) + field!(name);
        super::decode_name(at, &self.region.read(at)?)
    }

    /// Whether the record bears a name.
    pub(crate) fn has_name(&self, slot: u64, name: &Name) -> Result<bool> {
        let at = self.at(slot) + field!(name);
        // Word by word: as a rule the first tells.
        for (word, part) in name.chunks_exact(8).enumerate() {
            let found = self.region.load(at + 8 * word as u64)?.to_le_bytes();
            if found != part {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn set_state(&self, slot: u64, state: u32) -> Result<()> {
        self.region.store32(self.at(slot) + field!(state), state)
    }

    pub(crate) fn set_stamp(&self, slot: u64, stamp: u64) -> Result<()> {
        self.store(slot, field!(stamp), stamp)
    }

    /// AppendPublish, AppendAcknowledge: the one store that makes entries part of the log.
    pub(crate) fn publish(&self, slot: u64, size: u64) -> Result<()> {
        self.store(slot, field!(delta_log_size), size)?;
        self.region.persist(self.at(slot) + field!(delta_log_size), 8)
    }

    /// Where the log begins; means nothing before its first bytes are published.
    pub(crate) fn set_log(&self, slot: u64, offset: u64, capacity: u64) -> Result<()> {
        self.store(slot, field!(delta_log_offset), offset)?;
        self.store(slot, field!(delta_log_capacity), capacity)?;
        self.persist(slot)
    }

    pub(crate) fn add_flags(&self, slot: u64, flags: u32) -> Result<()> {
        self.region.fetch_or32(self.at(slot) + field!(flags), flags)
    }

    /// The record made with another parent; what it shows stays the same.
    pub(crate) fn relink(&self, slot: u64, old: u64, new: u64) -> Result<bool> {
        self.region.compare_exchange(self.at(slot) + field!(parent_id), old, new)
    }

    /// Changes the owner word if it is what was seen.
    pub(crate) fn take(&self, slot: u64, seen: u64, new: u64) -> Result<bool> {
        self.region.compare_exchange(self.at(slot) + field!(owner), seen, new)
    }

    /// Fills a FREE record; returns its new id.
    pub(crate) fn fill(&self, slot: u64, new: &NewRecord) -> Result<u64> {
        let last = self.id(slot)?;
        let next = if last == 0 { Some(slot + 1) } else { last.checked_add(SLOTS) };
        // Ids stay below the flags in words that hold them.
        let id = next.filter(|id| *id < OPENER_FREED).ok_or_else(|| {
            Error::corrupt("id of a branch", self.at(slot), "one that can grow", last)
        })?;
        let mut record = BranchRecord {
            branch_id: id.into(),
            parent_id: new.parent.into(),
            name: new.name,
            base_size: new.base_size.into(),
            base_head: new.base_head.into(),
            ..BranchRecord::zeroed()
        };
        record.checksum = record.expected_checksum().into();
        self.store(slot, field!(branch_id), id)?;
        self.store(slot, field!(parent_id), new.parent)?;
        self.store(slot, field!(delta_log_offset), 0)?;
        self.store(slot, field!(delta_log_size), 0)?;
        self.store(slot, field!(delta_log_capacity), 0)?;
        self.region.write(self.at(slot) + field!(name), &new.name)?;
        self.store(slot, field!(base_size), new.base_size)?;
        self.store(slot, field!(base_head), new.base_head)?;
        self.region.store32(self.at(slot) + field!(flags), new.flags)?;
        self.region.store32(self.at(slot) + field!(checksum), record.checksum.get())?;
        self.store(slot, field!(stamp), new.created)?;
        self.persist(slot)?;
        Ok(id)
    }

    /// P(record).
    pub(crate) fn persist(&self, slot: u64) -> Result<()> {
        self.region.persist(self.at(slot), RECORD)
    }

    pub(crate) fn head(&self) -> Result<u64> {
        self.region.load(HEAD)
    }

    /// P(head): what follows may depend on it.
    pub(crate) fn persist_head(&self) -> Result<()> {
        self.region.persist(HEAD, 8)
    }

    /// The one swap that decides a commit.
    pub(crate) fn swap_head(&self, old: u64, new: u64) -> Result<bool> {
        self.region.compare_exchange(HEAD, old, new)
    }

    #[inline]
    pub(crate) fn epoch(&self) -> Result<u64> {
        self.region.load(EPOCH)
    }

    pub(crate) fn bump_epoch(&self) -> Result<()> {
        self.region.fetch_add(EPOCH, 1).map(drop)
    }

    /// The slot of a record that is not FREE and has this id.
    pub(crate) fn slot_of(&self, id: u64) -> Result<Option<u64>> {
        let Some(slot) = super::slot_of(id) else { return Ok(None) };
        Ok((self.id(slot)? == id && self.state(slot)? != state::FREE).then_some(slot))
    }

    /// Whether the record is alive or the tip while `head` has this value.
    #[inline]
    pub(crate) fn is_current(&self, slot: u64, head: u64) -> Result<bool> {
        Ok(self.base_head(slot)? == head || self.id(slot)? == head)
    }

    /// Slots of the chain that `id` ends, the tip first.
    pub(crate) fn chain(&self, id: u64) -> Result<Vec<u64>> {
        let mut chain = Vec::new();
        let mut at = id;
        while at != 0 {
            let Some(slot) = self.slot_of(at)?.filter(|_| chain.len() < SLOTS as usize) else {
                let expected = "a record in use, on a chain that ends";
                return Err(crate::Error::corrupt("parent of a branch", self.table, expected, at));
            };
            chain.push(slot);
            at = self.parent(slot)?;
        }
        Ok(chain)
    }

    /// A record of the generation of `head`, in one of these states, of which `wanted` says so.
    fn find(
        &self,
        head: u64,
        states: &[u32],
        wanted: impl Fn(u64) -> Result<bool>,
    ) -> Result<Option<u64>> {
        for slot in self.slots() {
            if states.contains(&self.state(slot)?) && self.base_head(slot)? == head && wanted(slot)?
            {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// A child of `parent` made under `head`, live or in the making.
    pub(crate) fn child(&self, parent: u64, head: u64) -> Result<Option<u64>> {
        self.find(head, &LIVE, |slot| Ok(self.parent(slot)? == parent))
    }

    /// The branch of a generation that bears a name. Whoever has a pin may load more of it: it can
    /// end, and its slot is not used again.
    pub(crate) fn named(&self, name: &Name, head: u64) -> Result<Option<u64>> {
        self.find(head, &[state::ACTIVE], |slot| self.has_name(slot, name))
    }

    /// Another record of a generation than that in `slot`, live or in the making, of the same name.
    pub(crate) fn namesake(&self, name: &Name, head: u64, slot: u64) -> Result<Option<u64>> {
        self.find(head, &LIVE, |other| Ok(other != slot && self.has_name(other, name)?))
    }

    /// Whether a generation has records, live or in the making, beside the one of this id.
    pub(crate) fn has_others(&self, head: u64, except: u64) -> Result<bool> {
        Ok(self.find(head, &LIVE, |slot| Ok(self.id(slot)? != except))?.is_some())
    }

    pub(crate) fn is_quarantined(&self, slot: u64) -> Result<bool> {
        Ok(self.flags(slot)? & branch_flag::QUARANTINED != 0)
    }
}

/// The opener in an owner word, 0 = nobody.
pub(crate) fn holder(word: u64) -> u64 {
    word & !OWNER_FROZEN
}
