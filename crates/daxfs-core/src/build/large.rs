// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copying files of 2 MiB and more: in pieces, several at a time, without their holes.

use std::ops::Range;
use std::os::fd::AsFd;

use rayon::prelude::*;

use super::contents::{Copied, Copier, Failure, Here, Opened, cannot, check_size, open, shrank};
use super::gather::BUFFER;
use crate::base::Inode;
use crate::error::Result;
use crate::holes::{data_runs, push_run, sum_zeroes};
use crate::layout::is_huge;
use crate::source::NodeId;
use crate::view::View;

/// Bytes copied by one task.
const PIECE: u64 = 8 << 20;
/// Bytes moved by one read and one write.
const STEP: u64 = 1 << 20;

/// A piece of a file's data, in bytes of the file.
struct Piece {
    id: NodeId,
    range: Range<u64>,
}

impl Copier<'_> {
    /// Copies the large files; the result is in no particular order.
    pub(super) fn copy_large(&self) -> Result<Copied> {
        let mut copied = Copied::default();
        let mut files = Vec::new();
        let mut pieces = Vec::new();
        for (id, _) in (0..).zip(self.scan.tree.nodes()).filter(|(_, node)| is_huge(node)) {
            match self.examine(id) {
                Ok(runs) => {
                    files.push(id);
                    for run in runs {
                        let starts = run.clone().step_by(PIECE as usize);
                        let ranges = starts.map(|start| start..(start + PIECE).min(run.end));
                        pieces.extend(ranges.map(|range| Piece { id, range }));
                    }
                }
                Err(Failure::File(reason)) => copied.failed.push(self.problem(id, reason)),
                Err(Failure::Build(error)) => return Err(error),
            }
        }
        // One by one, so that nobody has the last few to himself.
        let sums: Vec<std::result::Result<u32, Failure>> =
            pieces.par_iter().with_max_len(1).map(|piece| self.copy_piece(piece)).collect();
        let mut results = pieces.iter().zip(sums).peekable();
        for id in files {
            let (mut sum, mut end) = (0, 0);
            let mut failure = None;
            while let Some((piece, result)) = results.next_if(|(piece, _)| piece.id == id) {
                match result {
                    Ok(next) => {
                        sum = sum_zeroes(sum, piece.range.start - end);
                        end = piece.range.end;
                        sum = crc32c::crc32c_combine(sum, next, (end - piece.range.start) as usize);
                    }
                    // Every piece of a file that vanished fails alike: say it once.
                    Err(Failure::File(reason)) => failure = failure.or(Some(reason)),
                    Err(Failure::Build(error)) => return Err(error),
                }
            }
            if let Some(reason) = failure {
                copied.failed.push(self.problem(id, reason));
            } else if self.checksums {
                sum = sum_zeroes(sum, self.scan.tree.node(id).size - end);
                copied.sums.push((id, sum));
            }
            self.progress.advance(1, 0);
        }
        Ok(copied)
    }

    /// Where a file's data are.
    fn examine(&self, id: NodeId) -> std::result::Result<Vec<Range<u64>>, Failure> {
        let size = self.scan.tree.node(id).size;
        let opened = open(self.scan, id, &mut Here::default())?;
        let runs = runs(&opened, size)?;
        if let Opened::File(file) = &opened {
            check_size(file, size)?;
        }
        Ok(runs)
    }

    fn copy_piece(&self, piece: &Piece) -> std::result::Result<u32, Failure> {
        self.progress.check()?;
        let Piece { id, ref range } = *piece;
        let size = self.scan.tree.node(id).size;
        let opened = open(self.scan, id, &mut Here::default())?;
        let target = self.placement.base_offset + self.placement.data[id as usize];
        let mut sum = 0;
        BUFFER.with_borrow_mut(|buffer| {
            buffer.reach(STEP as usize);
            let mut at = range.start;
            while at < range.end {
                let step = (range.end - at).min(STEP) as usize;
                let len = opened.read(at, &mut buffer[..step])?;
                if len == 0 {
                    return Err(shrank(at, size));
                }
                self.sink.write(target + at, &buffer[..len])?;
                if self.checksums {
                    sum = crc32c::crc32c_append(sum, &buffer[..len]);
                }
                at += len as u64;
                self.progress.advance(0, len as u64);
            }
            Ok(sum)
        })
    }
}

/// Where a file's data are.
fn runs(opened: &Opened<'_>, size: u64) -> std::result::Result<Vec<Range<u64>>, Failure> {
    let (fd, start) = match opened {
        Opened::Image(view, inode) => return Ok(image_runs(view, inode)?),
        Opened::File(fd) => (fd.as_fd(), 0),
        Opened::Part(fd, start) => (*fd, *start),
    };
    // The position that this moves may be shared, and nobody uses it: reads say theirs.
    let runs =
        data_runs(fd, start..start + size, usize::MAX).map_err(|errno| cannot("examine", errno))?;
    Ok(runs.into_iter().map(|run| run.start - start..run.end - start).collect())
}

fn image_runs(view: &View, inode: &Inode) -> Result<Vec<Range<u64>>> {
    let mut runs = Vec::new();
    for extent in view.data_extents(inode)? {
        push_run(&mut runs, extent.file_offset..extent.file_offset + extent.len);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::build::Output;
    use crate::build::sink::Sink;
    use crate::layout::Placement;
    use crate::progress::Progress;
    use crate::source::{Selection, scan_directory};

    #[test]
    fn what_a_sparse_file_has_lost_is_no_hole() {
        let (tree, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = File::create(tree.path().join("sparse")).unwrap();
        file.write_all_at(b"data", (8 << 20) - 4).unwrap();
        let progress = Progress::default();
        let scan = scan_directory(tree.path(), &Selection::default(), &progress).unwrap();
        let placement = Placement::new(&scan.tree, 4096).unwrap();
        let sink = Sink::open(&Output::File(out.path().join("image")), 0, false).unwrap();
        let end = placement.base_offset + placement.data_end;
        sink.begin(end, end).unwrap();
        let copier = Copier {
            scan: &scan,
            placement: &placement,
            sink: &sink,
            progress: &progress,
            stored: &[],
            checksums: false,
        };
        assert!(copier.copy_large().unwrap().failed.is_empty());
        file.set_len(4 << 20).unwrap();
        let [(_, problem)] = &copier.copy_large().unwrap().failed[..] else {
            panic!("taken as 8 MiB")
        };
        assert!(problem.reason.starts_with("shrank from 8388608 to 4194304"), "{problem:?}");
    }
}
