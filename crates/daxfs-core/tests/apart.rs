// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects those who have an image open from others who have it open by another way and do not see
//! their locks: who lives is not taken for dead.

mod branching;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use daxfs_core::error::Error;
use daxfs_core::image::Unvalidated;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::session::Session;

fn open(path: &Path) -> Arc<Session> {
    let region = Region::open(&Source::Path(path.into()), Access::Write).expect("mapped");
    let image = Unvalidated::open(Arc::new(region)).expect("an image").trust();
    Session::open(Arc::new(image)).expect("registered")
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn an_overlay_shows_pages_and_not_locks() {
    // The lower and the upper directory of an overlay cannot lie on one themselves.
    let top = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let [lower, upper, work, merged] =
        ["lower", "upper", "work", "merged"].map(|name| top.path().join(name));
    for directory in [&lower, &upper, &work, &merged] {
        std::fs::create_dir(directory).expect("made");
    }
    let show = |path: &Path| path.display().to_string();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", show(&lower), show(&upper), show(&work));
    let mounted = Command::new("mount")
        .args(["-t", "overlay", "-o", &options, "none"])
        .arg(&merged)
        .output()
        .expect("mount(8)");
    if !mounted.status.success() {
        return eprintln!("skipped: {}", String::from_utf8_lossy(&mounted.stderr));
    }
    let _mounted = Mounted(&merged);
    std::fs::write(upper.join("image"), branching::image(1 << 20).0).expect("written");

    let [above, below] = [&merged, &upper].map(|directory| open(&directory.join("image")));
    for (one, other) in [(&above, &below), (&below, &above)] {
        let branch = one.create("b", "main").expect("a branch");
        let taken = other.open_branch("b", Access::Write);
        assert!(matches!(taken, Err(Error::Busy { .. })), "{taken:?}");
        branch.abort().expect("still held");
    }
}
