// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The buffer protocol, both ways: an image's bytes without a copy, and a caller's buffer to fill.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::Arc;

use daxfs_core::region::DataView;
use daxfs_core::view::View;
use daxfs_core::write::Mapping;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

/// Bytes of an image, in place; the mapping lives as long as anyone looks at it.
#[pyclass(frozen, module = "daxfs._daxfs")]
pub(crate) struct Buffer(Content);

enum Content {
    /// Read-only; a view keeps the blocks of a branch from being used for anything else.
    Shown(DataView, #[expect(dead_code, reason = "it works by being held")] Option<Arc<View>>),
    /// Also to be written to.
    Mapped(Mapping),
    /// No bytes, and so in no place.
    Empty,
}

impl Buffer {
    /// Bytes that are what they are as long as `guard` lives.
    pub(crate) fn shown(data: DataView, guard: Option<Arc<View>>) -> Self {
        Self(Content::Shown(data, guard))
    }

    /// Bytes of a branch, to be written to; without a mapping none.
    pub(crate) fn mapped(mapping: Option<Mapping>) -> Self {
        Self(mapping.map_or(Content::Empty, Content::Mapped))
    }

    /// First byte and number of bytes.
    fn parts(&self) -> (*const u8, usize) {
        match &self.0 {
            Content::Shown(data, _) => (data.as_ptr(), data.len()),
            Content::Mapped(mapping) => (mapping.data().as_ptr(), mapping.data().len()),
            Content::Empty => (std::ptr::NonNull::dangling().as_ptr(), 0),
        }
    }
}

#[pymethods]
impl Buffer {
    fn __len__(&self) -> usize {
        self.parts().1
    }

    /// # Safety
    ///
    /// Called by the interpreter, with a `view` to fill in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (start, len) = slf.get().parts();
        let readonly = matches!(slf.get().0, Content::Shown(..));
        let len = isize::try_from(len)
            .map_err(|_| PyBufferError::new_err("the file does not fit this address space"))?;
        // SAFETY: the bytes are mapped while `slf` lives, and the filled view holds a reference
        // to it. Read-only, a request for a writable view is refused by the interpreter; a mapping
        // is of blocks that this branch may store to as long as the mapping lives.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                start.cast_mut().cast(),
                len,
                readonly.into(),
                flags,
            )
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// Lends a caller's writable buffer to `fill` as bytes, the interpreter's lock released.
pub(crate) fn fill<T: Send>(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    fill: impl FnOnce(&mut [u8]) -> T + Send,
) -> PyResult<T> {
    let buffer = PyUntypedBuffer::get(&byte_view(target)?)?;
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(PyTypeError::new_err("a writable, contiguous buffer is needed"));
    }
    let (start, len) = (Pointer(buffer.buf_ptr().cast()), buffer.len_bytes());
    let result = py.detach(move || {
        let Pointer(start) = { start };
        if len == 0 {
            return fill(&mut []);
        }
        // SAFETY: the exporter keeps the bytes where they are while `buffer` holds its export,
        // beyond this call. As with every `readinto`, the caller answers for other threads that
        // use the buffer meanwhile.
        fill(unsafe { std::slice::from_raw_parts_mut(start, len) })
    });
    drop(buffer);
    Ok(result)
}

/// Lends the bytes of a caller's buffer to `take`, the interpreter's lock released.
pub(crate) fn lend<T: Send>(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    take: impl FnOnce(&[u8]) -> T + Send,
) -> PyResult<T> {
    let buffer = PyUntypedBuffer::get(&byte_view(source)?)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("a contiguous buffer is needed"));
    }
    let (start, len) = (Pointer(buffer.buf_ptr().cast()), buffer.len_bytes());
    let result = py.detach(move || {
        let Pointer(start) = { start };
        if len == 0 {
            return take(&[]);
        }
        // SAFETY: the exporter keeps the bytes where they are while `buffer` holds its export,
        // beyond this call. As with every `write`, the caller answers for other threads that
        // change the buffer meanwhile.
        take(unsafe { std::slice::from_raw_parts(start, len) })
    });
    drop(buffer);
    Ok(result)
}

/// Start of an exported buffer, to be used by the thread that holds the export.
struct Pointer(*mut u8);

// SAFETY: `Python::detach` runs its closure on the same thread; nothing is really sent.
unsafe impl Send for Pointer {}

/// What a caller's buffer holds, as bytes, whatever its items are; what is empty cannot be cast.
fn byte_view<'py>(target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let view = pyo3::types::PyMemoryView::from(target)?.into_any();
    let are_bytes = view.getattr("format")?.extract::<&str>()? == "B";
    if are_bytes || view.getattr("nbytes")?.extract::<usize>()? == 0 {
        return Ok(view);
    }
    view.call_method1("cast", ("B",))
}
