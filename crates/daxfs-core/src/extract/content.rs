// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contents of a regular file, with holes where the image has blocks of zeroes.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::SeekFrom;

use crate::base::Inode;
use crate::error::{Error, Result};
use crate::format::BLOCK_SIZE;
use crate::progress::Progress;
use crate::region::Region;
use crate::view::{Extent, View};

/// Most bytes written at once, so that progress shows and work can be stopped.
const RUN_MAX: u64 = 8 << 20;
/// Bytes of a block that mostly tell whether it is zero.
const PROBE: usize = 64;

/// Writes a file's contents to a new, empty file.
pub(super) fn copy(
    view: &View,
    inode: &Inode,
    file: BorrowedFd<'_>,
    path: &Path,
    progress: &Progress,
) -> Result<()> {
    let region = view.image().region();
    let mut written = 0;
    for extent in view.data_extents(inode)? {
        let mut at = 0;
        while at < extent.len {
            progress.check()?;
            let (skip, run) = next_run(region, &extent, at)?;
            if run > 0 {
                let to = extent.file_offset + at + skip;
                if to != written {
                    rustix::fs::seek(file, SeekFrom::Start(to))
                        .map_err(Error::io("write", path))?;
                }
                send(region, extent.image_offset + at + skip, run, file)
                    .map_err(Error::io("write", path))?;
                written = to + run;
                progress.advance(0, run);
            }
            at += skip + run;
        }
    }
    view.expect_kept()?;
    if written < inode.size {
        rustix::fs::ftruncate(file, inode.size).map_err(Error::io("extend", path))?;
    }
    Ok(())
}

/// Bytes of zero blocks from `at` on, and of the blocks after them that are not.
fn next_run(region: &Region, extent: &Extent, at: u64) -> Result<(u64, u64)> {
    let (mut skip, mut run) = (0, 0);
    while at + skip + run < extent.len && skip + run < RUN_MAX {
        let here = at + skip + run;
        // A file's blocks, wherever they lie in the image, make its holes.
        let to_boundary = BLOCK_SIZE - (extent.file_offset + here) % BLOCK_SIZE;
        let step = to_boundary.min(extent.len - here);
        match (is_zero(region, extent.image_offset + here, step as usize)?, run) {
            (true, 0) => skip += step,
            (true, _) => break,
            (false, _) => run += step,
        }
    }
    Ok((skip, run))
}

fn is_zero(region: &Region, at: u64, len: usize) -> Result<bool> {
    let mut block = [0; BLOCK_SIZE as usize];
    for range in [0..len.min(PROBE), len.min(PROBE)..len] {
        let part = &mut block[range.clone()];
        region.read_into(at + range.start as u64, part)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn send(region: &Region, mut at: u64, mut len: u64, file: BorrowedFd<'_>) -> io::Result<()> {
    while len > 0 {
        match region.send(at, len, file) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => {
                at += sent;
                len -= sent;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
