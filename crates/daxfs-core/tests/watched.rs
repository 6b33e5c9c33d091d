// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: whoever watches a proof knows how far it has come, and can stop it.

use std::fs;
use std::sync::Arc;

use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::error::Error;
use daxfs_core::image::Unvalidated;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::validate::{Depth, validate_watched};
use tempfile::TempDir;

#[test]
fn a_proof_tells_how_far_it_is_and_can_be_stopped() {
    let scratch = TempDir::new().unwrap();
    let (tree, image) = (scratch.path().join("tree"), scratch.path().join("image"));
    fs::create_dir(&tree).unwrap();
    // More than one piece of the work that checksums are.
    fs::write(tree.join("large"), vec![7; 9 << 20]).unwrap();
    fs::write(tree.join("small"), "seven").unwrap();
    let input = Input::Directory(tree);
    let options = BuildOptions {
        data_checksums: true,
        ..BuildOptions::new(input, Output::File(image.clone()))
    };
    build(&options, &Progress::default()).unwrap();
    let region = Arc::new(Region::open(&Source::Path(image), Access::Read).unwrap());

    for (depth, whole) in [(Depth::Metadata, (3, 0)), (Depth::Data, (2, (9 << 20) + 5))] {
        let progress = Progress::default();
        let report = validate_watched(&region, depth, &progress).unwrap();
        assert_eq!(report.findings.errors(), 0);
        assert_eq!((progress.done(), progress.total()), (whole, whole));

        let stopped = Progress::default();
        stopped.cancel();
        let error = validate_watched(&region, depth, &stopped).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
    }
    let stopped = Progress::default();
    stopped.cancel();
    let opened = Unvalidated::open(region).unwrap().validate_watched(&stopped);
    assert!(matches!(opened, Err(Error::Interrupted)));
}
