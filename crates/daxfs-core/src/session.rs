// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A party's use of an image with branches: its registration, the branches it has open, and the
//! trees it has replayed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::alloc::Heap;
use crate::branch::handle::{Branch, Open};
use crate::branch::hold::{PATIENCE, outlast_errors};
use crate::branch::record::{Name, Records, holder};
use crate::delta::{Cursor, LogSpace};
use crate::error::{Error, Result, quote, show_path};
use crate::format::{
    BRANCH_NAME_MAX, BRANCH_TABLE_SIZE, COUNTER_MAX, MAIN_NAME, OPENER_TABLE_SIZE, OWNER_FROZEN,
    RENEWAL_NAME, Superblock, feature, state,
};
use crate::image::Image;
use crate::index::Index;
use crate::opener::{Life, Opener, OpenerInfo, Openers};
use crate::region::{Access, Durability, Region};

const NEXT_INO: u64 = std::mem::offset_of!(Superblock, next_inode_id) as u64;
/// Inode numbers taken at once.
const INO_BATCH: u64 = 64;
/// Trees kept for branches that are not open.
const TREES_MAX: usize = 64;
/// Where main is found among the open branches.
const MAIN_KEY: u64 = 0;

/// A branch as the table shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchStatus {
    /// Identity of its record.
    pub id: u64,
    /// Name; main's is always `main`.
    pub name: String,
    /// Name of the branch it was made from; main has none.
    pub parent: Option<String>,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Blocks that it owns: log and file data.
    pub blocks: u64,
    /// When it was made, ns since 1970; 0 = with the image.
    pub created: u64,
    /// Who may write, if anybody.
    pub owner: Option<OpenerInfo>,
    /// Whether nobody can write to it as long as branches that were made from it live.
    pub frozen: bool,
    /// Whether it was taken from an owner of whom nobody knows whether it lives.
    pub quarantined: bool,
    /// Layers that its tree is made of.
    pub layers: u64,
}

/// A party that has an image with branches open.
#[derive(Debug)]
pub struct Session {
    pub(crate) image: Arc<Image>,
    pub(crate) region: Arc<Region>,
    pub(crate) records: Records,
    pub(crate) heap: Heap,
    pub(crate) space: LogSpace,
    pub(crate) openers: Openers,
    pub(crate) opener: Arc<Opener>,
    // By the id of the record; main, whose record changes, under 0.
    open: Mutex<HashMap<u64, Weak<Open>>>,
    /// Taken by the thread that has records in the name of this session for a moment, to end the holds
    /// of others.
    pub(crate) breaking: Mutex<()>,
    trees: Mutex<HashMap<u64, (Cursor, Index)>>,
    /// Where the last free slot of the branch table was found.
    pub(crate) slot_hint: AtomicU64,
    /// How often it did maintenance.
    pub(crate) rounds: AtomicU64,
    // Inode numbers taken and not yet given out.
    inos: Mutex<std::ops::Range<u64>>,
}

impl Session {
    /// Registers as one who uses the image, which must be mapped for writing.
    pub fn open(image: Arc<Image>) -> Result<Arc<Self>> {
        let region = Arc::clone(image.region());
        let superblock = image.superblock();
        if !superblock.has(feature::BRANCHES) {
            let what = if superblock.branch_table_entries == 0 {
                "an image without room for branches; build it with `mkdaxfs -w`"
            } else {
                "the branches of a plain version 3 image are only read; `daxfs compact` makes an \
                 image of ours of it"
            };
            return Err(Error::Unsupported {
                what: format!("{}: {what}", show_path(region.name())),
            });
        }
        if !region.is_writable() {
            return Err(Error::invalid(format!(
                "{}: opened for reading only",
                show_path(region.name())
            )));
        }
        // What is stored to from here on must not meet a hole that cannot be filled.
        region.populate(0, crate::format::BLOCK_SIZE)?;
        region.populate(superblock.branch_table_offset.get(), BRANCH_TABLE_SIZE)?;
        region.populate(superblock.opener_table_offset.get(), OPENER_TABLE_SIZE)?;
        let opener = Opener::register(&region, superblock)?;
        let heap = Heap::new(Arc::clone(&region), superblock);
        Ok(Arc::new(Self {
            records: Records::new(Arc::clone(&region), superblock),
            space: LogSpace::of(superblock),
            openers: Openers::new(Arc::clone(&region), superblock),
            heap,
            opener,
            image,
            region,
            open: Mutex::default(),
            breaking: Mutex::default(),
            trees: Mutex::default(),
            slot_hint: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            inos: Mutex::new(0..0),
        }))
    }

    /// The image.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// This party's identity in the opener table.
    pub fn id(&self) -> u64 {
        self.opener.id
    }

    /// Whether publication waits for [`Branch::sync`]: behind a file on disk every publication
    /// would have to wait for the disk.
    pub(crate) fn defers(&self) -> bool {
        self.region.durability() == Durability::File
    }

