// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the fuzz targets share: readers of everything, and what to begin with.

use std::ops::Range;
use std::sync::Arc;

use daxfs_core::branch::Table;
use daxfs_core::delta::{Entry, LogSpace};
use daxfs_core::extract::to_tar;
use daxfs_core::format::{BLOCK_SIZE, BranchRecord, MAIN_ID, OWNER_WORD, ROOT_INO};
use daxfs_core::image::Unvalidated;
use daxfs_core::index::Index;
use daxfs_core::layout::Shape;
use daxfs_core::merge::merge;
use daxfs_core::progress::Progress;
use daxfs_core::region::Region;
use daxfs_core::view::View;
use zerocopy::FromBytes;

#[path = "../../tests/support/describe.rs"]
mod describe;
#[path = "../../tests/support/exhaust.rs"]
mod exhaust;
#[path = "../../tests/support/ours.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod ours;
#[path = "../../tests/support/sample.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod sample;

use describe::describe;
pub use exhaust::{exhaust_sound, exhaust_trusting, exhaust_view};

/// A region that holds `bytes`.
pub fn region(bytes: &[u8]) -> Arc<Region> {
    Arc::new(Region::from_bytes(bytes).expect("memory"))
}

/// An image with a branch whose log can be set.
pub struct Branching {
    image: Vec<u8>,
    record: usize,
    log: Range<u64>,
    capacity: usize,
}

impl Branching {
    /// Name of the branch.
    pub const NAME: &str = "b1";

    /// The image that another v3 implementation made.
    #[expect(clippy::new_without_default, reason = "it reads a file")]
    pub fn new() -> Self {
        let image = sample::vector("delta.daxfs");
        let table = Table::read(&region(&image), &sample::superblock_of(&image)).expect("a table");
        let branch = table.find(Self::NAME).expect("sound").expect("a branch").clone();
        let capacity = (branch.log.segment_end - branch.log.at) as usize;
        let log = branch.log.at..branch.log.at + branch.log_size;
        Self { image, record: branch.at as usize, log, capacity }
    }

    /// The log as it was made.
    pub fn log(&self) -> &[u8] {
        &self.image[self.log.start as usize..self.log.end as usize]
    }

    /// The image with another log.
    pub fn with_log(&self, log: &[u8]) -> Vec<u8> {
        let log = &log[..log.len().min(self.capacity)];
        let mut image = self.image.clone();
        let start = self.log.start as usize;
        image[start..self.log.end as usize].fill(0);
        image[start..start + log.len()].copy_from_slice(log);
        let record = BranchRecord::mut_from_prefix(&mut image[self.record..]).expect("size").0;
        record.delta_log_size = (log.len() as u64).into();
        image
    }
}

/// An image of ours in which main's log can be set, over some blocks of data.
pub struct Segments(ours::Ours, u64);

impl Segments {
    /// Blocks that main owns: its log's, in segments of one block, and data.
    const BLOCKS: u64 = 6;

    /// Nothing is in the log yet.
    #[expect(clippy::new_without_default, reason = "it builds an image")]
    pub fn new() -> Self {
        let mut image = ours::Ours::new(64);
        let first = image.allocate(MAIN_ID, Self::BLOCKS).start;
        image.record(0, |record| {
            record.delta_log_offset.set(first);
            record.delta_log_capacity.set(BLOCK_SIZE);
        });
        image.words(|superblock| superblock.next_inode_id.set(1 << 40));
        Self(image, first)
    }

    /// The image with a log: the input's first two bytes are its size, the others its blocks.
    pub fn with_log(&self, input: &[u8]) -> Vec<u8> {
        let mut image = self.0.clone();
        let (size, log) = input.split_at(input.len().min(2));
        let size = u64::from(u16::from_le_bytes(size.try_into().unwrap_or_default()));
        let log = &log[..log.len().min((Self::BLOCKS * BLOCK_SIZE) as usize)];
        let start = self.1 as usize;
        image.bytes[start..start + log.len()].copy_from_slice(log);
        image.record(0, |record| record.delta_log_size.set(size));
        image.bytes
    }

    /// An input: every entry of ours, in the blocks of this image.
    pub fn every_entry(&self) -> Vec<u8> {
        let whole = ours::every_entry();
        let table = Table::read(&region(&whole.bytes), &whole.superblock).expect("sound");
        let main = table.find("main").expect("sound").expect("main");
        // The entries alone, as many as a segment holds: places are those of the other image.
        let log = &whole.bytes[main.log.at as usize..main.log.segment_end as usize];
        let size = main.log_size.min(log.len() as u64) as u16;
        [&size.to_le_bytes(), log].concat()
    }
}

