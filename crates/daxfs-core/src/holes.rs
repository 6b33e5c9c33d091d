// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in a file data are, and where only holes; and what holes add to a checksum.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::LazyLock;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};

/// Most runs of data that are told apart in one file, however small the holes between them are.
const RUNS_MAX: usize = 1 << 16;
/// Holes that are told apart in any file.
const LARGE_HOLE: u64 = 1 << 20;

/// Adds a run behind others; what is more than [`RUNS_MAX`] of them goes on with the last one, and
/// what is between counts as data, unless much is.
pub(crate) fn push_run(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    let many = runs.len() >= RUNS_MAX;
    match runs.last_mut() {
        Some(last) if many && run.start - last.end < LARGE_HOLE => last.end = run.end,
        _ => runs.push(run),
    }
}

/// The first runs of data in a range of a file, `most` at most: all of it where the file system
/// cannot say, and where no byte of the file is missing, as finding a hole costs time for every page
/// before it.
///
/// Moves the position of the descriptor.
pub(crate) fn data_runs(
    file: BorrowedFd<'_>,
    range: Range<u64>,
    most: usize,
) -> Result<Vec<Range<u64>>> {
    let stat = rustix::fs::fstat(file)?;
    if stat.st_blocks.cast_unsigned() * 512 >= stat.st_size.cast_unsigned() {
        return Ok(vec![range]);
    }
    let seek = |from| rustix::fs::seek(file, from);
    let mut runs = Vec::new();
    let mut at = range.start;
    while at < range.end && runs.len() < most {
        let data = match seek(SeekFrom::Data(at)) {
            Ok(data) if data < range.end => data,
            // Nothing but holes up to the end.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return Ok(vec![range]),
        };
        let hole = seek(SeekFrom::Hole(data)).map_or(range.end, |hole| hole.min(range.end));
        push_run(&mut runs, data..hole);
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
    use super::{LARGE_HOLE, RUNS_MAX, push_run, sum_zeroes};

    #[test]
    fn of_many_runs_only_small_holes_become_data() {
        let mut runs = Vec::new();
        let starts = (0..RUNS_MAX as u64 + 100).map(|number| number * 8192);
        starts.for_each(|start| push_run(&mut runs, start..start + 4096));
        let end = runs.last().unwrap().end;
        assert_eq!((runs.len(), end), (RUNS_MAX, (RUNS_MAX as u64 + 99) * 8192 + 4096));
        let far = end + LARGE_HOLE..end + LARGE_HOLE + 1;
        push_run(&mut runs, far.clone());
        assert_eq!(runs[RUNS_MAX - 2..].iter().map(|run| run.end).max(), Some(far.end));
        assert_eq!(runs.last(), Some(&far));
    }

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
