// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The extension module `daxfs._daxfs`: conversions between Python and the engine, nothing else.

#![allow(clippy::too_many_arguments, reason = "keywords, in Python, and fields of records")]

mod branch;
mod buffer;
mod build;
mod check;
mod error;
mod file;
mod image;
mod kernel;
mod mount;
mod paths;
mod progress;
mod stat;
mod take;
mod tree;
mod workers;

use pyo3::prelude::*;

/// The engine of daxfs; `daxfs` is the public interface to it.
#[pymodule]
mod _daxfs {
    use super::*;

    #[pymodule_export]
    use super::branch::{Branch, BranchStatus, Opener};
    #[pymodule_export]
    use super::buffer::Buffer;
    #[pymodule_export]
    use super::build::{BuildResult, build};
    #[pymodule_export]
    use super::check::{Finding, Report, validate};
    #[pymodule_export]
    use super::file::File;
    #[pymodule_export]
    use super::image::{Image, Maintained, Span};
    #[pymodule_export]
    use super::kernel::{is_general_option, is_passed_over, module_sources, mount_kernel};
    #[pymodule_export]
    use super::mount::{mount_fuse, remount, split_options, unmount};
    #[pymodule_export]
    use super::progress::Progress;
    #[pymodule_export]
    use super::stat::{DirEntry, Extent, Stat};

    #[pymodule_export]
    use super::take::{
        Difference, ExtractResult, LogEntry, PathChange, changes, compare, dump, extract,
        extract_tar, log,
    };
    #[pymodule_export]
    use super::tree::Tree;

    /// Reads a number of bytes.
    ///
    /// Parameters
    /// ----------
    /// text : str
    ///     Decimal or hexadecimal, with an optional suffix K, M, G or T, which are powers of 1024;
    ///     such as ``4096``, ``0x1000``, ``64K``.
    ///
    /// Returns
    /// -------
    /// int
    ///     Bytes.
    ///
    /// Raises
    /// ------
    /// InvalidError
    ///     It is no such number.
    #[pyfunction]
    #[pyo3(signature = (text, /))]
    fn parse_size(text: &str) -> crate::error::Result<u64> {
        Ok(daxfs_core::region::parse_size(text)?)
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("ERROR_NAMES", daxfs_core::Error::NAMES)
    }
}
