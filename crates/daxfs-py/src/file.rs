// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An open file: the engine below `daxfs.ImageFile`.

use std::sync::Arc;

use daxfs_core::Error;
use daxfs_core::base::Inode;
use daxfs_core::branch::handle::Branch;
use daxfs_core::view::View;
use daxfs_core::write::{Kept, SetAttr};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer;
use crate::error::{Failure, Result};
use crate::stat::Stat;

/// A regular file, open for reading at any offset, and in a branch for writing.
#[pyclass(frozen, module = "daxfs._daxfs")]
pub(crate) struct File(Content);

enum Content {
    /// A file as it was when it was opened.
    Fixed(Arc<View>, Inode),
    /// A file of a branch as it is at each moment, its names gone or not.
    Live(Branch, u64, #[expect(dead_code, reason = "it works by being held")] Kept),
}

impl File {
    /// Opens a file of a tree that stays as it is.
    pub(crate) fn fixed(view: Arc<View>, inode: Inode) -> Self {
        Self(Content::Fixed(view, inode))
    }

    /// Opens a file of a branch.
    pub(crate) fn live(branch: Branch, ino: u64) -> Self {
        let kept = branch.keep(ino);
        Self(Content::Live(branch, ino, kept))
    }

    fn now(&self) -> Result<(Arc<View>, Inode)> {
        match &self.0 {
            Content::Fixed(view, inode) => Ok((Arc::clone(view), *inode)),
            Content::Live(branch, ino, _) => {
                let view = branch.view()?;
                let inode = view.remaining_inode(*ino)?;
                Ok((Arc::new(view), inode))
            }
        }
    }

    fn live_parts(&self) -> Result<(&Branch, u64)> {
        match &self.0 {
            Content::Live(branch, ino, _) => Ok((branch, *ino)),
            Content::Fixed(..) => {
                let what = "writing to an image that was opened for reading; open a branch".into();
                Err(Error::Unsupported { what }.into())
            }
        }
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
    fn size(&self) -> Result<u64> {
        Ok(self.now()?.1.size)
    }

    /// Attributes; in an image that is only read, as they were when the file was opened.
    fn stat(&self) -> Result<Stat> {
        Ok(self.now()?.1.into())
    }

    /// Up to `length` bytes from `offset` on.
    #[pyo3(signature = (offset, length, /))]
    fn read<'py>(&self, py: Python<'py>, offset: u64, length: u64) -> Result<Bound<'py, PyBytes>> {
        let (view, inode) = self.now()?;
        let length = length.min(inode.size.saturating_sub(offset));
        copy_bytes(py, &view, &inode, offset, length)
    }

    /// Fills `buffer` from `offset` on; returns how many bytes there were.
    #[pyo3(signature = (buffer, offset, /))]
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, offset: u64) -> Result<usize> {
        let (view, inode) = self.now()?;
        let read = |bytes: &mut [u8]| view.read(&inode, offset, bytes);
        Ok(buffer::fill(py, buffer, read)??)
    }

    /// Writes a buffer at an offset; returns its bytes.
    #[pyo3(signature = (buffer, offset, /))]
    fn write(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, offset: u64) -> Result<usize> {
        let (branch, ino) = self.live_parts()?;
        let write = |bytes: &[u8]| branch.write(ino, offset, bytes).map(|()| bytes.len());
        Ok(buffer::lend(py, buffer, write)??)
    }

    /// Writes a buffer at the end; returns the offset behind it.
    #[pyo3(signature = (buffer, /))]
    fn append(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> Result<u64> {
        let (branch, ino) = self.live_parts()?;
        let append = |bytes: &[u8]| branch.append(ino, bytes).map(|at| at + bytes.len() as u64);
        Ok(buffer::lend(py, buffer, append)??)
    }

    /// Cuts the file, or extends it by zeroes.
    #[pyo3(signature = (size, /))]
    fn truncate(&self, py: Python<'_>, size: u64) -> Result<()> {
        let (branch, ino) = self.live_parts()?;
        let attributes = SetAttr { size: Some(size), ..SetAttr::default() };
        py.detach(|| branch.set_attr(ino, &attributes))?;
        Ok(())
    }

    /// Makes what was written durable.
    fn sync(&self, py: Python<'_>) -> Result<()> {
        let (branch, _) = self.live_parts()?;
        Ok(py.detach(|| branch.sync())?)
    }
}
