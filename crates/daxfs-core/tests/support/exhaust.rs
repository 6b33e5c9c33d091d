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
pub struct Exhausted {
    /// Names met, the root's included.
    pub names: u64,
    /// Bytes of files and symlinks.
    pub bytes: u64,
}

/// Walks the base tree and every branch of an image and reads all that it meets, up to the first
/// error.
///
/// # Panics
///
/// If that takes more steps than the image has bytes for.
pub fn exhaust(image: Image) -> Result<Exhausted> {
    let image = Arc::new(image);
    let mut done = exhaust_view(&View::base(Arc::clone(&image)))?;
    for branch in image.branches()? {
        let more = exhaust_view(&View::open(Arc::clone(&image), &branch.name)?)?;
        done.names += more.names;
        done.bytes += more.bytes;
    }
    Ok(done)
}

/// Walks one tree and reads all that it meets, up to the first error.
///
/// # Panics
///
/// If that takes more steps than the image has bytes for.
pub fn exhaust_view(view: &View) -> Result<Exhausted> {
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
            look_up_ends(view, &inode)?;
        }
        view.resolve(&path, Links::Keep)?;
        // What unsound files share is read once: they could name all bytes many times.
        for extent in view.extents(&inode)?.into_iter().filter(|_| inode.is_file()) {
            if read.insert(extent.image_offset) {
                done.bytes += read_range(view, &inode, extent.file_offset, extent.len)?;
            }
        }
        // Holes are read at their ends only: they may be as long as numbers go.
        read_range(view, &inode, inode.size.saturating_sub(PIECE as u64), PIECE as u64)?;
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

/// Reads `len` bytes of a file from `start` on, or as many as there are.
fn read_range(view: &View, file: &Inode, start: u64, len: u64) -> Result<u64> {
    let mut buffer = [0; PIECE];
    let mut done = 0;
    while done < len {
        let step = (len - done).min(PIECE as u64) as usize;
        match view.read(file, start + done, &mut buffer[..step])? as u64 {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// Opens a region in good faith and reads everything; errors are fine, panics are not.
pub fn exhaust_trusting(region: &Arc<Region>) -> Result<Exhausted> {
    exhaust(Unvalidated::open(Arc::clone(region))?.trust())
}

/// Proves a region and, where it is sound, reads everything.
///
/// # Panics
///
/// If what was found sound cannot be read.
pub fn exhaust_sound(region: &Arc<Region>) -> Result<Exhausted> {
    let image = Unvalidated::open(Arc::clone(region))?.validate()?;
    Ok(exhaust(image).expect("a sound image can be read to its end"))
}