    /// Makes durable whatever lies in the heap, and the counter of inode numbers at the beginning:
    /// what was written back behind a file on disk is not. In one piece, as each would have to wait
    /// for the disk.
    pub(crate) fn persist_deferred(&self) -> Result<()> {
        let superblock = self.image.superblock();
        let (delta, size) = (&superblock.delta_region_offset, &superblock.delta_region_size);
        self.region.persist(0, delta.get() + size.get())
    }

    /// Opens a branch; `main` is always there. For writing it is taken from everybody else, until
    /// the last handle goes.
    pub fn open_branch(self: &Arc<Self>, name: &str, access: Access) -> Result<Branch> {
        if name == MAIN_NAME && access == Access::Write {
            self.drop_renewal()?;
        }
        // It ended as it was being opened: another may have its name by now, main has.
        let ended = |error: &Error| matches!(error, Error::Stale { .. });
        outlast_errors(PATIENCE, ended, || self.open_found(name, access))
    }

    fn open_found(self: &Arc<Self>, name: &str, access: Access) -> Result<Branch> {
        let pin = self.opener.pin()?;
        let head = self.records.head()?;
        let (slot, id) = self.find(name, head)?;
        let key = if name == MAIN_NAME { MAIN_KEY } else { id };
        let known = self.lock_open().get(&key).and_then(Weak::upgrade);
        let open = match known {
            Some(open) => open,
            None => {
                let (cursor, index) = self.replay_record(slot, id)?;
                self.register(key, Open::new(self, name, slot, id, head, cursor, index, pin, false))
            }
        };
        let branch = Branch::new(open, access);
        if branch.is_writable() {
            branch.open.write_open()?;
        }
        Ok(branch)
    }

