// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading everything that an image holds, within bounds that are counted.

use std::collections::HashSet;
use std::sync::Arc;

use daxfs_core::Result;
use daxfs_core::base::Inode;
use daxfs_core::format::ROOT_INO;
use daxfs_core::image::{Image, Unvalidated};
use daxfs_core::region::Region;
use daxfs_core::view::{Links, View};

/// Bytes read at a time.
const PIECE: usize = 1 << 16;

/// What reading everything came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// Names met, the root's included.
    pub(crate) names: u64,
    /// Bytes of files and symlinks.
    pub(crate) bytes: u64,
}

/// Walks the base tree of an image and reads all that it meets, up to the first error.
///
/// # Panics
///
/// If that takes more steps than the image has bytes for.
pub(crate) fn exhaust(image: Image) -> Result<Exhausted> {
    let view = View::base(Arc::new(image));
    let total = view.image().superblock().total_size.get();
    let mut done = Exhausted::default();
    let mut read = HashSet::new();
    for step in view.walk(view.inode(ROOT_INO)?) {
        let (path, inode) = step?;
        done.names += 1;
        assert!(done.names <= 1 + total / 48, "a walk of more names than {total} bytes can hold");
        view.xattrs(&inode)?;
        if inode.is_symlink() {
            done.bytes += view.readlink(&inode)?.len() as u64;
        }
        if inode.is_dir() {
            look_up_ends(&view, &inode)?;
        }
        view.resolve(&path, Links::Keep)?;
        // What unsound files share is read once: they could name all bytes many times.
        if inode.is_file() && read.insert(inode.data) {
            done.bytes += read_file(&view, &inode)?;
        }
    }
    Ok(done)
}

/// Finds the first and the last name of a directory again.
fn look_up_ends(view: &View, directory: &Inode) -> Result<()> {
    let entries = view.read_dir(directory)?;
    for entry in entries.first().into_iter().chain(entries.last()) {
        view.lookup(directory, &entry.name)?;
    }
    Ok(())
}

fn read_file(view: &View, file: &Inode) -> Result<u64> {
    let mut buffer = [0; PIECE];
    let mut offset = 0;
    loop {
        let len = view.read(file, offset, &mut buffer)? as u64;
        if len == 0 {
            return Ok(offset);
        }
        offset += len;
    }
}

/// Opens a region in good faith and reads everything; errors are fine, panics are not.
pub(crate) fn exhaust_trusting(region: &Arc<Region>) -> Result<Exhausted> {
    exhaust(Unvalidated::open(Arc::clone(region))?.trust())
}

/// Proves a region and, where it is sound, reads everything.
///
/// # Panics
///
/// If what was found sound cannot be read.
pub(crate) fn exhaust_sound(region: &Arc<Region>) -> Result<Exhausted> {
    let image = Unvalidated::open(Arc::clone(region))?.validate()?;
    Ok(exhaust(image).expect("a sound image can be read to its end"))
}
