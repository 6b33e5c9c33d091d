// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mount options, as given with `-o`.

use std::str::FromStr;
use std::time::Duration;

use daxfs_core::error::{Error, Result};
use daxfs_core::mount_options::{flag, is_for_others, is_label, split, unescaped, unquoted};
use rustix::mount::MountFlags;

/// What may be done through a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Writing when a branch is named, reading otherwise.
    #[default]
    Unsaid,
    /// Reading.
    ReadOnly,
    /// Writing.
    ReadWrite,
}

/// Everything that `-o` can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What may be done.
    pub access: Access,
    /// The branch to show; main if none is named.
    pub branch: Option<String>,
    /// The branch to make a missing `branch` from.
    pub parent: Option<String>,
    /// Prove the image first.
    pub validate: bool,
    /// Drop this processor's cached copy of the memory first.
    pub invalidate: bool,
    /// Whether users other than the one who mounts may look; unsaid, root lets them.
    pub allow_other: Option<bool>,
    /// Whether there is a control directory.
    pub control: bool,
    /// Whether it may be shown elsewhere with other owners.
    pub idmap: bool,
    /// How long the kernel may go on with names and attributes of what others may change.
    pub actimeo: Duration,
    /// Threads that serve; as many as there are processors if not said.
    pub threads: Option<usize>,
    /// Labels of SELinux, by the names of their options.
    pub labels: Vec<(String, String)>,
    /// Flags for mount(2) that are to be set.
    pub flags: MountFlags,
    /// Those that are not to be, where a mount has them already.
    pub cleared: MountFlags,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            access: Access::Unsaid,
            branch: None,
            parent: None,
            validate: false,
            invalidate: false,
            allow_other: None,
            control: true,
            idmap: false,
            actimeo: Duration::ZERO,
            threads: None,
            labels: Vec::new(),
            flags: MountFlags::empty(),
            cleared: MountFlags::empty(),
        }
    }
}

/// Most threads that a mount is served by.
const THREADS_MAX: usize = 64;

const NO_VALUE: &str = "a value is missing, as in NAME=VALUE";

/// When access times change: one of these.
const ACCESS_TIMES: MountFlags =
    MountFlags::NOATIME.union(MountFlags::RELATIME).union(MountFlags::STRICTATIME);

impl FromStr for Options {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for option in split(text) {
            options.add(&unescaped(option))?;
        }
        if options.parent.is_some() && options.branch.is_none() {
            return Err(Error::invalid("parent=NAME is for a branch to be made: give branch=NAME"));
        }
        if options.parent.is_some() && options.access == Access::ReadOnly {
            return Err(Error::invalid("parent=NAME makes a branch, which needs rw"));
        }
        Ok(options)
    }
}

impl Options {
    fn add(&mut self, option: &str) -> Result<()> {
        if is_for_others(option) {
            return Ok(());
        }
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let wrong = |what: &str| Err(Error::invalid(format!("mount option {option:?}: {what}")));
        if let Some(value) = value {
            match name {
                "branch" if !value.is_empty() => self.branch = Some(value.into()),
                "parent" if !value.is_empty() => self.parent = Some(value.into()),
                "branch" | "parent" => return wrong("a name is missing"),
                "threads" => match value.parse() {
                    Ok(threads @ 1..=THREADS_MAX) => self.threads = Some(threads),
                    _ => return wrong(&format!("a number from 1 to {THREADS_MAX} is needed")),
                },
                "actimeo" => match value.parse().map(Duration::try_from_secs_f64) {
                    Ok(Ok(time)) => self.actimeo = time,
                    _ => return wrong("a number of seconds is needed"),
                },
                // The kernel shows these of every mount, and mount(8) hands them back.
                "user_id" | "group_id" => {}
                _ if is_label(name) => match unquoted(value) {
                    label if label.is_empty() || label.contains('"') => {
                        return wrong("a label is needed, in quotes if there are commas in it");
                    }
                    label => self.labels.push((name.into(), label.into())),
                },
                _ => return wrong("not known"),
            }
            return Ok(());
        }
        match name {
            "ro" => self.access = Access::ReadOnly,
            "rw" => self.access = Access::ReadWrite,
            "validate" => self.validate = true,
            "invalidate" => self.invalidate = true,
            "allow_other" => self.allow_other = Some(true),
            "noallow_other" => self.allow_other = Some(false),
            "nocontrol" => self.control = false,
            "idmap" => self.idmap = true,
            // Who may do what is always checked by the kernel.
            "default_permissions" => {}
            "actimeo" | "branch" | "parent" | "threads" => return wrong(NO_VALUE),
            _ if is_label(name) => return wrong(NO_VALUE),
            _ => match flag(name) {
                Some((flag, set)) => self.set_flag(flag, set),
                None => return wrong("not known"),
            },
        }
        Ok(())
    }

