// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole-image proof.

use std::sync::Arc;

use daxfs_core::finding;
use daxfs_core::region::{Access, Region};
use daxfs_core::validate::{self as engine, Depth};
use pyo3::prelude::*;

use crate::error::Result;
use crate::paths::ImageSource;
use crate::progress::watch;

/// One contradiction between an image and the format.
#[pyclass(frozen, eq, hash, from_py_object, new = "from_fields", module = "daxfs._daxfs")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Finding {
    /// `error` or `warning`.
    #[pyo3(get)]
    severity: String,
    /// Field or structure.
    #[pyo3(get)]
    what: String,
    /// Image offset in bytes.
    #[pyo3(get)]
    offset: u64,
    /// What the format demands.
    #[pyo3(get)]
    expected: String,
    /// What is there.
    #[pyo3(get)]
    found: String,
    /// All of it, as one sentence.
    text: String,
}

impl From<&finding::Finding> for Finding {
    fn from(finding: &finding::Finding) -> Self {
        Self {
            severity: match finding.severity {
                finding::Severity::Warning => "warning",
                finding::Severity::Error => "error",
            }
            .into(),
            what: finding.what.to_string(),
            offset: finding.offset,
            expected: finding.expected.clone(),
            found: finding.found.clone(),
            text: finding.to_string(),
        }
    }
}

#[pymethods]
impl Finding {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("<Finding {}>", self.text)
    }

    fn __getnewargs__(&self) -> (&str, &str, u64, &str, &str, &str) {
        let Self { severity, what, offset, expected, found, text } = self;
        (severity, what, *offset, expected, found, text)
    }
}

/// What a proof found and what it looked at.
#[pyclass(frozen, eq, hash, get_all, new = "from_fields", module = "daxfs._daxfs")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Report {
    /// Errors, whether or not they are listed.
    errors: u64,
    /// Warnings, whether or not they are listed.
    warnings: u64,
    /// The findings; hostile images could have endlessly many, so their number is bounded.
    findings: Vec<Finding>,
    /// Inodes examined.
    inodes: u64,
    /// Directories among them.
    directories: u64,
    /// Regular files among them.
    files: u64,
    /// Symbolic links among them.
    symlinks: u64,
    /// Names examined.
    dirents: u64,
    /// Bytes of regular files.
    data_bytes: u64,
}

#[pymethods]
impl Report {
    fn __repr__(&self) -> String {
        format!("<Report {} errors, {} warnings>", self.errors, self.warnings)
    }

    fn __getnewargs__(&self) -> (u64, u64, Vec<Finding>, u64, u64, u64, u64, u64, u64) {
        let Self { errors, warnings, inodes, directories, files, symlinks, dirents, .. } = *self;
        let (findings, data_bytes) = (self.findings.clone(), self.data_bytes);
        (errors, warnings, findings, inodes, directories, files, symlinks, dirents, data_bytes)
    }
}

/// Proves everything that the format demands of an image.
///
/// Parameters
/// ----------
/// source : str, bytes, os.PathLike or int
///     Where the image lies, as for `open`.
/// data : bool, optional
///     Also check what files hold, where the image has checksums of it.
/// invalidate : bool, optional
///     First drop what this processor has cached of the memory.
/// progress : callable, optional
///     Called some times a second with a `Progress`. What it raises stops the proof, as
///     `KeyboardInterrupt` does.
///
/// Returns
/// -------
/// Report
///     Findings and counts; the image is sound if it has no errors.
///
/// Raises
/// ------
/// CorruptImageError, UnsupportedError
///     It is no image that this version knows.
/// NotFoundError, AccessError, BackingError
///     It cannot be opened.
/// BranchBusyError
///     Others change its branches faster than they can be looked at.
/// CancelledError
///     `progress` cancelled the proof.
#[pyfunction]
#[pyo3(signature = (source, /, *, data=false, invalidate=false, progress=None))]
pub(crate) fn validate(
    py: Python<'_>,
    source: ImageSource,
    data: bool,
    invalidate: bool,
    progress: Option<Py<PyAny>>,
) -> Result<Report> {
    let report = watch(py, progress, |progress| {
        let region = Arc::new(Region::open(&source.0, Access::Read)?);
        if invalidate {
            region.invalidate();
        }
        let depth = if data { Depth::Data } else { Depth::Metadata };
        engine::validate_watched(&region, depth, progress)
    })?;
    let counts = report.counts;
    Ok(Report {
        errors: report.findings.errors(),
        warnings: report.findings.warnings(),
        findings: report.findings.list().iter().map(Finding::from).collect(),
        inodes: counts.inodes,
        directories: counts.directories,
        files: counts.files,
        symlinks: counts.symlinks,
        dirents: counts.dirents,
        data_bytes: counts.data_bytes,
    })
}
