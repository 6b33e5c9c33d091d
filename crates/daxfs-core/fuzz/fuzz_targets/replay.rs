// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The input is the log of a branch over a sound base image. Replaying it fails, or gives a tree
//! that can be walked and read to its end; and what the proof accepts replays.
#![no_main]

use std::sync::{Arc, LazyLock};

use daxfs_core::image::Unvalidated;
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;
use daxfs_fuzz::Branching;
use libfuzzer_sys::fuzz_target;

static IMAGE: LazyLock<Branching> = LazyLock::new(Branching::new);

fuzz_target!(|log: &[u8]| {
    let region = daxfs_fuzz::region(&IMAGE.with_log(log));
    let report = validate(&region, Depth::Metadata).expect("the superblock is sound");
    let image = Unvalidated::open(Arc::clone(&region)).expect("the superblock is sound").trust();
    let view = View::open(Arc::new(image), Branching::NAME);
    assert!(report.findings.errors() > 0 || view.is_ok(), "accepted, but {:?}", view.err());
    if let Ok(view) = view {
        daxfs_fuzz::exhaust_view(&view).expect("what replays is a tree");
    }
});
