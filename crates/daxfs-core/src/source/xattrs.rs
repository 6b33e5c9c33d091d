// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading the extended attributes of files.

use std::ffi::CStr;
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
        rustix::fs::flistxattr_query(file),
        |buffer| rustix::fs::flistxattr(file, buffer),
        |name, buffer| rustix::fs::fgetxattr(file, name, buffer),
    )
}

/// Extended attributes of a directory entry, without opening it: a FIFO would block, a device
/// would act.
pub(crate) fn xattrs_at(
    directory: BorrowedFd<'_>,
    name: &CStr,
) -> Result<Vec<Xattr>, XattrFailure> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    collect(
        rustix::fs::llistxattr_query(&path[..]),
        |buffer| rustix::fs::llistxattr(&path[..], buffer),
        |name, buffer| rustix::fs::lgetxattr(&path[..], name, buffer),
    )
}

/// Most files have none, and the kernel allocates whatever buffer it is offered: hence the length
/// of the list is asked for first.
fn collect(
    len: rustix::io::Result<usize>,
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<Xattr>, XattrFailure> {
    match len {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(errno) => return Err(errno.into()),
    }
    let names = read(LIST_MAX, list)?;
    let mut xattrs = Vec::new();
    let mut bytes = 0;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let value = match read(XATTR_VALUE_MAX, |buffer| get(name, buffer)) {
            Ok(value) => value,
            // Removed since it was listed.
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno.into()),
        };
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

/// What a call puts into a buffer, which is small at first; no result is larger than `most`.
fn read(
    most: usize,
    call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 256];
    match call(&mut small) {
        Ok(len) => Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; most];
            let len = call(&mut large)?;
            large.truncate(len);
            large.shrink_to_fit();
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}
