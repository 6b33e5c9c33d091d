// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mounting with the kernel's module.

use daxfs_core::kernel::{self, Setting};
use pyo3::prelude::*;

use crate::error::Result;
use crate::paths::HostPath;

/// Mounts a file system of the kernel's module; settings are keys, with values or without.
#[pyfunction]
#[pyo3(signature = (target, settings, /))]
pub(crate) fn mount_kernel(
    py: Python<'_>,
    target: HostPath,
    settings: Vec<(String, Option<String>)>,
) -> Result<()> {
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| match value {
            Some(value) => Setting::Text(key, value),
            None => Setting::Flag(key),
        })
        .collect();
    Ok(py.detach(|| kernel::mount(&settings, &target.0))?)
}

/// Whether the kernel understands a mount option of this name whatever file system is mounted.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub(crate) fn is_general_option(name: &str) -> bool {
    kernel::is_general(name)
}

/// Whether a mount option is not the business of the kernel's module, or changes nothing there.
#[pyfunction]
#[pyo3(signature = (option, /))]
pub(crate) fn is_passed_over(option: &str) -> bool {
    kernel::is_passed_over(option)
}

/// The sources of the kernel's module: names and texts.
#[pyfunction]
pub(crate) fn module_sources() -> Vec<(&'static str, &'static str)> {
    kernel::SOURCES.to_vec()
}
