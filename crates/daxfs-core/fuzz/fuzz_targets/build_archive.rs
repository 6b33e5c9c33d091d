// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes, taken as a tar archive, are refused or give a plan; a plan of moderate size gives
//! an image that is sound, can be read to its end, and is as large as was planned.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use daxfs_core::build::{BuildOptions, Input, Output, build, plan};
use daxfs_core::progress::Progress;
use libfuzzer_sys::fuzz_target;

/// Largest image that is made, in bytes.
const MODERATE: u64 = 4 << 20;

static SCRATCH: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a temporary directory"));

fuzz_target!(|bytes: &[u8]| {
    let path = |name: &str| -> PathBuf { SCRATCH.path().join(name) };
    fs::write(path("tar"), bytes).expect("write");
    let (input, output) = (Input::Archive(Some(path("tar"))), Output::File(path("image")));
    let mut options = BuildOptions::new(input, output);
    options.skip_errors = true;
    options.force = true;
    let progress = Progress::default();
    let Ok(planned) = plan(&options, &progress) else { return };
    if planned.total_size > MODERATE {
        return;
    }
    let built = build(&options, &progress).expect("what can be planned can be built");
    assert_eq!(built.total_size, planned.total_size);
    let image = fs::read(path("image")).expect("the image");
    daxfs_fuzz::exhaust_sound(&daxfs_fuzz::region(&image)).expect("what is built is sound");
});
