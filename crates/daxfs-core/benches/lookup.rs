// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long a path look-up of depth 4 takes in an image of 200,000 files.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::image::Unvalidated;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::view::{Links, View};

/// Names in each directory of the first three levels, and files in each of the last.
const WIDTHS: [usize; 4] = [10, 10, 10, 200];
const ROUNDS: usize = 5;

fn main() {
    let work = tempfile::tempdir_in("/dev/shm").expect("a place for the tree");
    let tree = work.path().join("tree");
    let mut paths = Vec::new();
    for number in 0..WIDTHS.iter().product::<usize>() {
        let [a, b, c] = [number / 20_000, number / 2_000 % 10, number / 200 % 10];
        let directory = format!("directory-{a}/below-{b}/and-{c}");
        if number % WIDTHS[3] == 0 {
            fs::create_dir_all(tree.join(&directory)).expect("a directory");
        }
        let path = format!("{directory}/file-{:06}.txt", number % WIDTHS[3]);
        fs::File::create(tree.join(&path)).expect("a file");
        paths.push(path.into_bytes());
    }
    let output = work.path().join("image.daxfs");
    let options = BuildOptions::new(Input::Directory(tree), Output::File(output.clone()));
    build(&options, &Progress::default()).expect("an image");
    let region = Region::open(&Source::Path(output), Access::Read).expect("the image");
    let image = Unvalidated::open(Arc::new(region)).expect("the image").trust();
    let view = View::base(Arc::new(image));
    // Neighbours in the image share cache lines: jump about there. The questions themselves lie one
    // after the other, since who asks for a path has it at hand.
    let order: Vec<Vec<u8>> =
        (0..paths.len()).map(|at| paths[at * 7919 % paths.len()].clone()).collect();
    for (question, paths) in
        [("every file, in no order", &order[..]), ("1,000 files", &order[..1000])]
    {
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for path in paths {
                black_box(view.resolve(path, Links::Follow).expect("a file"));
            }
            best = best.min(start.elapsed().as_secs_f64() / paths.len() as f64);
        }
        println!("look-up of depth 4, {question:26} {:6.0} ns", best * 1e9);
    }
}
