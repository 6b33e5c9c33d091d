// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the proof accepts can be walked and read to its end, base and branches, without an error.
//! What it refuses is read in good faith all the same: errors are fine, panics and walks longer
//! than the image has room for are bugs.
#![no_main]

use daxfs_core::validate::{Depth, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let region = daxfs_fuzz::region(bytes);
    let report = validate(&region, Depth::Metadata);
    let sound = report.is_ok_and(|report| report.findings.errors() == 0);
    let read = daxfs_fuzz::exhaust_trusting(&region);
    assert!(!sound || read.is_ok(), "accepted, but not readable: {:?}", read.err());
});
