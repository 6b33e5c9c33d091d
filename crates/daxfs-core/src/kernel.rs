// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mounting with the kernel's module, by the mount calls that tell their reasons.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::error::{Error, Result, reason};
use crate::mount_options;

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
    /// A word of its own, such as `validate`, or one of mount(8)'s about the mount, such as
    /// `nosuid`.
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
    let attributes = attributes(settings);
    let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(|errno| told(&context, errno))?;
    move_mount(mounted.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Error::io("mount on", target))
}

/// What a word of mount(8) says about a mount: the bits that it decides, and what they become.
fn attribute(word: &str) -> Option<(MountAttrFlags, MountAttrFlags)> {
    let (flag, set) = mount_options::flag(word)?;
    let bit = match flag {
        MountFlags::NOSUID => MountAttrFlags::MOUNT_ATTR_NOSUID,
        MountFlags::NODEV => MountAttrFlags::MOUNT_ATTR_NODEV,
        MountFlags::NOEXEC => MountAttrFlags::MOUNT_ATTR_NOEXEC,
        MountFlags::NOSYMFOLLOW => MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
        MountFlags::NODIRATIME => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
        // When access times change is a number, of which relatime is zero.
        MountFlags::NOATIME | MountFlags::STRICTATIME | MountFlags::RELATIME => {
            let value = match (flag, set) {
                (MountFlags::NOATIME, true) => MountAttrFlags::MOUNT_ATTR_NOATIME,
                (MountFlags::STRICTATIME, true) => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                _ => MountAttrFlags::MOUNT_ATTR_RELATIME,
            };
            return Some((MountAttrFlags::MOUNT_ATTR__ATIME, value));
        }
        _ => return None,
    };
    Some((bit, if set { bit } else { MountAttrFlags::empty() }))
}

/// Whether an option is a word of mount(8) about the mount.
fn is_attribute(option: &str) -> bool {
    attribute(option).is_some()
}

/// Whether the kernel understands an option of this name whatever file system is mounted.
pub fn is_general(name: &str) -> bool {
    is_attribute(name) || mount_options::is_label(name)
}

/// Whether an option is not the file system's business, or changes nothing of one that is only
/// read, whose owners can be moved in any case.
pub fn is_passed_over(option: &str) -> bool {
    matches!(option, "ro" | "rw" | "idmap")
        || option.starts_with("actimeo=")
        || mount_options::is_for_others(option)
        || (mount_options::flag(option).is_some() && !is_attribute(option))
}

/// What all of them say together: of two that contradict each other, the later.
fn attributes(settings: &[Setting<'_>]) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    for setting in settings {
        if let Setting::Flag(key) = setting
            && let Some((decided, value)) = attribute(key)
        {
            attributes = attributes.difference(decided) | value;
        }
    }
    attributes
}

fn configure(context: &OwnedFd, settings: &[Setting<'_>]) -> rustix::io::Result<()> {
    for setting in settings {
        match setting {
            Setting::Flag(key) if is_attribute(key) => {}
            Setting::Flag(key) => fsconfig_set_flag(context.as_fd(), *key)?,
            Setting::Text(key, value) if mount_options::is_label(key) => {
                let label = mount_options::unescaped(value);
                fsconfig_set_string(context.as_fd(), *key, mount_options::unquoted(&label))?;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_attributes() {
        let of = |words: &[&'static str]| {
            let settings: Vec<_> = words.iter().map(|word| Setting::Flag(word)).collect();
            attributes(&settings)
        };
        let ro = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let (nosuid, nodev) = (MountAttrFlags::MOUNT_ATTR_NOSUID, MountAttrFlags::MOUNT_ATTR_NODEV);
        assert_eq!(of(&["validate"]), ro);
        assert_eq!(of(&["nosuid", "nodev", "validate"]), ro | nosuid | nodev);
        assert_eq!(of(&["nosuid", "nodev", "suid"]), ro | nodev);
        assert_eq!(of(&["strictatime", "noatime"]), ro | MountAttrFlags::MOUNT_ATTR_NOATIME);
        assert_eq!(of(&["noatime", "relatime", "nodiratime"]), {
            ro | MountAttrFlags::MOUNT_ATTR_NODIRATIME
        });
    }
}