    /// The current record of this name.
    pub(crate) fn find(&self, name: &str, head: u64) -> Result<(u64, u64)> {
        let slot = if name == MAIN_NAME {
            self.records.slot_of(head)?
        } else {
            match encode_name(name) {
                Ok(name) => self.records.named(&name, head)?,
                Err(_) => None,
            }
        };
        let slot = slot.ok_or_else(|| Error::NoBranch { name: name.into() })?;
        Ok((slot, self.records.id(slot)?))
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<u64, Weak<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The branch of this id, if this session has it open.
    pub(crate) fn opened(&self, id: u64) -> Option<Arc<Open>> {
        let known = self.lock_open();
        let by_id = known.get(&id).and_then(Weak::upgrade);
        let main = known.get(&MAIN_KEY).and_then(Weak::upgrade);
        drop(known);
        // What was committed under this id, and is main by now, has ended as a branch.
        main.filter(|main| main.id() == id).or(by_id)
    }

    /// Makes an open branch known, unless another thread was quicker; then its is returned.
    pub(crate) fn register(&self, key: u64, open: Open) -> Arc<Open> {
        let mut known = self.lock_open();
        if let Some(first) = known.get(&key).and_then(Weak::upgrade) {
            drop(known);
            return first;
        }
        // Those that were closed go before the map grows for their sake.
        if known.len() == known.capacity() {
            known.retain(|_, open| open.strong_count() > 0);
        }
        let open = Arc::new(open);
        known.insert(key, Arc::downgrade(&open));
        open
    }

    /// Every branch that this session has open.
    pub(crate) fn all_open(&self) -> Vec<Arc<Open>> {
        self.lock_open().values().filter_map(Weak::upgrade).collect()
    }

    fn lock_trees(&self) -> MutexGuard<'_, HashMap<u64, (Cursor, Index)>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a record and all below it show, as far as it is published.
    pub(crate) fn tree(&self, slot: u64, id: u64) -> Result<(Cursor, Index)> {
        match self.opened(id).map(|open| open.published()).transpose()?.flatten() {
            Some(tree) => Ok(tree),
            None => self.replay_record(slot, id),
        }
    }

    /// The same, without a look at the branches that are open.
    pub(crate) fn replay_record(&self, slot: u64, id: u64) -> Result<(Cursor, Index)> {
        // From the newest layer that is known already.
        let mut missing = Vec::new();
        let mut index = Index::default();
        for at in self.records.chain(id)? {
            let layer = self.records.id(at)?;
            let known = self.lock_trees().get(&layer).cloned();
            if let Some((cursor, known)) = known {
                index = known;
                missing.push((at, layer, Some(cursor)));
                break;
            }
            missing.push((at, layer, None));
        }
        let mut end = self.log_start(slot)?;
        for (at, layer, cursor) in missing.into_iter().rev() {
            let size = self.records.size(at)?;
            // A log that was empty then may have a first segment now.
            let start = match cursor.filter(|cursor| cursor.position > 0) {
                Some(cursor) => cursor,
                None => self.log_start(at)?,
            };
            end = index.replay(self.image.base(), &self.region, &self.space, start, size)?;
            index.bury(self.image.base(), |_| false);
            self.remember(layer, end, &index)?;
        }
        Ok((end, index))
    }

    /// Keeps a record's tree, which costs next to nothing beside those that it shares parts with.
    pub(crate) fn remember(&self, id: u64, cursor: Cursor, index: &Index) -> Result<()> {
        let mut trees = self.lock_trees();
        if trees.len() >= TREES_MAX {
            let chain = self.records.chain(self.records.head()?)?;
            let mut main = Vec::with_capacity(chain.len());
            for slot in chain {
                main.push(self.records.id(slot)?);
            }
            trees.retain(|id, _| main.contains(id));
        }
        trees.insert(id, (cursor, index.clone()));
        Ok(())
    }

    /// Lets go of the trees that are kept.
    pub(crate) fn forget_trees(&self) {
        self.lock_trees().clear();
    }

    /// Where a record's log begins.
    pub(crate) fn log_start(&self, slot: u64) -> Result<Cursor> {
        let (offset, capacity) = self.records.log(slot)?;
        Ok(Cursor { at: offset, segment_end: offset.saturating_add(capacity), position: 0 })
    }

    /// A number that no inode of the image has had.
    pub(crate) fn new_ino(&self) -> Result<u64> {
        let mut inos = self.inos.lock().unwrap_or_else(PoisonError::into_inner);
        if inos.is_empty() {
            let next = self.region.load(NEXT_INO)?;
            if next > COUNTER_MAX {
                let limit = format!("at most {COUNTER_MAX}");
                return Err(Error::corrupt("next inode number", NEXT_INO, limit, next));
            }
            let first = self.region.fetch_add(NEXT_INO, INO_BATCH)?;
            // In use durably before anything that is published carries them.
            if !self.defers() {
                self.region.persist(NEXT_INO, 8)?;
            }
            *inos = first..first.saturating_add(INO_BATCH);
        }
        inos.next().ok_or_else(|| {
            Error::corrupt("next inode number", NEXT_INO, "one that can grow", u64::MAX)
        })
    }

    /// The other parties that have the image open, but for those that are proved dead.
    pub fn others(&self) -> Result<Vec<OpenerInfo>> {
        let mut others = Vec::new();
        for id in self.openers.ids() {
            let info = self.openers.examine(id?)?;
            if info.id != self.opener.id && info.life != Life::Dead {
                others.push(info);
            }
        }
        Ok(others)
    }

    /// The branches there are now: main first, then in the order of their ids.
    pub fn branches(&self) -> Result<Vec<BranchStatus>> {
        let _pin = self.opener.pin()?;
        let head = self.records.head()?;
        let mut owned: HashMap<u64, u64> = HashMap::new();
        self.heap.count(|owner| *owned.entry(owner).or_default() += 1)?;
        let mut live = Vec::new();
        for slot in self.records.slots() {
            let (id, state) = (self.records.id(slot)?, self.records.state(slot)?);
            let lives = state == state::ACTIVE && self.records.is_current(slot, head)?;
            // The slot may have got another record while it was looked at.
            if (id == head || lives) && self.records.id(slot)? == id {
                live.push((slot, id));
            }
        }
        live.sort_by_key(|(_, id)| (*id != head, *id));
        let mut names = HashMap::new();
        for (slot, id) in &live {
            let name = if *id == head { MAIN_NAME.to_owned() } else { self.records.name(*slot)? };
            names.insert(*id, name);
        }
        // Not one that is main's next record as soon as it is committed.
        live.retain(|(_, id)| names[id] != RENEWAL_NAME);
        let mut parents = HashSet::new();
        for (slot, id) in &live {
            if *id != head {
                parents.insert(self.records.parent(*slot)?);
            }
        }
        let status = |(slot, id): &(u64, u64)| {
            let word = self.records.owner(*slot)?;
            let main = *id == head;
            Ok(BranchStatus {
                id: *id,
                name: names[id].clone(),
                parent: names.get(&self.records.parent(*slot)?).filter(|_| !main).cloned(),
                log_bytes: self.records.size(*slot)?,
                blocks: owned.get(id).copied().unwrap_or(0),
                created: self.records.stamp(*slot)?,
                owner: match holder(word) {
                    0 => None,
                    id => Some(self.openers.examine(id)?),
                },
                // The mark outlives the children; the next writer takes it away.
                frozen: word & OWNER_FROZEN != 0 && parents.contains(id),
                quarantined: self.records.is_quarantined(*slot)?,
                layers: self.records.chain(*id)?.len() as u64,
            })
        };
        live.iter().map(status).collect()
    }
}

/// A branch name as records hold it.
pub(crate) fn encode_name(name: &str) -> Result<Name> {
    let mut field = Name::default();
    let bytes = name.as_bytes();
    let fits = (1..=BRANCH_NAME_MAX).contains(&bytes.len());
    if !fits
        || name.starts_with(['@', '-', '.'])
        || name.contains(['/', '\0'])
        || name.chars().any(char::is_control)
    {
        return Err(Error::invalid(format!(
            "{} cannot name a branch: 1 to {BRANCH_NAME_MAX} bytes, no slash, no control \
             character, and not beginning with @, - or .",
            quote(bytes)
        )));
    }
    field[..bytes.len()].copy_from_slice(bytes);
    Ok(field)
}
