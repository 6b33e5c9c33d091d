// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: a branch table that contradicts itself, the owner map or the openers is found out,
//! by proof and by opening alike, in plain v3 and in ours.

mod common;

use common::{Log, findings, image, open, vector};
use daxfs_core::finding::Severity;
use daxfs_core::format::{BranchRecord, Superblock, feature, state};
use daxfs_core::view::View;
use zerocopy::{FromBytes, IntoBytes};

const TABLE: usize = 4096;
const MAP: usize = 118_784;
const OPENERS: usize = MAP + 4096;
const HEAP: usize = OPENERS + 16_384;
const BLOCKS: usize = 59;

fn edit<T: FromBytes + IntoBytes + zerocopy::KnownLayout + zerocopy::Immutable>(
    bytes: &mut [u8],
    at: usize,
    change: impl FnOnce(&mut T),
) {
    let place = &mut bytes[at..at + size_of::<T>()];
    let mut value = T::read_from_bytes(place).unwrap();
    change(&mut value);
    place.copy_from_slice(value.as_bytes());
}

fn record(bytes: &mut [u8], slot: usize, change: impl FnOnce(&mut BranchRecord)) {
    edit(bytes, TABLE + slot * 128, change);
}

fn superblock(bytes: &mut [u8], change: impl FnOnce(&mut Superblock)) {
    edit(bytes, 0, change);
}

/// main, a (child of main), b (child of a).
fn plain() -> Vec<u8> {
    let log = |ino, name: &str| Log::default().create(1, ino, name);
    image(&[("main", 0, &log(100, "x")), ("a", 1, &log(101, "y")), ("b", 2, &log(102, "z"))])
}

/// An image of ours: main with one block of log, b made from it with another.
fn ours() -> Vec<u8> {
    let mut bytes = vector("branching.daxfs");
    let end = bytes.len() as u64;
    superblock(&mut bytes, |superblock| {
        superblock.flags.set(feature::BRANCHES);
        superblock.active_branches.set(0);
        superblock.next_branch_id.set(0);
        superblock.next_inode_id.set(200);
        superblock.delta_alloc_offset.set(end);
        superblock.owner_map_offset.set(MAP as u64);
        superblock.opener_table_offset.set(OPENERS as u64);
        superblock.opener_table_entries.set(256);
        superblock.heap_offset.set(HEAP as u64);
        superblock.heap_blocks.set(BLOCKS as u64);
        superblock.head.set(1);
        superblock.epoch.set(1);
    });
    bytes[MAP..].fill(0);
    branch(&mut bytes, 0, "main", 0, 0, &Log::default().create(1, 100, "x"));
    branch(&mut bytes, 1, "b", 1, 1, &Log::default().create(1, 101, "y"));
    bytes
}

fn branch(bytes: &mut [u8], slot: usize, name: &str, parent: u64, base_head: u64, log: &Log) {
    let at = HEAP + slot * 4096;
    bytes[at..at + log.bytes.len()].copy_from_slice(&log.bytes);
    let id = slot as u64 + 1;
    bytes[MAP + slot * 8..MAP + slot * 8 + 8].copy_from_slice(&id.to_le_bytes());
    record(bytes, slot, |record| {
        record.branch_id.set(id);
        record.parent_id.set(parent);
        record.delta_log_offset.set(at as u64);
        record.delta_log_size.set(log.bytes.len() as u64);
        record.delta_log_capacity.set(4096);
        record.state.set(state::ACTIVE);
        record.name[..name.len()].copy_from_slice(name.as_bytes());
        record.base_head.set(base_head);
        record.checksum = record.expected_checksum().into();
    });
}

fn messages(bytes: &[u8], severity: Severity) -> Vec<String> {
    let findings = findings(bytes).unwrap();
    let wanted = findings.list().iter().filter(|finding| finding.severity == severity);
    wanted.map(ToString::to_string).collect()
}

/// The proof says so, and opening refuses too where the table itself is wrong.
fn wrong(bytes: &[u8], expected: &str) {
    let errors = messages(bytes, Severity::Error);
    assert!(errors.iter().any(|error| error.contains(expected)), "{errors:?}, no {expected:?}");
}

fn wrong_table(bytes: &[u8], expected: &str) {
    wrong(bytes, expected);
    let error = View::open(open(bytes).unwrap(), "main").unwrap_err();
    assert!(error.to_string().contains(expected), "{error}, without {expected:?}");
}

