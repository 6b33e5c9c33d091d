// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one mapping of errors: the engine's variants become the classes of `daxfs.errors`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use daxfs_core::Error;
use daxfs_core::error::InputProblem;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use crate::paths::{PathText, decode};

/// What a function of the module can fail with.
pub(crate) enum Failure {
    /// The engine's error.
    Engine(Error),
    /// Python's own.
    Python(PyErr),
}

/// Result with [`Failure`].
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Python(error) => error,
            Failure::Engine(error) => {
                Python::attach(|py| exception(py, &error).unwrap_or_else(|error| error))
            }
        }
    }
}

/// Makes the Python exception for `error`; fails with what kept it from being made.
fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let filename = filename(py, error)?;
    let details = details(py, error)?;
    from_engine(py, error.name(), error.errno(), &error.to_string(), filename, Some(details))
}

/// Makes the Python exception of an engine's error from its parts.
pub(crate) fn from_engine<'py>(
    py: Python<'py>,
    name: &str,
    errno: i32,
    message: &str,
    filename: Option<Bound<'py, PyString>>,
    details: Option<Bound<'py, PyDict>>,
) -> PyResult<PyErr> {
    static FROM_ENGINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let details = details.unwrap_or_else(|| PyDict::new(py));
    let from_engine = FROM_ENGINE.import(py, "daxfs.errors", "from_engine")?;
    Ok(PyErr::from_value(from_engine.call1((name, errno, message, filename, details))?))
}

/// The path that the error is about, if it is about one.
fn filename<'py>(py: Python<'py>, error: &Error) -> PyResult<Option<Bound<'py, PyString>>> {
    let host = |path: &Path| decode(py, path.as_os_str().as_bytes());
    match error {
        Error::Io { path, .. } | Error::Exists { path } => host(path),
        Error::NotFound { path }
        | Error::NotDirectory { path }
        | Error::IsDirectory { path }
        | Error::WrongType { path, .. }
        | Error::Loop { path }
        | Error::TooLong { path, .. }
        | Error::FileExists { path }
        | Error::NotEmpty { path }
        | Error::NotPermitted { path, .. }
        | Error::NoAttribute { path, .. }
        | Error::TooManyLinks { path } => decode(py, path),
        _ => return Ok(None),
    }
    .map(Some)
}

/// What the class of the error keeps besides.
fn details<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyDict>> {
    let details = PyDict::new(py);
    match error {
        Error::Corrupt { what, offset, expected, found } => {
            details.set_item("what", what)?;
            details.set_item("offset", offset)?;
            details.set_item("expected", expected)?;
            details.set_item("found", found)?;
        }
        Error::Unsound { count, first } => {
            details.set_item("count", count)?;
            details.set_item("first", first)?;
        }
        Error::NoSpace { needed, available, .. } => {
            details.set_item("needed", needed)?;
            details.set_item("available", available)?;
        }
        Error::Backing { advice, .. } => details.set_item("advice", advice)?,
        Error::Stale { name, .. }
        | Error::Busy { name, .. }
        | Error::ReadOnly { name, .. }
        | Error::BranchExists { name } => details.set_item("branch", name)?,
        Error::Input { problems } => details.set_item("problems", &pairs(problems))?,
        _ => {}
    }
    Ok(details)
}

/// Problems of a builder's input as pairs of path and reason.
pub(crate) fn pairs(problems: &[InputProblem]) -> Vec<(PathText, String)> {
    let pair = |problem: &InputProblem| (PathText(problem.path.clone()), problem.reason.clone());
    problems.iter().map(pair).collect()
}
