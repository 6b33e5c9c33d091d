// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects readers from whoever shares the memory: while one thread keeps changing the image,
//! others prove, walk, look up, read and extract it. Nothing panics, nothing outside the region is
//! touched (there is no memory there), and all work ends, as its steps are counted.

mod support;

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use daxfs_core::extract::{ExtractOptions, to_directory, to_tar};
use daxfs_core::format::{BLOCK_SIZE, DIRENT_SIZE, INODE_SIZE, ROOT_INO};
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::Region;
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::{Links, View};

use support::change::Change;
use support::exhaust::{exhaust_trusting, exhaust_view};
use support::guard::{Guarded, guarded};
use support::sample::{
    base_of, branch_metadata, logs, metadata, sample, scatter, scratch, vector, without_checksums,
};

/// Rounds that each reader does; the peer goes on until all have done theirs.
const ROUNDS: u32 = 20_000;
/// Rounds at most of the reader that must meet the peer, which may seldom get a processor.
const ROUNDS_MAX: u32 = 100 * ROUNDS;
/// Rounds of extraction, which makes files.
const EXTRACTIONS: u32 = 400;
/// Changes that the peer leaves standing on average before it makes the image sound again.
const STANDING: u64 = 4;

/// Where the peer stores, and what is worth storing there.
struct Targets {
    /// Where metadata lie.
    spans: Vec<Range<u64>>,
    /// Sizes, offsets and counts: 8-byte words that bound something.
    words: Vec<u64>,
    /// Records that can change places, of each size.
    records: Vec<(u64, Vec<u64>)>,
}

impl Targets {
    fn of(image: &[u8]) -> Self {
        let base = base_of(image);
        let start = base.range().start;
        let spans = [metadata(image), branch_metadata(image), logs(image)].concat();
        let spans = spans.into_iter().map(|(_, range)| range).filter(|range| !range.is_empty());
        let spans = spans.collect();
        let mut words: Vec<u64> = (16..96).step_by(8).chain((176..224).step_by(8)).collect();
        words.extend((16..64).step_by(8).map(|field| start + field));
        let (mut inodes, mut dirents) = (Vec::new(), Vec::new());
        for ino in 1..=u64::from(base.inode_count()) {
            let at = base.inode_offset(ino);
            inodes.push(at);
            words.extend([at + 16, at + 24, at + 32, at + 48]);
            let inode = base.inode(ino).expect("a sound inode");
            if inode.is_dir() {
                let positions = 0..base.dirent_count(&inode);
                dirents.extend(positions.map(|position| inode.data + position * DIRENT_SIZE));
            }
        }
        words.extend(dirents.iter().map(|at| at + 8));
        let blocks = (0..image.len() as u64).step_by(BLOCK_SIZE as usize).collect();
        let records = vec![(INODE_SIZE, inodes), (DIRENT_SIZE, dirents), (BLOCK_SIZE, blocks)];
        Self { spans, words, records }
    }

    fn change(&self, image: &[u8], number: u64) -> Change {
        let (choice, value) = (scatter(3 * number), scatter(3 * number + 1));
        let pick = |places: &[u64], seed: u64| places[(seed >> 8) as usize % places.len()];
        let span = &self.spans[(choice >> 32) as usize % self.spans.len()];
        let any = span.start + (choice >> 8) % (span.end - span.start);
        match choice % 4 {
            0 => Change::byte(any, value as u8),
            1 => {
                let len = image.len() as u64;
                let telling = [0, 1, len - 1, len, len + 1, 1 << 32, u64::MAX, u64::MAX - 4095];
                let near = value % (2 * len) / 16 * 16;
                let word = telling.get((value >> 32) as usize % 16).copied().unwrap_or(near);
                Change(vec![(pick(&self.words, choice), word.to_le_bytes().to_vec())])
            }
            2 => {
                let (len, places) = &self.records[value as usize % self.records.len()];
                Change::swap(image, pick(places, choice), pick(places, scatter(value)), *len)
            }
            _ => Change(vec![(any & !7, value.to_le_bytes().to_vec())]),
        }
    }
}

/// Changes the image until told to stop; gives the number of changes.
fn harass(peer: &Region, image: &[u8], stop: &AtomicBool) -> u64 {
    let targets = Targets::of(image);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        targets.change(image, number).apply(peer);
        number += 1;
        if scatter(number).is_multiple_of(STANDING) {
            peer.write(0, image).expect("the whole image");
        }
    }
    number
}

