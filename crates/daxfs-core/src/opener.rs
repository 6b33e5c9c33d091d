// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who has an image open: registration in the opener table, epoch pins, proof of life.
//!
//! The order of stores is that of `docs/branches.md`, under *Openers*; the step names in comments
//! are those of the model.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::Pid;
use uuid::Uuid;
use zerocopy::IntoBytes;

use crate::error::{Error, Result, show_path};
use crate::format::{
    BRANCH_RECORDS, OPENER_CLAIMED, OPENER_ENTRIES, OPENER_FREED, OpenerEntry, PROOF_LOCK,
    Superblock,
};
use crate::region::{LockFile, Region, generation};

const ENTRY: u64 = size_of::<OpenerEntry>() as u64;
const PIN: u64 = std::mem::offset_of!(OpenerEntry, pin) as u64;
const EPOCH: u64 = std::mem::offset_of!(Superblock, epoch) as u64;
/// Bits of an entry's word that make it more than an id.
const NOT_PLAIN: u64 = OPENER_CLAIMED | OPENER_FREED;

/// What can be told of an opener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It lives.
    Alive,
    /// It is proved dead.
    Dead,
    /// Nothing here can tell: it may be another machine.
    Unknown,
}

/// What an entry says of its opener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenerInfo {
    /// Identity.
    pub id: u64,
    /// Process.
    pub pid: u32,
    /// Whether it runs under the same kernel as the caller, since the same boot.
    pub same_boot: bool,
    /// Whether it lives.
    pub life: Life,
}

/// The opener table.
#[derive(Debug)]
pub(crate) struct Openers {
    region: Arc<Region>,
    table: u64,
    lock: Option<LockFile>,
    host: u64,
    boot: u64,
    pid_namespace: u64,
}

impl Openers {
    pub(crate) fn new(region: Arc<Region>, superblock: &Superblock) -> Self {
        Self {
            lock: region.lock_file(),
            region,
            table: superblock.opener_table_offset.get(),
            host: host(),
            boot: boot(),
            pid_namespace: pid_namespace(),
        }
    }

    fn at(&self, slot: u64) -> u64 {
        self.table + slot * ENTRY
    }

    fn slot(id: u64) -> u64 {
        (id - 1) % u64::from(BRANCH_RECORDS)
    }

    /// The plain id that the entry at `at` holds.
    fn holder(&self, at: u64) -> Result<Option<u64>> {
        let word = self.region.load(at)?;
        Ok((word != 0 && word & NOT_PLAIN == 0).then_some(word))
    }

    /// What is known of opener `id`; an id that no entry holds is dead.
    pub(crate) fn examine(&self, id: u64) -> Result<OpenerInfo> {
        let dead = OpenerInfo { id, pid: 0, same_boot: false, life: Life::Dead };
        if id == 0 || id & NOT_PLAIN != 0 {
            return Ok(dead);
        }
        let at = self.at(Self::slot(id));
        if self.holder(at)? != Some(id) {
            return Ok(dead);
        }
        let entry: OpenerEntry = self.region.read(at)?;
        let same_boot = self.boot != 0 && entry.boot == self.boot;
        let life = self.proof(at, &entry, same_boot);
        // The entry may have passed to another while it was examined.
        if self.holder(at)? != Some(id) {
            return Ok(dead);
        }
        Ok(OpenerInfo { id, pid: entry.pid.get(), same_boot, life })
    }

    fn proof(&self, at: u64, entry: &OpenerEntry, same_boot: bool) -> Life {
        if entry.proof.get() & PROOF_LOCK != 0
            && let Some(free) = self.lock.as_ref().and_then(|lock| lock.is_free(at, ENTRY))
        {
            return if free { Life::Dead } else { Life::Alive };
        }
        if !same_boot {
            // A machine runs one kernel at a time: an earlier one's processes are gone.
            let same_host = self.host != 0 && entry.host == self.host;
            let rebooted = same_host && self.boot != 0 && entry.boot != 0;
            return if rebooted { Life::Dead } else { Life::Unknown };
        }
        if entry.pid_namespace != self.pid_namespace {
            return Life::Unknown;
        }
        match start_time(entry.pid.get()) {
            Some(start) if start == entry.start_time.get() => Life::Alive,
            // Who registered could not tell.
            Some(start) if start != ENDED && entry.start_time == 0 => Life::Unknown,
            Some(_) => Life::Dead,
            None if is_nobody(entry.pid.get()) => Life::Dead,
            None => Life::Unknown,
        }
    }

