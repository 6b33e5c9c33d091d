// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mounts through FUSE.

use daxfs_fuse::daemon::Failure as Died;
use daxfs_fuse::options::Options;
use daxfs_fuse::session::Mount;
use pyo3::prelude::*;

use crate::error::{Failure, Result, from_engine};
use crate::paths::{HostPath, ImageSource};

/// Mounts an image through FUSE.
///
/// In the background the server is a process of its own, forked from this one, which returns once
/// the mount answers.
#[pyfunction]
#[pyo3(signature = (source, mountpoint, /, options="", *, foreground=false))]
pub(crate) fn mount_fuse(
    py: Python<'_>,
    source: ImageSource,
    mountpoint: HostPath,
    options: &str,
    foreground: bool,
) -> Result<()> {
    let options: Options = options.parse()?;
    let mount = Mount { source: source.0, mountpoint: mountpoint.0, options };
    if foreground {
        return Ok(py.detach(|| mount.foreground())?);
    }
    // The lock stays: nothing of Python may run in the process that is forked.
    let mut interruption = None;
    let served = mount.background(|| match py.check_signals() {
        Ok(()) => false,
        Err(error) => {
            interruption = Some(error);
            true
        }
    });
    served.map_err(|Died { name, errno, message }| {
        let error = || from_engine(py, &name, errno, &message, None, None);
        Failure::Python(interruption.unwrap_or_else(|| error().unwrap_or_else(|error| error)))
    })
}

/// The options of a list, which commas divide; backslashes and quotes are left where they are.
#[pyfunction]
#[pyo3(signature = (options, /))]
pub(crate) fn split_options(options: &str) -> Vec<&str> {
    daxfs_core::mount_options::split(options)
}

/// Changes the flags of a mount, read-only among them.
#[pyfunction]
#[pyo3(signature = (mountpoint, options, /))]
pub(crate) fn remount(py: Python<'_>, mountpoint: HostPath, options: &str) -> Result<()> {
    let options: Options = options.parse()?;
    Ok(py.detach(|| daxfs_fuse::mount::remount(&mountpoint.0, &options))?)
}

/// Takes a mount away, at once or, if lazy, once nobody uses it any more.
#[pyfunction]
#[pyo3(signature = (mountpoint, /, *, lazy=false))]
pub(crate) fn unmount(py: Python<'_>, mountpoint: HostPath, lazy: bool) -> Result<()> {
    Ok(py.detach(|| daxfs_fuse::mount::detach(&mountpoint.0, lazy))?)
}
