// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in a file data are, and where only holes.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};

/// Most runs of data that are told apart in one file; from the last on all is data.
pub(crate) const RUNS_MAX: usize = 1 << 16;

/// The runs of data in a range of a file: all of it where the file system cannot say, and where no
/// byte of the file is missing, as finding a hole costs time for every page before it.
///
/// Moves the position of the descriptor.
pub(crate) fn data_runs(file: BorrowedFd<'_>, range: Range<u64>) -> Result<Vec<Range<u64>>> {
    let stat = rustix::fs::fstat(file)?;
    if stat.st_blocks.cast_unsigned() * 512 >= stat.st_size.cast_unsigned() {
        return Ok(vec![range]);
    }
    let seek = |from| rustix::fs::seek(file, from);
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end {
        if runs.len() == RUNS_MAX {
            runs.push(at..range.end);
            break;
        }
        let data = match seek(SeekFrom::Data(at)) {
            Ok(data) if data < range.end => data,
            // Nothing but holes up to the end.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return Ok(vec![range]),
        };
        let hole = seek(SeekFrom::Hole(data)).map_or(range.end, |hole| hole.min(range.end));
        runs.push(data..hole);
        at = hole;
    }
    Ok(runs)
}
