// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in a file data are, and where only holes; and what holes add to a checksum.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::LazyLock;

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

/// Goes on with a checksum over zeroes, in a time that hardly grows with them.
pub(crate) fn sum_zeroes(sum: u32, len: u64) -> u32 {
    /// The checksums of 1, 2, 4 zeroes, and so on.
    static POWERS: LazyLock<[u32; 64]> = LazyLock::new(|| {
        let mut powers = [crc32c::crc32c(&[0]); 64];
        for power in 1..powers.len() {
            let half = powers[power - 1];
            powers[power] = crc32c::crc32c_combine(half, half, 1 << (power - 1));
        }
        powers
    });
    let set = (0..64).filter(|power| len >> power & 1 != 0);
    set.fold(sum, |sum, power| crc32c::crc32c_combine(sum, POWERS[power], 1 << power))
}

#[cfg(test)]
mod tests {
    use super::sum_zeroes;

    #[test]
    fn zeroes_are_summed_as_if_they_were_there() {
        for len in [0, 1, 2, 3, 4095, 4096, 100_000] {
            let mut bytes = b"before".to_vec();
            let sum = crc32c::crc32c(&bytes);
            bytes.resize(bytes.len() + len, 0);
            assert_eq!(sum_zeroes(sum, len as u64), crc32c::crc32c(&bytes), "{len}");
        }
    }
}
