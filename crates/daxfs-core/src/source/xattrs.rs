// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading the extended attributes of files.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::base::Xattr;
use crate::format::{XATTR_SET_MAX, XATTR_VALUE_MAX};

/// Largest list of names that the kernel gives.
const LIST_MAX: usize = 65536;

/// Why attributes could not be taken.
pub(crate) enum XattrFailure {
    /// The system refused.
    System(Errno),
    /// More bytes than an image can hold for one inode.
    TooMany(usize),
}

impl From<Errno> for XattrFailure {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl XattrFailure {
    /// The failure as text.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::System(errno) => {
                format!("cannot read extended attributes: {}", crate::error::reason(&errno.into()))
            }
            Self::TooMany(bytes) => format!("{bytes} bytes of extended attributes, too many"),
        }
    }
}

/// Extended attributes of an open file, in byte order of names.
pub(crate) fn xattrs_of(file: impl AsFd) -> Result<Vec<Xattr>, XattrFailure> {
    let file = file.as_fd();
    collect(
        |buffer| rustix::fs::flistxattr(file, buffer),
        |name, buffer| rustix::fs::fgetxattr(file, name, buffer),
    )
}

/// Extended attributes of a directory entry, without opening it: a FIFO would block, a device
/// would act.
pub(crate) fn xattrs_at(
    directory: BorrowedFd<'_>,
    name: &CString,
) -> Result<Vec<Xattr>, XattrFailure> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    collect(
        |buffer| rustix::fs::llistxattr(&path[..], buffer),
        |name, buffer| rustix::fs::lgetxattr(&path[..], name, buffer),
    )
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<Xattr>, XattrFailure> {
    let mut small = [0; 256];
    let mut large;
    let names = match list(&mut small) {
        Ok(len) => &small[..len],
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            large = vec![0; LIST_MAX];
            let len = list(&mut large)?;
            &large[..len]
        }
        Err(errno) => return Err(errno.into()),
    };
    let mut xattrs = Vec::new();
    let mut bytes = 0;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; XATTR_VALUE_MAX];
        match get(name, &mut value) {
            Ok(len) => value.truncate(len),
            // Removed since it was listed.
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno.into()),
        }
        value.shrink_to_fit();
        bytes += name.len() + value.len();
        xattrs.push((name.to_vec(), value));
    }
    // The encoding adds at most a header and padding to each.
    if bytes + 16 * xattrs.len() + 16 > XATTR_SET_MAX {
        return Err(XattrFailure::TooMany(bytes));
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}
