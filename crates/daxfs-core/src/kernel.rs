// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mounting with the kernel's module, by the mount calls that tell their reasons.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::error::{Error, Result, reason};

macro_rules! sources {
    ($($name:literal,)+) => {
        &[$(($name, include_str!(concat!("../../../kernel/", $name)))),+]
    };
}

/// The module's sources, by name: whoever has the package can build it.
pub const SOURCES: &[(&str, &str)] = sources![
    "Kbuild",
    "Kconfig",
    "Makefile",
    "backing.c",
    "base.c",
    "branch.c",
    "compat.h",
    "daxfs_format.h",
    "daxfs_ioctl.h",
    "dkms.conf",
    "engine.h",
    "error.h",
    "image.c",
    "region.c",
    "superblock.c",
    "validate.c",
    "vfs.h",
    "vfs_dir.c",
    "vfs_file.c",
    "vfs_inode.c",
    "vfs_mmap.c",
    "vfs_super.c",
    "vfs_symlink.c",
    "vfs_xattr.c",
    "xattr.c",
];

/// Longest message of the kernel that is read.
const MESSAGE_MAX: usize = 1024;

/// One setting of a file system that is to be mounted.
#[derive(Debug, Clone, Copy)]
pub enum Setting<'a> {
    /// A word of its own, such as `validate`.
    Flag(&'a str),
    /// A key and a value, such as `phys` and an address, or `dmabuf` and a descriptor's number.
    Text(&'a str, &'a str),
}

/// Mounts a file system of the kernel's module `daxfs` on `target`.
pub fn mount(settings: &[Setting<'_>], target: &Path) -> Result<()> {
    let context = fsopen("daxfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| match errno {
        Errno::NODEV => Error::Backing {
            what: "this kernel has no module daxfs".into(),
            advice: "`daxfs module install` builds and installs it".into(),
            errno: errno.raw_os_error(),
        },
        _ => Error::io("mount", target)(errno),
    })?;
    configure(&context, settings)
        .and_then(|()| fsconfig_create(context.as_fd()))
        .map_err(|errno| told(&context, errno))?;
    let mounted =
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
            .map_err(|errno| told(&context, errno))?;
    move_mount(mounted.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Error::io("mount on", target))
}

fn configure(context: &OwnedFd, settings: &[Setting<'_>]) -> rustix::io::Result<()> {
    for setting in settings {
        match setting {
            Setting::Flag(key) => fsconfig_set_flag(context.as_fd(), *key)?,
            Setting::Text(key, value) => fsconfig_set_string(context.as_fd(), *key, *value)?,
        }
    }
    Ok(())
}

/// The error in the kernel's own words, which it keeps with the context.
fn told(context: &OwnedFd, errno: Errno) -> Error {
    let mut words = Vec::new();
    let mut buffer = [0; MESSAGE_MAX];
    while let Ok(len) = rustix::io::read(context, &mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..len]);
        // A letter for its weight comes first: e for error, w for warning, i for information.
        if let Some(text) = message.strip_prefix("e ") {
            let text = text.trim();
            words.push(text.strip_prefix("daxfs: ").unwrap_or(text).to_owned());
        }
    }
    if words.is_empty() {
        words.push(reason(&errno.into()));
    }
    Error::Backing {
        what: format!("the kernel cannot mount it: {}", words.join("; ")),
        advice: "`dmesg` may say more".into(),
        errno: errno.raw_os_error(),
    }
}
