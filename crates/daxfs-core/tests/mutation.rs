// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects the proof: what changes in an image without need is reported, and what is accepted
//! all the same is a sound image in the eyes of a second, independent reader.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use daxfs_core::delta::{self, scan};
use daxfs_core::format::{
    BLOCK_SIZE, BranchRecord, DIRENT_SIZE, Field, INODE_SIZE, Layout, OpenerEntry, Superblock,
};
use daxfs_core::layout::Shape;
use daxfs_core::region::Region;
use rayon::prelude::*;

use support::change::{Change, Verdict, every_value, flips, is_sound, telling_values, try_each};
use support::exhaust::exhaust_sound;
use support::judge::{Trees, complaints};
use support::sample::{
    base_of, branch_metadata, logs, metadata, sample, scatter, superblock_of, vector,
    without_checksums,
};

/// Pairs of bits flipped in each image.
const PAIRS: u64 = 50_000;

fn every_byte(image: &[u8]) -> Verdict {
    let spans = metadata(image).into_par_iter();
    try_each(image, spans.flat_map(|(_, range)| every_value(image, range)))
}

fn telling_bytes(image: &[u8]) -> Verdict {
    let spans = metadata(image).into_par_iter();
    try_each(image, spans.flat_map(|(_, range)| telling_values(image, range)))
}

fn pairs_of_flips(image: &[u8]) -> Verdict {
    let bytes: Vec<u64> = metadata(image).into_iter().flat_map(|(_, range)| range).collect();
    let bit = |number: u64| (bytes[(number / 8) as usize % bytes.len()], 1_u8 << (number % 8));
    let changes = (0..PAIRS).into_par_iter().map(|pair| {
        let (a, b) = (bit(scatter(2 * pair)), bit(scatter(2 * pair + 1)));
        let flipped = |(at, mask): (u64, u8)| vec![image[at as usize] ^ mask];
        if a.0 == b.0 {
            Change(vec![(a.0, vec![image[a.0 as usize] ^ (a.1 | b.1)])])
        } else {
            Change(vec![(a.0, flipped(a)), (b.0, flipped(b))])
        }
    });
    try_each(image, changes)
}

/// Any two of equal size that differ change places: inode records, dirents, blocks of metadata.
fn swaps(image: &[u8]) -> Verdict {
    let base = base_of(image);
    let mut kinds = vec![(INODE_SIZE, Vec::new()), (DIRENT_SIZE, Vec::new())];
    for ino in 1..=u64::from(base.inode_count()) {
        kinds[0].1.push(base.inode_offset(ino));
        let inode = base.inode(ino).expect("a sound inode");
        if inode.is_dir() {
            let positions = 0..base.dirent_count(&inode);
            kinds[1].1.extend(positions.map(|position| inode.data + position * DIRENT_SIZE));
        }
    }
    let spans = metadata(image).into_iter().filter(|(_, range)| !range.is_empty());
    let mut blocks: Vec<u64> = spans
        .flat_map(|(_, range)| range.start / BLOCK_SIZE..=(range.end - 1) / BLOCK_SIZE)
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    kinds.push((BLOCK_SIZE, blocks.into_iter().map(|block| block * BLOCK_SIZE).collect()));
    let mut changes = Vec::new();
    for (len, places) in kinds {
        for (index, a) in places.iter().enumerate() {
            let others = places[index + 1..].iter().map(|b| Change::swap(image, *a, *b, len));
            changes.extend(others.filter(|change| change.0[0].1 != change.0[1].1));
        }
    }
    try_each(image, changes.into_par_iter())
}

/// Every kind of change, on an image whose checksums must tell of all of them.
#[test]
fn checksums_tell_of_every_change() {
    let image = sample(Shape::default());
    for (what, verdict) in [
        ("single bytes", every_byte(&image)),
        ("pairs of bits", pairs_of_flips(&image)),
        ("swaps", swaps(&image)),
    ] {
        println!("{what}: {} tried, {} accepted", verdict.tried, verdict.accepted.len());
        assert_eq!(verdict.accepted, [], "{what} that nothing tells of");
    }
}

