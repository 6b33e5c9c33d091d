// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The input lies in the blocks of main's log in an image of ours, and may lead from one segment
//! to the next. Replaying it fails, or gives a tree that can be walked and read to its end; what
//! the proof accepts replays, and what a fold would write of it shows the same tree.
#![no_main]

use std::sync::{Arc, LazyLock};

use daxfs_core::image::Unvalidated;
use daxfs_core::validate::{Depth, validate};
use daxfs_core::view::View;
use daxfs_fuzz::Segments;
use libfuzzer_sys::fuzz_target;

static IMAGE: LazyLock<Segments> = LazyLock::new(Segments::new);

fuzz_target!(|input: &[u8]| {
    let region = daxfs_fuzz::region(&IMAGE.with_log(input));
    let report = validate(&region, Depth::Metadata).expect("the superblock is sound");
    let image = Unvalidated::open(Arc::clone(&region)).expect("the superblock is sound").trust();
    let view = View::open(Arc::new(image), "main");
    let sound = report.findings.errors() == 0;
    assert!(!sound || view.is_ok(), "accepted, but {:?}", view.err());
    let Ok(view) = view else { return };
    daxfs_fuzz::exhaust_view(&view).expect("what replays is a tree");
    if sound {
        daxfs_fuzz::fold(&view, "main");
    }
});
