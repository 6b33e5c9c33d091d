// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the fuzz targets share: readers of everything, and what to begin with.

use std::ops::Range;
use std::sync::Arc;

use daxfs_core::branch::Table;
use daxfs_core::extract::to_tar;
use daxfs_core::format::{BranchRecord, ROOT_INO};
use daxfs_core::image::Unvalidated;
use daxfs_core::layout::Shape;
use daxfs_core::progress::Progress;
use daxfs_core::region::Region;
use daxfs_core::view::View;
use zerocopy::FromBytes;

#[path = "../../tests/support/exhaust.rs"]
mod exhaust;
#[path = "../../tests/support/sample.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod sample;

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
    to_tar(&view, &root, &mut archive, &Progress::default()).expect("an archive");
    archive
}
