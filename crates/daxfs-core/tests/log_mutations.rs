// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: whatever bytes a log, a branch table or a superblock hold, nothing panics, and what
//! the proof passes can be walked and read to the end.

mod common;

use common::{base_view, findings, open, read_everything, vector};
use daxfs_core::view::View;
use proptest::prelude::*;

/// Superblock, branch table, b1's log.
const RANGES: [std::ops::Range<usize>; 3] = [0..96, 4096..4096 + 256, 184_320..184_320 + 7472];

fn mutations() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let [superblock, table, log] = RANGES;
    let headers = 184_320..184_320 + 1310usize;
    let place = prop_oneof![1 => superblock, 2 => table, 4 => headers, 2 => log];
    // Small values and single bits come close to what is sound.
    let value = prop_oneof![any::<u8>(), 0..32u8, Just(0xff)];
    prop::collection::vec((place, value), 1..6)
}

fn check(bytes: &[u8]) {
    let findings = findings(bytes);
    let Ok(image) = open(bytes) else { return };
    let clean = findings.unwrap().errors() == 0
        && base_view(bytes).is_ok_and(|base| read_everything(&base).is_ok());
    let branches = image.branches();
    let names = branches.iter().flatten().map(|branch| branch.name.clone());
    for name in names.chain(["main".into(), "b1".into()]) {
        let view = View::open(image.clone(), &name);
        if let Err(daxfs_core::Error::NoBranch { .. }) = view {
            continue;
        }
        let read = view.and_then(|view| read_everything(&view));
        assert!(!clean || read.is_ok(), "{name}: {read:?}");
    }
    assert!(!clean || branches.is_ok(), "{branches:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_proved_can_be_read(mutations in mutations()) {
        let mut bytes = vector("delta.daxfs");
        for (at, value) in mutations {
            bytes[at] = value;
        }
        check(&bytes);
    }

    #[test]
    fn a_log_of_noise_is_refused_or_read(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let log = common::Log { bytes: noise, starts: Vec::new() };
        check(&common::image(&[("main", 0, &log)]));
    }

    #[test]
    fn one_flipped_bit_is_refused_or_read(at in 0..7472usize, bit in 0..8u32) {
        let mut bytes = vector("delta.daxfs");
        bytes[184_320 + at] ^= 1 << bit;
        check(&bytes);
    }
}
