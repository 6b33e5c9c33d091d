// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An open file: the engine below `daxfs.ImageFile`.

use std::sync::Arc;

use daxfs_core::Error;
use daxfs_core::base::Inode;
use daxfs_core::view::View;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer;
use crate::error::{Failure, Result};
use crate::stat::Stat;

/// A regular file of an image, open for reading at any offset.
#[pyclass(frozen, module = "daxfs._daxfs")]
pub(crate) struct File {
    view: Arc<View>,
    inode: Inode,
}

impl File {
    /// Opens a file.
    pub(crate) fn new(view: Arc<View>, inode: Inode) -> Self {
        Self { view, inode }
    }
}

/// Copies below this take less time than giving up the interpreter's lock and getting it back.
const COPY_DETACHED: u64 = 64 << 10;

/// `length` bytes of a file, which must have them.
pub(crate) fn copy_bytes<'py>(
    py: Python<'py>,
    view: &View,
    inode: &Inode,
    offset: u64,
    length: u64,
) -> Result<Bound<'py, PyBytes>> {
    let size = usize::try_from(length)
        .map_err(|_| Error::invalid("the file does not fit this address space"))?;
    // Filled before anybody else can see it.
    Ok(PyBytes::new_with(py, size, |bytes| {
        let mut read = || view.read(inode, offset, bytes);
        let result = if length < COPY_DETACHED { read() } else { py.detach(read) };
        Ok(result.map(drop).map_err(Failure::from)?)
    })?)
}

#[pymethods]
impl File {
    /// Size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.inode.size
    }

    /// Attributes as they were when the file was opened.
    fn stat(&self) -> Stat {
        self.inode.into()
    }

    /// Up to `length` bytes from `offset` on.
    #[pyo3(signature = (offset, length, /))]
    fn read<'py>(&self, py: Python<'py>, offset: u64, length: u64) -> Result<Bound<'py, PyBytes>> {
        let length = length.min(self.inode.size.saturating_sub(offset));
        copy_bytes(py, &self.view, &self.inode, offset, length)
    }

    /// Fills `buffer` from `offset` on; returns how many bytes there were.
    #[pyo3(signature = (buffer, offset, /))]
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, offset: u64) -> Result<usize> {
        let read = |bytes: &mut [u8]| self.view.read(&self.inode, offset, bytes);
        Ok(buffer::fill(py, buffer, read)??)
    }
}