/// An image of ours whose words around the branches can be changed.
pub struct Words {
    image: ours::Ours,
    areas: Vec<Range<u64>>,
}

impl Words {
    /// Main and a branch of it.
    #[expect(clippy::new_without_default, reason = "it builds an image")]
    pub fn new() -> Self {
        let image = ours::every_entry();
        let superblock = &image.superblock;
        let map = superblock.owner_map_offset.get();
        let openers = superblock.opener_table_offset.get();
        let areas = vec![
            1024..1224,
            image.record_at(0)..image.record_at(6),
            map..map + 80 * OWNER_WORD,
            openers..openers + 256,
        ];
        Self { image, areas }
    }

    /// The image after changes: each takes twelve bytes, the kind of place, whether checksums
    /// are made right, the place, and a word.
    pub fn with_changes(&self, input: &[u8]) -> Vec<u8> {
        let mut image = self.image.clone();
        let mut mend = false;
        for change in input.chunks_exact(12) {
            let area = &self.areas[usize::from(change[0]) % self.areas.len()];
            let words = (area.end - area.start) / 8;
            let word = u64::from(u16::from_le_bytes([change[2], change[3]])) % words;
            let at = (area.start + 8 * word) as usize;
            image.bytes[at..at + 8].copy_from_slice(&change[4..]);
            mend |= change[1] & 1 == 0;
        }
        for slot in (0..6).filter(|_| mend) {
            image.record(slot, |record| record.checksum = record.expected_checksum().into());
        }
        image.bytes
    }

    /// An input: a change that makes the branch main.
    pub fn commit() -> Vec<u8> {
        [&[0, 0, 0, 0][..], &2u64.to_le_bytes()].concat()
    }
}

/// Folds a tree and compares.
///
/// # Panics
///
/// If what the fold says does not replay, or shows another tree.
pub fn fold(view: &View, branch: &str) {
    let image = view.image();
    let table = Table::read(image.region(), image.superblock()).expect("sound");
    let record = table.find(branch).expect("sound").expect("a record");
    let (base, region, space) = (image.base(), image.region(), LogSpace::of(image.superblock()));
    let (mut index, mut again) = (Index::default(), Index::default());
    for layer in table.chain(record).expect("sound") {
        index.replay(base, region, &space, layer.log, layer.log_size).expect("it replayed");
    }
    for (ino, time, change) in merge(base, &index).expect("what replays can be folded") {
        again.apply(base, Entry { at: 0, ino, time, change }).expect("a fold replays");
    }
    let again = describe(&View::new(Arc::clone(image), again)).expect("a tree");
    assert_eq!(again, describe(view).expect("a tree"));
}

/// Inputs to begin with: target, name, bytes.
pub fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let ours = sample::sample(Shape::default());
    let shape = Shape { branches: true, delta_size: Some(288 << 10), size: None };
    let images = [
        ("plain", sample::without_checksums(&ours)),
        ("branches", sample::sample(shape)),
        ("static.daxfs", sample::vector("static.daxfs")),
        ("branching.daxfs", sample::vector("branching.daxfs")),
        ("delta.daxfs", sample::vector("delta.daxfs")),
    ];
    let mut seeds = vec![
        ("build_archive", "ours", archive_of(&ours)),
        ("build_archive", "static", archive_of(&sample::vector("static.daxfs"))),
        ("replay", "b1", Branching::new().log().to_vec()),
        ("replay_ours", "every_entry", Segments::new().every_entry()),
        ("branches", "commit", Words::commit()),
    ];
    for (name, image) in images {
        seeds.extend(["open", "validate", "read"].map(|target| (target, name, image.clone())));
    }
    seeds.extend(["open", "validate", "read"].map(|target| (target, "ours", ours.clone())));
    seeds
}

/// The tree of an image as a tar archive.
fn archive_of(image: &[u8]) -> Vec<u8> {
    let image = Unvalidated::open(region(image)).and_then(Unvalidated::validate).expect("sound");
    let view = View::base(Arc::new(image));
    let root = view.inode(ROOT_INO).expect("a root");
    let mut archive = Vec::new();
    to_tar(&view, &root, &mut archive, "archive".as_ref(), &Progress::default())
        .expect("an archive");
    archive
}
