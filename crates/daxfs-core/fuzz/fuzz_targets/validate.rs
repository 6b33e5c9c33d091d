// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The proof of any bytes ends, says the same each time, and agrees with opening: it finds no
//! error if and only if the image can be opened as sound.
#![no_main]

use std::sync::Arc;

use daxfs_core::image::Unvalidated;
use daxfs_core::validate::{Depth, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let region = daxfs_fuzz::region(bytes);
    let prove = || {
        let findings = validate(&region, Depth::Metadata).ok()?.findings;
        assert_eq!(findings.first_error().is_some(), findings.errors() > 0);
        Some((findings.errors(), findings.warnings(), findings.list().to_vec()))
    };
    let first = prove();
    assert_eq!(first, prove(), "two proofs of the same bytes differ");
    let sound = first.is_some_and(|(errors, ..)| errors == 0);
    let opened = Unvalidated::open(Arc::clone(&region)).and_then(Unvalidated::validate);
    assert_eq!(sound, opened.is_ok(), "{:?}", opened.err());
});