    /// Every entry that holds a plain id.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Result<u64>> + '_ {
        (0..u64::from(OPENER_ENTRIES)).filter_map(|slot| self.holder(self.at(slot)).transpose())
    }

    /// Frees the entry of a dead opener, which ends its pin.
    pub(crate) fn free(&self, id: u64) -> Result<()> {
        let at = self.at(Self::slot(id));
        self.region.compare_exchange(at, id, OPENER_FREED | id)?;
        self.region.persist(at, ENTRY)
    }

    /// Frees entries whose claimers died before they registered.
    pub(crate) fn free_claims(&self) -> Result<()> {
        for slot in 0..u64::from(OPENER_ENTRIES) {
            let at = self.at(slot);
            let word = self.region.load(at)?;
            // Whoever claims holds the lock, if there are locks.
            if word & OPENER_CLAIMED != 0
                && self.lock.as_ref().and_then(|lock| lock.is_free(at, ENTRY)) == Some(true)
            {
                self.region.compare_exchange(at, word, OPENER_FREED | (word & !NOT_PLAIN))?;
            }
        }
        Ok(())
    }

    /// Whether a reader may still be at the epoch `stamp` or before.
    pub(crate) fn is_pinned(&self, stamp: u64) -> Result<bool> {
        Ok(self.pinned_by(stamp)?.is_some())
    }

    /// One who may still read at the epoch `stamp` or before.
    pub(crate) fn pinned_by(&self, stamp: u64) -> Result<Option<u64>> {
        for slot in 0..u64::from(OPENER_ENTRIES) {
            let at = self.at(slot);
            let Some(holder) = self.holder(at)? else { continue };
            let pin = self.region.load(at + PIN)?;
            if pin != 0 && pin <= stamp {
                return Ok(Some(holder));
            }
        }
        Ok(None)
    }
}

/// This party's registration; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Opener {
    region: Arc<Region>,
    /// Identity.
    pub(crate) id: u64,
    at: u64,
    pid: u32,
    generation: u64,
    // The lock goes with its file.
    _lock: Option<LockFile>,
    // Epochs that are read at, and by how many.
    pins: Mutex<BTreeMap<u64, usize>>,
}

impl Opener {
    /// Takes an entry of the table.
    pub(crate) fn register(region: &Arc<Region>, superblock: &Superblock) -> Result<Arc<Self>> {
        // A file description of its own: its locks are told apart from those of other sessions.
        let openers = Openers::new(Arc::clone(region), superblock);
        for dead_too in [false, true] {
            if dead_too {
                openers.free_claims()?;
            }
            for slot in 0..u64::from(OPENER_ENTRIES) {
                if let Some(opener) = Self::claim(&openers, slot, dead_too)? {
                    return Ok(Arc::new(opener.fill(openers)?));
                }
            }
        }
        Err(Error::ImageBusy {
            name: show_path(region.name()),
            why: format!("all {OPENER_ENTRIES} places for those who have it open are taken"),
        })
    }

