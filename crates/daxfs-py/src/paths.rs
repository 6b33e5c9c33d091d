// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths between Python and the engine.
//!
//! Names in an image are bytes. As text they are UTF-8, whatever the locale; bytes that are not
//! become lone surrogates (`surrogateescape`), so that every name survives the way there and back.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use daxfs_core::region::Source;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyInt, PyString};

use crate::error::Failure;

/// A path in an image, from `str`, `bytes` or `os.PathLike`.
pub(crate) struct ImagePath(pub(crate) Vec<u8>);

impl ImagePath {
    fn from_text_or_bytes(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(text) = object.cast::<PyString>() {
            return encode(text).map(|bytes| Some(Self(bytes)));
        }
        Ok(object.cast::<PyBytes>().ok().map(|bytes| Self(bytes.as_bytes().to_vec())))
    }
}

impl FromPyObject<'_, '_> for ImagePath {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if let Some(path) = Self::from_text_or_bytes(&object)? {
            return Ok(path);
        }
        Ok(Self::from_text_or_bytes(&fspath(object)?)?.expect("os.fspath returns str or bytes"))
    }
}

/// A path or name that a record holds.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PathText(pub(crate) Vec<u8>);

impl<'py> IntoPyObject<'py> for &PathText {
    type Target = PyString;
    type Output = Bound<'py, PyString>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        decode(py, &self.0)
    }
}

impl FromPyObject<'_, '_> for PathText {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        Ok(Self(encode(&*object.cast::<PyString>()?)?))
    }
}

/// A path of the host, from `str`, `bytes` or `os.PathLike`.
pub(crate) struct HostPath(pub(crate) PathBuf);

impl FromPyObject<'_, '_> for HostPath {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let path = fspath(object)?;
        let path = match path.cast::<PyBytes>() {
            Ok(bytes) => OsString::from_vec(bytes.as_bytes().to_vec()),
            Err(_) => path.extract()?,
        };
        Ok(Self(path.into()))
    }
}

/// Where an image lies: a descriptor (`int`), a specification such as `phys:0x1000+64M` (`str`),
/// or a path.
pub(crate) struct ImageSource(pub(crate) Source);

impl FromPyObject<'_, '_> for ImageSource {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let path = match object.extract() {
            Ok(HostPath(path)) => path,
            // After paths: an attempt that fails makes an exception, which takes its time.
            Err(error) => {
                let number = object.is_instance_of::<PyInt>();
                return object
                    .extract()
                    .map(|fd| Self(Source::Fd(fd)))
                    .map_err(|overflow| if number { overflow } else { error });
            }
        };
        if object.is_instance_of::<PyString>() {
            let source = Source::parse(path.as_os_str()).map_err(Failure::from)?;
            return Ok(Self(source));
        }
        Ok(Self(Source::Path(path)))
    }
}

/// What `os.fspath` makes of a path: `str` or `bytes`.
fn fspath<'py>(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static FSPATH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FSPATH.import(object.py(), "os", "fspath")?.call1((object,))
}

/// A name or path as text.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(PyString::new(py, text));
    }
    let text = PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogateescape"))?;
    Ok(text.cast_into()?)
}

/// The bytes of a name or path.
fn encode(text: &Bound<'_, PyString>) -> PyResult<Vec<u8>> {
    if let Ok(text) = text.to_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let bytes = text.call_method1("encode", ("utf-8", "surrogateescape"))?;
    Ok(bytes.cast::<PyBytes>()?.as_bytes().to_vec())
}
