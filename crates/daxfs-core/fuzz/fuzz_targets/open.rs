// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Opening any bytes gives an image or an error, and what is then asked of the image in good
//! faith gives an answer or an error. Errors are fine, panics are bugs.
#![no_main]

use daxfs_core::image::Unvalidated;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = Unvalidated::open(daxfs_fuzz::region(bytes)).map(Unvalidated::trust) {
        let base = image.base();
        for ino in 0..64 {
            let _ = base.inode(ino).and_then(|inode| base.xattrs(&inode));
        }
        let _ = image.branches();
    }
});