    fn claim(openers: &Openers, slot: u64, dead_too: bool) -> Result<Option<Claim>> {
        let at = openers.at(slot);
        let word = openers.region.load(at)?;
        let last = word & !NOT_PLAIN;
        let free = word == 0 || word & OPENER_FREED != 0;
        let dead =
            || Ok::<_, Error>(word & NOT_PLAIN == 0 && openers.examine(word)?.life == Life::Dead);
        if !(free || dead_too && dead()?) {
            return Ok(None);
        }
        // The lock comes before the claim: a claimer that dies at once is not taken for a slow one.
        // Who may only read the file can keep us from it, with a lock for reading; then we go without.
        let locked = match &openers.lock {
            Some(lock) if lock.try_lock(at, ENTRY) => true,
            Some(lock) if lock.is_free(at, ENTRY) == Some(false) => return Ok(None),
            _ => false,
        };
        let id = if last == 0 { slot + 1 } else { last + u64::from(BRANCH_RECORDS) };
        if id & NOT_PLAIN != 0 {
            return Err(Error::corrupt("id of an opener", at, "one that can grow", last));
        }
        // OpenClaim
        if openers.region.compare_exchange(at, word, OPENER_CLAIMED | id)? {
            return Ok(Some(Claim { at, id, locked }));
        }
        if let Some(lock) = openers.lock.as_ref().filter(|_| locked) {
            lock.unlock(at, ENTRY);
        }
        Ok(None)
    }

    /// Whether this process registered it; a fork of it did not.
    pub(crate) fn is_mine(&self) -> bool {
        generation() == self.generation
    }

    /// An error in a fork of the process that registered: it holds nothing, and two that write
    /// under one identity would damage the image.
    pub(crate) fn expect_mine(&self) -> Result<()> {
        if self.is_mine() {
            return Ok(());
        }
        Err(Error::ImageBusy {
            name: show_path(self.region.name()),
            why: format!(
                "process {} opened it, of which this one is a fork; open the image again here",
                self.pid
            ),
        })
    }

    fn lock_pins(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins the present epoch: what is needed now stays until the pin is dropped. Load `head`
    /// after this.
    pub(crate) fn pin(self: &Arc<Self>) -> Result<Pin> {
        self.expect_mine()?;
        let mut pins = self.lock_pins();
        let epoch = self.region.load(EPOCH)?;
        *pins.entry(epoch).or_default() += 1;
        self.store_pin(&pins)?;
        Ok(Pin { opener: Arc::clone(self), epoch })
    }

    /// The oldest epoch that is still read at counts.
    fn store_pin(&self, pins: &BTreeMap<u64, usize>) -> Result<()> {
        let oldest = pins.keys().next().copied().unwrap_or(0);
        self.region.store(self.at + PIN, oldest)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        // A fork of the process that registered has no say.
        if self.is_mine() {
            let freed = self.region.store(self.at + PIN, 0).and_then(|()| {
                self.region.compare_exchange(self.at, self.id, OPENER_FREED | self.id)
            });
            // Nobody is there to hear of it, and a dead entry is as good as a freed one.
            let _ = freed.and_then(|_| self.region.persist(self.at, ENTRY));
        }
    }
}

/// An entry taken, and not yet filled in.
struct Claim {
    at: u64,
    id: u64,
    locked: bool,
}

impl Claim {
    fn fill(self, openers: Openers) -> Result<Opener> {
        let Self { at, id, locked } = self;
        let region = Arc::clone(&openers.region);
        let pid = std::process::id();
        let entry = OpenerEntry {
            opener_id: (OPENER_CLAIMED | id).into(),
            host: openers.host.into(),
            boot: openers.boot.into(),
            pid: pid.into(),
            proof: if locked { PROOF_LOCK } else { 0 }.into(),
            pid_namespace: openers.pid_namespace.into(),
            start_time: start_time(pid).unwrap_or(0).into(),
            heartbeat: u64::try_from(crate::clock::now()).unwrap_or(0).into(),
            ..OpenerEntry::zeroed()
        };
        // OpenFill; the first word, which others compare, is there already.
        region.store(at + PIN, 0)?;
        region.write(at + 8, &entry.as_bytes()[8..])?;
        region.persist(at, ENTRY)?;
        // OpenRegister. Who does not see this claim's lock may have freed it as a dead one's.
        if !region.compare_exchange(at, OPENER_CLAIMED | id, id)? {
            return Err(Error::ImageBusy {
                name: show_path(region.name()),
                why: "its place among those who have it open was given to another; try again"
                    .into(),
            });
        }
        region.persist(at, ENTRY)?;
        let (_lock, pins) = (openers.lock, Mutex::default());
        Ok(Opener { region, id, at, pid, generation: generation(), _lock, pins })
    }
}

/// A hold on everything that was needed at an epoch.
#[derive(Debug)]
pub struct Pin {
    opener: Arc<Opener>,
    epoch: u64,
}

impl Pin {
    /// The epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if !self.opener.is_mine() {
            return;
        }
        let mut pins = self.opener.lock_pins();
        if let Some(count) = pins.get_mut(&self.epoch) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.epoch);
                // A pin that could not be moved only keeps more than it must.
                let _ = self.opener.store_pin(&pins);
            }
        }
    }
}