/// Every kind of change, on images without checksums: what is accepted must make sense to a
/// reader that was written from the format alone.
#[test]
fn what_is_accepted_without_checksums_is_sound() {
    let plain = without_checksums(&sample(Shape::default()));
    for (name, image) in [
        ("our own", plain),
        ("static.daxfs", vector("static.daxfs")),
        ("branching.daxfs", vector("branching.daxfs")),
    ] {
        assert_eq!(
            complaints(&image, Trees::Base, &[Change(Vec::new())]),
            [""; 0],
            "{name} is sound itself"
        );
        for (what, verdict) in [
            ("single bytes", telling_bytes(&image)),
            ("pairs of bits", pairs_of_flips(&image)),
            ("swaps", swaps(&image)),
        ] {
            let (tried, accepted) = (verdict.tried, verdict.accepted.len());
            println!("{name}, {what}: {tried} tried, {accepted} accepted");
            let complaints = complaints(&image, Trees::Base, &verdict.accepted);
            let first = &complaints[..complaints.len().min(20)];
            assert!(first.is_empty(), "{name}, {what}: {} refused: {first:#?}", complaints.len());
        }
    }
}

/// Every byte of what the records and the log of a branch say, but for the bytes of files: what is
/// accepted must replay for a reader that was written from the format alone.
#[test]
fn what_is_accepted_of_a_log_replays() {
    let image = vector("delta.daxfs");
    let log = logs(&image).into_iter().map(|(_, range)| range).find(|range| !range.is_empty());
    let log = log.expect("a log");
    let region = Region::from_bytes(&image).expect("memory");
    let space = delta::LogSpace::of(&superblock_of(&image));
    let size = log.end - log.start;
    let entries: Vec<_> = scan(&region, &space, delta::Cursor::new(log.start, size), size)
        .collect::<Result<_, _>>()
        .expect("sound");
    let ends = entries.iter().skip(1).map(|entry| entry.at).chain([log.end]);
    let mut ranges: Vec<_> = entries
        .iter()
        .zip(ends)
        .map(|(entry, end)| match entry.change {
            delta::Change::Write { data, .. } => entry.at..data,
            _ => entry.at..end,
        })
        .collect();
    let table = superblock_of(&image).branch_table_offset.get();
    ranges.push(table..table + 256);
    let changes = ranges.into_par_iter().flat_map(|range| flips(&image, range));
    let verdict = try_each(&image, changes);
    println!("{} tried, {} accepted", verdict.tried, verdict.accepted.len());
    let mut complaints = complaints(&image, Trees::Branches, &verdict.accepted);
    // Long holes cost that reader memory, so it has a limit. A SETATTR without a file type, which
    // it refuses, leaves the type as it is.
    complaints.retain(|complaint| {
        let mode = complaint.split(" mode 0o").nth(1).and_then(|rest| rest.split(' ').next());
        let typeless =
            complaint.contains("changes the type of") && mode.is_some_and(|m| m.len() <= 4);
        !typeless && !complaint.contains("above 268435456 in all")
    });
    let first = &complaints[..complaints.len().min(20)];
    assert!(first.is_empty(), "{} refused: {first:#?}", complaints.len());
}

/// Images cut short at every kind of place, and blocks that say nothing.
#[test]
fn torn_images_are_refused() {
    for image in [sample(Shape::default()), vector("static.daxfs")] {
        let blocks = (0..image.len()).step_by(BLOCK_SIZE as usize);
        let lengths =
            blocks.flat_map(|at| [at, at + 1, at + 8, at + 4095]).chain([image.len() - 1]);
        for len in lengths.filter(|len| *len < image.len()) {
            let region = Arc::new(Region::from_bytes(&image[..len]).expect("memory"));
            assert!(!is_sound(&region), "sound with {len} bytes of {}", image.len());
            assert!(exhaust_sound(&region).is_err());
        }
        for fill in [0, 0xff] {
            let region = Arc::new(Region::from_bytes(&vec![fill; image.len()]).expect("memory"));
            assert!(!is_sound(&region), "{} bytes of {fill:#x} are sound", image.len());
        }
        let whole: Vec<Change> = metadata(&image)
            .into_iter()
            .flat_map(|(_, range)| [0, 0xff].map(|fill| (range.clone(), fill)))
            .map(|(range, fill)| Change(vec![(range.start, vec![fill; range.clone().count()])]))
            .filter(|change| !change.0[0].1.is_empty())
            .collect();
        let verdict = try_each(&image, whole.into_par_iter());
        assert_eq!(verdict.accepted, [], "a structure of nothing is sound");
    }
}