#[test]
fn sound_tables_are_clean() {
    for bytes in [plain(), ours()] {
        assert_eq!(messages(&bytes, Severity::Error), [""; 0]);
        let listed = open(&bytes).unwrap().branches().unwrap();
        assert!(listed.iter().any(|branch| branch.name == "b"));
    }
}

#[test]
fn parents_must_exist_and_end_at_the_base() {
    let mut bytes = plain();
    record(&mut bytes, 2, |record| record.parent_id.set(77));
    wrong_table(&bytes, "parent of a branch");
    let mut bytes = plain();
    record(&mut bytes, 1, |record| record.parent_id.set(3));
    wrong_table(&bytes, "a cycle");
    let mut bytes = plain();
    record(&mut bytes, 1, |record| record.state.set(state::ABORTED));
    wrong_table(&bytes, "parent of a branch");
}

#[test]
fn the_longest_chain_is_read() {
    let logs: Vec<Log> =
        (0..256).map(|at| Log::default().create(1, 1000 + at, &format!("f{at}"))).collect();
    let names: Vec<String> = (0..256).map(|at| format!("b{at}")).collect();
    let table: Vec<_> = (0..256).map(|at| (names[at].as_str(), at as u64, &logs[at])).collect();
    let bytes = image(&table);
    assert_eq!(messages(&bytes, Severity::Error), [""; 0]);
    let view = View::open(open(&bytes).unwrap(), "b255").unwrap();
    assert_eq!(common::names(&view, "/").iter().filter(|name| name.starts_with('f')).count(), 256);
}