/// Reads through a view that was opened while the image was sound; returns whether it came to the
/// end.
fn read_held(image: &Arc<Image>, round: u32) -> bool {
    let view = View::base(Arc::clone(image));
    let read = exhaust_view(&view);
    for path in ["home/deep/deeper/end", "way/deeper/../deeper", "note.link", "sub/dir/x"] {
        if let Ok(inode) = view.resolve(path.as_bytes(), Links::Follow) {
            let _ = view.read(&inode, u64::from(round), &mut [0; 64]);
        }
    }
    for branch in ["main", "b1"] {
        let _ = View::open(Arc::clone(image), branch).and_then(|view| exhaust_view(&view));
    }
    read.is_ok()
}

/// Proves it, and reads what was proved: the peer may have changed it since, so errors are fine.
fn prove_and_read(region: &Arc<Region>) {
    let _ = validate(region, Depth::Data);
    if let Ok(image) = Unvalidated::open(Arc::clone(region)).and_then(Unvalidated::validate) {
        let _ = exhaust_view(&View::base(Arc::new(image)));
    }
}

fn extract(image: &Arc<Image>, directory: &std::path::Path, round: u32) {
    let view = View::base(Arc::clone(image));
    let Ok(root) = view.inode(ROOT_INO) else { return };
    let progress = Progress::default();
    let _ = to_tar(&view, &root, &mut std::io::sink(), "archive".as_ref(), &progress);
    let to = directory.join(round.to_string());
    let _ = to_directory(&view, &root, &to, ExtractOptions::default(), &progress);
    if to.exists() {
        fs::remove_dir_all(to).expect("what was extracted is below the directory, and removable");
    }
}

/// Runs every kind of reader against a peer.
fn endure(name: &str, image: &[u8]) {
    let Guarded { region, peer } = guarded(image);
    let held = Arc::new(Unvalidated::open(Arc::clone(&region)).expect("sound").trust());
    let scratch = scratch();
    let stop = AtomicBool::new(false);
    let rounds = |rounds: u32, work: &dyn Fn(u32)| (0..rounds).for_each(work);
    let (whole, spoilt) = (AtomicU64::new(0), AtomicU64::new(0));
    let met = || [&whole, &spoilt].iter().all(|seen| seen.load(Ordering::Relaxed) > 0);
    let meet = || {
        for round in (0..ROUNDS_MAX).take_while(|&round| round < ROUNDS || !met()) {
            let came = if read_held(&held, round) { &whole } else { &spoilt };
            came.fetch_add(1, Ordering::Relaxed);
        }
    };
    let changes = std::thread::scope(|threads| {
        let peer = threads.spawn(|| harass(&peer, image, &stop));
        let readers = [
            threads.spawn(meet),
            threads.spawn(|| rounds(ROUNDS, &|_| prove_and_read(&region))),
            threads.spawn(|| rounds(ROUNDS, &|_| drop(exhaust_trusting(&region)))),
            threads.spawn(|| rounds(EXTRACTIONS, &|round| extract(&held, scratch.path(), round))),
        ];
        // All are waited for before any failure is passed on, so that the peer is told to stop.
        let ended = readers.map(std::thread::ScopedJoinHandle::join);
        stop.store(true, Ordering::Relaxed);
        for reader in ended {
            reader.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        peer.join().expect("the peer only stores")
    });
    let outside = fs::read_dir(scratch.path()).expect("a directory").count();
    assert_eq!(outside, 0, "extraction left something behind");
    println!("{name}: {changes} changes, {spoilt:?} rounds spoilt and {whole:?} read to the end");
    assert!(changes > 0 && met(), "peer and readers never met");
}

#[test]
fn readers_endure_a_hostile_peer() {
    let ours = sample(Shape::default());
    let branches = Shape { branches: true, delta_size: Some(288 << 10), size: None };
    endure("without checksums", &without_checksums(&ours));
    endure("with checksums", &ours);
    endure("with branches", &sample(branches));
    endure("static.daxfs", &vector("static.daxfs"));
    endure("delta.daxfs", &vector("delta.daxfs"));
}