/// What changes in an image with branches while it is used: some values of these are states that a
/// course of events leads to. `words_have_limits` has the values that are not.
const MUTABLE: &[&str] = &[
    "free opener entry: boot",
    "free opener entry: heartbeat",
    "free opener entry: host",
    "free opener entry: opener_id",
    "free opener entry: pid",
    "free opener entry: pid_namespace",
    "free opener entry: pin",
    "free opener entry: proof",
    "free opener entry: start_time",
    // A slot that was in use keeps what it held.
    "free record: base_head",
    "free record: base_size",
    "free record: branch_id",
    "free record: checksum",
    "free record: delta_log_capacity",
    "free record: delta_log_offset",
    "free record: delta_log_size",
    "free record: flags",
    "free record: name",
    "free record: owner",
    "free record: parent_id",
    "free record: stamp",
    // While the log has no capacity: a crash may come between the two stores.
    "main's record: delta_log_capacity",
    "main's record: delta_log_offset",
    "main's record: flags",
    "main's record: owner",
    "main's record: stamp",
    // A party thought dead may have retired it; maintenance makes it active again.
    "main's record: state",
    "owner map",
    "superblock: alloc_hint",
    "superblock: epoch",
    "superblock: maint",
    "superblock: next_inode_id",
];

/// Names the field that lies at an image offset.
fn field_at(image: &[u8], offset: u64) -> String {
    let name = |structure: &str, fields: &[Field], offset: u64| {
        let field = fields.iter().rfind(|field| field.offset as u64 <= offset);
        format!("{structure}: {}", field.expect("offset 0 has a field").name)
    };
    let superblock = superblock_of(image);
    let table = superblock.branch_table_offset.get();
    let openers = superblock.opener_table_offset.get();
    match branch_metadata(image).into_iter().find(|(_, range)| range.contains(&offset)) {
        Some(("branch table", _)) => {
            let used = offset < table + 128;
            let record = if used { "main's record" } else { "free record" };
            name(record, BranchRecord::FIELDS, (offset - table) % 128)
        }
        Some(("opener table", _)) => {
            name("free opener entry", OpenerEntry::FIELDS, (offset - openers) % 64)
        }
        Some((table, _)) => table.into(),
        None if offset < BLOCK_SIZE => name("superblock", Superblock::FIELDS, offset),
        None => format!("offset {offset:#x} of the base image"),
    }
}

/// With branches, all but the words listed are still told of.
#[test]
fn branches_add_only_the_mutable_words() {
    let image = sample(branches());
    // Of tables whose entries are alike, the first ones and the last.
    let ends = branch_metadata(&image).into_iter().flat_map(|(name, range)| {
        let first = range.start + 512.min(range.end - range.start);
        [(name, range.start..first), (name, range.end.saturating_sub(128).max(first)..range.end)]
    });
    // What lies in the base image is as in an image without branches.
    let spans: Vec<_> = ends.chain([("superblock", 0..BLOCK_SIZE)]).collect();
    let changes = spans.into_par_iter().flat_map(|(_, range)| telling_values(&image, range));
    let verdict = try_each(&image, changes);
    println!("{} tried, {} accepted", verdict.tried, verdict.accepted.len());
    let fields = verdict.accepted.iter().map(|change| field_at(&image, change.0[0].0));
    let fields: BTreeSet<String> = fields.collect();
    assert_eq!(fields, MUTABLE.iter().map(|name| name.to_string()).collect());
}

/// Values of mutable words that nothing leads to.
#[test]
fn words_have_limits() {
    let image = sample(branches());
    let superblock = superblock_of(&image);
    let word = |at: u64, value: u64| Change(vec![(at, value.to_le_bytes().to_vec())]);
    let (free, opener) =
        (superblock.branch_table_offset.get() + 128, superblock.opener_table_offset.get());
    let next = superblock.next_inode_id.get();
    let wrong = [
        ("an inode number in use", word(64, next - 1)),
        ("no head", word(1024, 0)),
        ("a head that is free", word(1024, 2)),
        ("no epoch", word(1088, 0)),
        ("another slot's record", word(free, 1)),
        ("another slot's opener", word(opener, 2)),
        ("a record of no known state", word(free + 40, 6)),
    ];
    for (what, change) in wrong {
        let verdict = try_each(&image, [change].into_par_iter());
        assert_eq!(verdict.accepted, [], "{what} is taken as sound");
    }
}

fn branches() -> Shape {
    Shape { branches: true, delta_size: Some(288 << 10), size: None }
}
