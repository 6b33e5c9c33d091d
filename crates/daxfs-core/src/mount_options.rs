// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mount options that do not depend on the file system: those that mount(8) documents for all.

use rustix::mount::MountFlags;

/// Flags of mount(2) by the names that mount(8) has for them: what it sets or clears.
const FLAGS: [(&str, MountFlags, bool); 26] = [
    ("suid", MountFlags::NOSUID, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("dev", MountFlags::NODEV, false),
    ("nodev", MountFlags::NODEV, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("symfollow", MountFlags::NOSYMFOLLOW, false),
    ("nosymfollow", MountFlags::NOSYMFOLLOW, true),
    ("atime", MountFlags::NOATIME, false),
    ("noatime", MountFlags::NOATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
    ("iversion", I_VERSION, true),
    ("noiversion", I_VERSION, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("silent", MountFlags::SILENT, true),
    ("loud", MountFlags::SILENT, false),
    ("nomand", MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
];

/// `MS_I_VERSION`.
const I_VERSION: MountFlags = MountFlags::from_bits_retain(1 << 23);

/// What mount(8) and others who read /etc/fstab mean for themselves.
const FOR_OTHERS: [&str; 11] = [
    "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "defaults",
    "remount",
];

/// The flag of mount(2) that a word sets or, if the second is false, clears.
pub fn flag(word: &str) -> Option<(MountFlags, bool)> {
    FLAGS.iter().find(|(name, ..)| *name == word).map(|(_, flag, set)| (*flag, *set))
}

/// Whether an option, with a value or without, is meant for mount(8) or others who read /etc/fstab.
pub fn is_for_others(option: &str) -> bool {
    if option.starts_with("x-") || option.starts_with("X-") {
        return true;
    }
    match option.split_once('=') {
        // Who may unmount it, as mount(8) notes it down.
        Some((name, _)) => matches!(name, "user" | "comment"),
        None => FOR_OTHERS.contains(&option),
    }
}