#[test]
fn names_are_unique_and_terminated() {
    let mut bytes = plain();
    record(&mut bytes, 2, |record| {
        record.name = *b"a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    });
    wrong_table(&bytes, "name of a branch");
    for name in [[b'x'; 32], [0; 32], [0xff; 32]] {
        record(&mut bytes, 2, |record| record.name = name);
        wrong_table(&bytes, "1 to 31 bytes");
    }
}

#[test]
fn names_of_ours_can_be_asked_for() {
    let named = |name: &[u8]| {
        let mut bytes = ours();
        record(&mut bytes, 1, |record| {
            record.name = [0; 32];
            record.name[..name.len()].copy_from_slice(name);
            record.checksum = record.expected_checksum().into();
        });
        bytes
    };
    for name in ["b", ".main", "\u{fc}\u{2603}", &"x".repeat(31)] {
        assert_eq!(messages(&named(name.as_bytes()), Severity::Error), [""; 0], "{name}");
    }
    for name in ["a/b", "..", ".hidden", "@b", "-b", "a\nb", "b\0c", ".main\0c"] {
        wrong_table(&named(name.as_bytes()), "that can be given to a branch");
    }
}

#[test]
fn identities_and_states_are_legal() {
    let mut bytes = plain();
    record(&mut bytes, 2, |record| record.branch_id.set(1));
    wrong_table(&bytes, "branch id");
    let mut bytes = plain();
    record(&mut bytes, 2, |record| record.state.set(4));
    wrong_table(&bytes, "0 to 3");
    let mut bytes = ours();
    record(&mut bytes, 1, |record| record.branch_id.set(3));
    wrong_table(&bytes, "branch id");
    let mut bytes = ours();
    record(&mut bytes, 1, |record| record.state.set(2));
    wrong_table(&bytes, "0, 1, 4 or 5");
}

#[test]
fn logs_lie_inside_and_apart() {
    let mut bytes = plain();
    record(&mut bytes, 1, |record| record.delta_log_offset.set(4096));
    wrong_table(&bytes, "log of a branch");
    for capacity in [1 << 40, u64::MAX] {
        let mut bytes = plain();
        record(&mut bytes, 1, |record| record.delta_log_capacity.set(capacity));
        wrong_table(&bytes, "log of a branch");
    }
    let mut bytes = plain();
    record(&mut bytes, 1, |record| record.delta_log_size.set(4096));
    wrong_table(&bytes, "size of a log");
    // In ours a log may have more segments, so what is too long shows at its entries.
    let mut bytes = ours();
    record(&mut bytes, 1, |record| record.delta_log_size.set((BLOCKS as u64 * 4096) + 1));
    wrong_table(&bytes, "size of a log");
    for (offset, capacity) in [(8, 4096), (0, 4095), (0, 0), (0, 1 << 40)] {
        let mut bytes = ours();
        record(&mut bytes, 1, |record| {
            record.delta_log_offset.set((HEAP + 4096) as u64 + offset);
            record.delta_log_capacity.set(capacity);
        });
        wrong_table(&bytes, "in ours whole blocks");
        // With nothing published they mean nothing.
        record(&mut bytes, 1, |record| record.delta_log_size.set(0));
        assert_eq!(messages(&bytes, Severity::Error), [""; 0]);
    }
    let mut bytes = plain();
    record(&mut bytes, 0, |record| record.delta_log_capacity.set(60));
    wrong_table(&bytes, "where another ends");
}

#[test]
fn link_counts_are_right_where_branches_are_written() {
    let miscount = |mut bytes: Vec<u8>| {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let base = word(24);
        // The last inode's.
        let count = word(base + 32) & 0xffff_ffff;
        let at = base + word(base + 24) + (count - 1) * 64 + 32;
        bytes[at] += 1;
        bytes
    };
    assert_eq!(messages(&miscount(plain()), Severity::Error), [""; 0]);
    wrong(&miscount(ours()), "link count");
}

#[test]
fn plain_counters_are_warned_of() {
    let mut bytes = plain();
    superblock(&mut bytes, |superblock| {
        superblock.next_inode_id.set(102);
        superblock.active_branches.set(9);
        superblock.next_branch_id.set(3);
    });
    assert_eq!(messages(&bytes, Severity::Error), [""; 0]);
    let warnings = messages(&bytes, Severity::Warning).join("\n");
    for what in ["next inode number", "active branches", "next branch"] {
        assert!(warnings.contains(what), "{warnings}");
    }
}

#[test]
fn words_of_ours() {
    let mut bytes = ours();
    superblock(&mut bytes, |superblock| superblock.head.set(3));
    wrong_table(&bytes, "an active record");
    let mut bytes = ours();
    superblock(&mut bytes, |superblock| superblock.epoch.set(0));
    wrong(&bytes, "epoch");
    let mut bytes = ours();
    superblock(&mut bytes, |superblock| superblock.next_inode_id.set(101));
    wrong(&bytes, "next inode number");
    // Counters that come to their end would begin anew.
    superblock(&mut bytes, |superblock| superblock.next_inode_id.set(u64::MAX));
    wrong(&bytes, "next inode number");
    let mut bytes = ours();
    superblock(&mut bytes, |superblock| superblock.epoch.set(u64::MAX));
    wrong(&bytes, "epoch");
    let mut bytes = ours();
    record(&mut bytes, 1, |record| record.base_size.set(1));
    wrong_table(&bytes, "checksum of a branch record");
}

#[test]
fn the_owner_map_agrees_with_the_logs() {
    let mut bytes = ours();
    bytes[MAP + 8] = 1;
    wrong(&bytes, "owner of a log's block");
    let mut bytes = ours();
    bytes[MAP + 8] = 0;
    wrong(&bytes, "owner of a log's block");
    // A block of a record that is gone is a leak, and no more.
    let mut bytes = ours();
    bytes[MAP + 80] = 9;
    assert_eq!(messages(&bytes, Severity::Error), [""; 0]);
    assert!(messages(&bytes, Severity::Warning).join("\n").contains("owner of a block"));
}

#[test]
fn a_commit_makes_main_what_the_branch_was() {
    let mut bytes = ours();
    branch(&mut bytes, 2, "lost", 1, 1, &Log::default().create(1, 102, "w"));
    superblock(&mut bytes, |superblock| superblock.head.set(2));
    assert_eq!(messages(&bytes, Severity::Error), [""; 0]);
    let image = open(&bytes).unwrap();
    let live = image.branches().unwrap();
    let named = live.iter().map(|branch| (branch.id, branch.name.as_str()));
    assert_eq!(named.collect::<Vec<_>>(), [(2, "main")]);
    let view = View::open(image.clone(), "main").unwrap();
    assert!(common::names(&view, "/").contains(&"y".into()));
    for dead in ["b", "lost"] {
        let error = View::open(image.clone(), dead).unwrap_err();
        assert_eq!(error.name(), "NoBranch");
    }
    // The names of the dead are free again.
    branch(&mut bytes, 3, "lost", 2, 2, &Log::default().create(1, 103, "v"));
    assert_eq!(messages(&bytes, Severity::Error), [""; 0]);
    let view = View::open(open(&bytes).unwrap(), "lost").unwrap();
    assert!(common::names(&view, "/").contains(&"v".into()));
}