    fn set_flag(&mut self, flag: MountFlags, set: bool) {
        if set && ACCESS_TIMES.contains(flag) {
            self.set_flag(ACCESS_TIMES.difference(flag), false);
        }
        self.flags.set(flag, set);
        self.cleared.set(flag, !set);
    }

    /// The flags that a mount with these has once the options are applied: what they do not say
    /// stays.
    pub(crate) fn applied_to(&self, flags: MountFlags) -> MountFlags {
        let mut flags = flags.difference(self.cleared) | self.flags;
        match self.access {
            Access::Unsaid => {}
            access => flags.set(MountFlags::RDONLY, access == Access::ReadOnly),
        }
        if !flags.intersects(ACCESS_TIMES) {
            // As the kernel does when nothing is said; but of a mount it would keep what was.
            flags |= MountFlags::RELATIME;
        }
        flags
    }

    /// Whether writing is asked for.
    pub fn writes(&self) -> bool {
        match self.access {
            Access::ReadOnly => false,
            Access::ReadWrite => true,
            Access::Unsaid => self.branch.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win() {
        let options: Options = "ro,rw,nosuid,nodev,suid,branch=a,branch=b".parse().unwrap();
        assert_eq!(options.access, Access::ReadWrite);
        assert_eq!(options.branch.as_deref(), Some("b"));
        assert!(!options.flags.contains(MountFlags::NOSUID));
        assert!(options.flags.contains(MountFlags::NODEV));
    }

    #[test]
    fn a_backslash_keeps_a_comma() {
        let options: Options = r",ro,branch=a\,b\\,,parent=c\d,rw,".parse().unwrap();
        assert_eq!(options.branch.as_deref(), Some(r"a,b\"));
        assert_eq!(options.parent.as_deref(), Some("cd"));
        assert_eq!(options.access, Access::ReadWrite);
    }

    #[test]
    fn labels_may_be_quoted() {
        let text = r#"context="u:r:t:s0:c1,c2",ro,rootcontext=u:r:t:s0:c3\,c4,fscontext=u:r:t"#;
        let options: Options = text.parse().unwrap();
        let labels = [
            ("context", "u:r:t:s0:c1,c2"),
            ("rootcontext", "u:r:t:s0:c3,c4"),
            ("fscontext", "u:r:t"),
        ];
        assert_eq!(options.labels, labels.map(|(name, label)| (name.into(), label.into())));
        assert_eq!(options.access, Access::ReadOnly);
    }

    #[test]
    fn what_mount_reads_itself_is_passed_over() {
        let options: Options =
            "defaults,noauto,user=me,x-systemd.automount,_netdev".parse().unwrap();
        assert_eq!(options, Options::default());
    }

    #[test]
    fn flags_that_are_not_mentioned_stay() {
        let applied = |text: &str, flags| text.parse::<Options>().unwrap().applied_to(flags);
        let (ro, nosuid) = (MountFlags::RDONLY, MountFlags::NOSUID);
        let (relatime, noatime) = (MountFlags::RELATIME, MountFlags::NOATIME);
        assert_eq!(applied("noexec", ro | noatime), ro | noatime | MountFlags::NOEXEC);
        assert_eq!(applied("rw,suid,relatime", ro | nosuid | noatime), relatime);
        assert_eq!(applied("atime", noatime), relatime);
        assert_eq!(applied("strictatime,noatime", relatime), noatime);
    }

    #[test]
    fn a_branch_is_for_writing_unless_said_otherwise() {
        assert!(!Options::default().writes());
        assert!("branch=a".parse::<Options>().unwrap().writes());
        assert!(!"ro,branch=a".parse::<Options>().unwrap().writes());
    }

    #[test]
    fn seconds_may_have_parts() {
        let actimeo = |text: &str| text.parse::<Options>().unwrap().actimeo;
        assert_eq!(actimeo("ro"), Duration::ZERO);
        assert_eq!(actimeo("actimeo=3,actimeo=0.25"), Duration::from_millis(250));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "actimeo",
            "actimeo=",
            "actimeo=-1",
            "actimeo=nan",
            "actimeo=1e300",
            "actimeo=1s",
            "branch",
            "branch=",
            "parent=main",
            "colour",
            "threads=0",
            "ro,branch=a,parent=main",
            "context",
            "context=",
            r#"context="a"b"#,
        ] {
            let error = text.parse::<Options>().unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{text}: {error}");
        }
    }
}
