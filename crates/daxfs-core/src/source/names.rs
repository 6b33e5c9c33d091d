// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The names in a directory.

use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::fs::RawDir;

/// Bytes of entries that the kernel is asked for at once.
const BUFFER: usize = 64 << 10;

/// Names in one piece of memory: an allocation for each would cost more than the sorting.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// One after the other, each with its NUL.
    bytes: Vec<u8>,
    /// Where each lies, without its NUL.
    spans: Vec<Range<usize>>,
}

impl Names {
    /// Reads a directory's names, all but `.` and `..`, and puts them in byte order.
    pub(crate) fn of(directory: &OwnedFd) -> rustix::io::Result<Self> {
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        let mut names = Self::default();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let start = names.bytes.len();
                names.bytes.extend_from_slice(name.to_bytes_with_nul());
                names.spans.push(start..names.bytes.len() - 1);
            }
        }
        let bytes = &names.bytes;
        names.spans.sort_unstable_by(|a, b| bytes[a.clone()].cmp(&bytes[b.clone()]));
        Ok(names)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Where the names lie, in order.
    pub(super) fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    /// The bytes of the name that lies there.
    pub(super) fn bytes(&self, span: &Range<usize>) -> &[u8] {
        &self.bytes[span.clone()]
    }

    /// The name that lies there, as system calls want it.
    pub(super) fn at(&self, span: &Range<usize>) -> &CStr {
        CStr::from_bytes_with_nul(&self.bytes[span.start..=span.end]).expect("stored with its NUL")
    }
}
