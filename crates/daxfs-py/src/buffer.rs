// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The buffer protocol, both ways: an image's bytes without a copy, and a caller's buffer to fill.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::sync::Arc;

use daxfs_core::region::DataView;
use daxfs_core::view::View;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Read-only bytes of an image, in place; the mapping lives as long as anyone looks at it.
#[pyclass(frozen, module = "daxfs._daxfs")]
pub(crate) struct Buffer {
    data: DataView,
    // Keeps the blocks of a branch from being used for anything else.
    _view: Arc<View>,
}

impl Buffer {
    /// Bytes that `view` shows.
    pub(crate) fn new(data: DataView, view: Arc<View>) -> Self {
        Self { data, _view: view }
    }
}

#[pymethods]
impl Buffer {
    fn __len__(&self) -> usize {
        self.data.len()
    }

    /// # Safety
    ///
    /// Called by the interpreter, with a `view` to fill in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let data = &slf.get().data;
        let len = isize::try_from(data.len())
            .map_err(|_| PyBufferError::new_err("the file does not fit this address space"))?;
        // SAFETY: the bytes are mapped while `slf` lives, and the filled view holds a reference
        // to it; read-only, so a request for a writable view is refused by the interpreter.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                data.as_ptr().cast_mut().cast(),
                len,
                1,
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
    // Whatever the items are, they are bytes to us.
    let buffer = PyBuffer::<u8>::get(&byte_view(target)?)?;
    if buffer.readonly() || !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("a writable, contiguous buffer is needed"));
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
    let buffer = PyBuffer::<u8>::get(&byte_view(source)?)?;
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

/// `memoryview(target).cast("B")`, for buffers whose items are not bytes.
fn byte_view<'py>(target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let view = pyo3::types::PyMemoryView::from(target)?.into_any();
    if view.getattr("format")?.extract::<&str>()? == "B" {
        return Ok(view);
    }
    view.call_method1("cast", ("B",))
}
