// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The input changes words of the branch table, the owner map, the opener table and the
//! superblock of an image of ours. The proof ends and says the same each time; where it finds
//! nothing wrong, every branch can be read to its end; and reading in good faith never panics.
#![no_main]

use std::sync::LazyLock;

use daxfs_core::validate::{Depth, validate};
use daxfs_fuzz::Words;
use libfuzzer_sys::fuzz_target;

static IMAGE: LazyLock<Words> = LazyLock::new(Words::new);

fuzz_target!(|input: &[u8]| {
    let region = daxfs_fuzz::region(&IMAGE.with_changes(input));
    let prove = || validate(&region, Depth::Metadata).expect("the superblock is sound").findings;
    let (first, second) = (prove(), prove());
    assert_eq!(first.list(), second.list(), "two proofs of the same bytes differ");
    if first.errors() == 0 {
        daxfs_fuzz::exhaust_sound(&region).expect("the proof found no error");
    }
    let _ = daxfs_fuzz::exhaust_trusting(&region);
});
