// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The names in a directory.

use std::ffi::CStr;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, RawDir};

/// Bytes of entries that the kernel is asked for at once.
const BUFFER: usize = 64 << 10;

/// Names in one piece of memory: an allocation for each would cost more than the sorting.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// One after the other, each with its NUL.
    bytes: Vec<u8>,
    entries: Vec<Name>,
}

/// One of the names.
#[derive(Debug, Clone)]
pub(super) struct Name {
    /// Where it lies, without its NUL.
    span: Range<usize>,
    /// What the directory says that it names; not every file system does.
    pub(super) kind: FileType,
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
                let span = start..names.bytes.len() - 1;
                names.entries.push(Name { span, kind: entry.file_type() });
            }
        }
        let bytes = &names.bytes;
        let of = |name: &Name| &bytes[name.span.clone()];
        names.entries.sort_unstable_by(|a, b| of(a).cmp(of(b)));
        Ok(names)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names, in order.
    pub(super) fn entries(&self) -> &[Name] {
        &self.entries
    }

    /// The bytes of a name.
    pub(super) fn bytes(&self, name: &Name) -> &[u8] {
        &self.bytes[name.span.clone()]
    }

    /// A name, as system calls want it.
    pub(super) fn text(&self, name: &Name) -> &CStr {
        let Range { start, end } = name.span;
        CStr::from_bytes_with_nul(&self.bytes[start..=end]).expect("stored with its NUL")
    }
}