/// Identity of this machine; 0 where it cannot be told. A copy of an installation alone is not
/// enough to be taken for another: the firmware has a say too.
fn host() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (firmware, installation) =
        (read("/sys/class/dmi/id/product_uuid"), read("/etc/machine-id"));
    match (firmware.trim(), installation.trim()) {
        ("", _) | (_, "") => 0,
        (firmware, installation) => digest(&format!("{firmware} {installation}")),
    }
}

/// Identity of this boot of the kernel; 0 where it cannot be told.
fn boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.is_empty() { 0 } else { digest(id.trim()) }
}

fn digest(text: &str) -> u64 {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_u64_pair().0
}

fn pid_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

/// Whether no process has a number.
fn is_nobody(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH))
}

/// In place of a start: the process has ended.
const ENDED: u64 = u64::MAX;

/// When a process began, in clock ticks since boot, [`ENDED`] for one that has; `None` when the
/// system does not say: there is none of this number, it is hidden, or nothing can be opened.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything. After it come the state and, as field 22, the
    // start. A zombie has ended.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    if ended {
        return Some(ENDED);
    }
    // What is told is as the clock of the time namespace has it in which it is asked.
    let start = fields.nth(18)?.parse::<i64>().ok()?.checked_sub(clock_offset()?)?;
    u64::try_from(start).ok()
}

/// By how many ticks the clock since boot is ahead in this process's time namespace; `None` where
/// that cannot be told.
fn clock_offset() -> Option<i64> {
    let namespace =
        |name| std::fs::metadata(format!("/proc/self/ns/{name}")).ok().map(|ns| ns.ino());
    let Some(own) = namespace("time") else { return Some(0) };
    // The offsets are those of the namespace that children are born in.
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").ok()?;
    let mut fields =
        offsets.lines().find_map(|line| line.strip_prefix("boottime"))?.split_whitespace();
    let (seconds, ns) = (fields.next()?.parse::<i64>().ok()?, fields.next()?.parse::<i64>().ok()?);
    let ticks = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    let whole = ns % (1_000_000_000 / ticks) == 0 && namespace("time_for_children") == Some(own);
    whole.then(|| seconds * ticks + ns / (1_000_000_000 / ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_registers_where_the_claim_was_taken_away() {
        let table = 4096;
        let bytes = vec![0; table + usize::try_from(OPENER_ENTRIES).unwrap() * 64];
        let region = Arc::new(Region::from_bytes(&bytes).unwrap());
        let superblock =
            Superblock { opener_table_offset: (table as u64).into(), ..Superblock::zeroed() };
        for word in [OPENER_FREED | 1, OPENER_CLAIMED | 257, 257] {
            region.store(table as u64, 0).unwrap();
            let openers = Openers::new(Arc::clone(&region), &superblock);
            let claim = Opener::claim(&openers, 0, false).unwrap().unwrap();
            region.store(table as u64, word).unwrap();
            assert!(matches!(claim.fill(openers), Err(Error::ImageBusy { .. })));
            assert_eq!(region.load(table as u64).unwrap(), word);
        }
    }
}
