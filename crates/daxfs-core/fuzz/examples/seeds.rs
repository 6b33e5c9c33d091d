// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes what the fuzzer begins with: `seeds CORPUS` fills one directory for each target.

use std::fs;
use std::path::Path;

fn main() {
    let corpus = std::env::args_os().nth(1).expect("usage: seeds CORPUS");
    for (target, name, bytes) in daxfs_fuzz::seeds() {
        let directory = Path::new(&corpus).join(target);
        fs::create_dir_all(&directory).expect("make the corpus directory");
        fs::write(directory.join(name), bytes).expect("write a seed");
    }
}
