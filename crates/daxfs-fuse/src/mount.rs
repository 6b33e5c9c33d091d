// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attaching a FUSE connection to a directory, and taking it away: by mount(2) for those who may,
//! by `fusermount3` for ordinary users.

use std::ffi::{CString, OsStr, OsString};
use std::io::{ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use daxfs_core::error::{Error, Result, show_path};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::mountinfo::{self, MountInfo};
use crate::options::Options;

/// What /proc/mounts and mount(8) call such a mount.
pub const TYPE: &str = "fuse.daxfs";

/// What they call a mount by the kernel's module.
const KERNEL_TYPE: &str = "daxfs";

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";

/// How a connection is attached.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is mounted, for listings.
    pub source: &'a OsStr,
    /// The directory.
    pub mountpoint: &'a Path,
    /// Flags for mount(2), read-only among them.
    pub flags: MountFlags,
    /// Whether other users may look.
    pub allow_other: bool,
    /// Labels of SELinux, by the names of their options.
    pub labels: &'a [(String, String)],
}

/// Attaches a new connection and returns its end.
pub fn attach(request: &Request<'_>) -> Result<OwnedFd> {
    clear_stale(request.mountpoint)?;
    let metadata =
        std::fs::metadata(request.mountpoint).map_err(Error::io("mount on", request.mountpoint))?;
    if !metadata.is_dir() {
        return Err(Error::NotDirectory {
            path: request.mountpoint.as_os_str().as_bytes().to_vec(),
        });
    }
    let device = match rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(device) => device,
        Err(errno @ (Errno::NOENT | Errno::NODEV | Errno::NXIO)) => {
            return Err(Error::Backing {
                what: format!("{DEVICE} is missing"),
                advice: "load the kernel's module with modprobe fuse, or let the container have \
                         the device"
                    .into(),
                errno: errno.raw_os_error(),
            });
        }
        Err(Errno::ACCESS | Errno::PERM) => return attach_by_helper(request),
        Err(errno) => return Err(Error::io("open", DEVICE)(errno)),
    };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let fd = device.as_raw_fd();
    let mut data =
        format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid},default_permissions");
    if request.allow_other {
        data.push_str(",allow_other");
    }
    for (name, label) in request.labels {
        // In quotes there may be commas.
        data.push_str(&format!(",{name}=\"{label}\""));
    }
    let data = CString::new(data).map_err(|_| Error::invalid("a label has a NUL"))?;
    match rustix::mount::mount(
        request.source,
        request.mountpoint,
        TYPE,
        request.flags,
        Some(data.as_c_str()),
    ) {
        Ok(()) => Ok(device),
        Err(Errno::PERM) => attach_by_helper(request),
        Err(Errno::INVAL) if !request.labels.is_empty() => Err(Error::invalid(format!(
            "{}: the kernel takes no such label; is SELinux in use, and the label one of its policy?",
            show_path(request.mountpoint)
        ))),
        Err(errno) => Err(Error::io("mount on", request.mountpoint)(errno)),
    }
}

/// Lets `fusermount3`, which is setuid root, do it; it sends the descriptor through a socket.
fn attach_by_helper(request: &Request<'_>) -> Result<OwnedFd> {
    let failed = |errno: std::io::Error| Error::io("run", HELPER)(errno);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(|errno| failed(errno.into()))?;
    let mut options = OsString::from("subtype=daxfs,default_permissions,fsname=");
    for byte in request.source.as_bytes() {
        // Commas and backslashes are the helper's own.
        if matches!(byte, b',' | b'\\') {
            options.push("\\");
        }
        options.push(OsStr::from_bytes(&[*byte]));
    }
    let flags = [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
        (MountFlags::NOSYMFOLLOW, "nosymfollow"),
    ];
    for (_, name) in flags.iter().filter(|(flag, _)| request.flags.contains(*flag)) {
        options.push(",");
        options.push(name);
    }
    if request.allow_other {
        options.push(",allow_other");
    }
    // It may know these or refuse them.
    for (name, label) in request.labels {
        options.push(format!(",{name}={}", label.replace(',', "\\,")));
    }
    let child = Command::new(HELPER)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(request.mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    drop(theirs);
    let child = match child {
        Ok(child) => child,
        // Or a directory of the search path may not be looked into.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Err(Error::Backing {
                what: format!("{HELPER}, through which ordinary users mount, is missing"),
                advice: "install the package fuse3, or mount as root".into(),
                errno: Errno::PERM.raw_os_error(),
            });
        }
        Err(error) => return Err(failed(error)),
    };
    let received = receive(&ours);
    let output = child.wait_with_output().map_err(failed)?;
    match received {
        Ok(Some(device)) => Ok(device),
        _ => Err(refused(&said(&output))),
    }
}

/// The words of a helper that failed.
fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.trim().trim_start_matches("fusermount3: ").into()
}

fn refused(said: &str) -> Error {
    Error::Backing {
        what: format!("{HELPER} refused: {said}"),
        advice: advice_on(said).into(),
        errno: Errno::PERM.raw_os_error(),
    }
}

/// What to do about the helper's words, where that is known.
fn advice_on(said: &str) -> &'static str {
    let says = |words| said.contains(words);
    if says("user_allow_other") {
        "add user_allow_other to /etc/fuse.conf, or leave allow_other out"
    } else if says(DEVICE) {
        "whoever mounts must be allowed to read and write /dev/fuse"
    } else if says("not owned by user") || says("no write access") {
        "ordinary users mount on directories that are their own"
    } else if says("determine username") {
        "whoever mounts must have an entry in /etc/passwd"
    } else if says("mount failed: Operation not permitted") && is_in_user_namespace() {
        "whoever is root in a user namespace mounts in a mount namespace made with it: unshare -Urm"
    } else {
        ""
    }
}

fn is_in_user_namespace() -> bool {
    // The first one has all users, as themselves.
    let all = ["0", "0", "4294967295"];
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(all))
}

fn receive(socket: &UnixStream) -> rustix::io::Result<Option<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let parts = &mut [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket.as_fd(), parts, &mut control, flags))?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// Changes the flags of the mount on `mountpoint`, read-only among them; what is not said stays.
pub fn remount(mountpoint: &Path, options: &Options) -> Result<()> {
    let nothing = || not_mounted(mountpoint);
    let mount = MountInfo::of(mountpoint)?.ok_or_else(nothing)?;
    if ![TYPE, KERNEL_TYPE].contains(&mount.kind.as_str()) {
        return Err(nothing());
    }
    let flags = options.applied_to(mount.flags);
    rustix::mount::mount_remount(mountpoint, flags, c"").map_err(|errno| match errno {
        Errno::INVAL => nothing(),
        errno => Error::io("remount", mountpoint)(errno),
    })
}

/// Takes the mount on `mountpoint` away; `lazy` takes its name away now and the rest once nobody
/// uses it any more.
pub fn detach(mountpoint: &Path, lazy: bool) -> Result<()> {
    expect_ours(mountpoint)?;
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => detach_by_helper(mountpoint, lazy),
        Err(Errno::INVAL) => Err(not_mounted(mountpoint)),
        Err(errno) => Err(Error::io("unmount", mountpoint)(errno)),
    }
}

fn expect_ours(mountpoint: &Path) -> Result<()> {
    match MountInfo::of(mountpoint) {
        Ok(Some(mount)) if ![TYPE, KERNEL_TYPE].contains(&mount.kind.as_str()) => {
            Err(not_mounted(mountpoint))
        }
        // Root may be kept from looking at what it may take away.
        _ => Ok(()),
    }
}

fn not_mounted(mountpoint: &Path) -> Error {
    Error::invalid(format!("{}: no image is mounted there", show_path(mountpoint)))
}

fn detach_by_helper(mountpoint: &Path, lazy: bool) -> Result<()> {
    let mut command = Command::new(HELPER);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        // Symbolic links it does not follow.
        .arg(std::fs::canonicalize(mountpoint).unwrap_or_else(|_| mountpoint.into()))
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run", HELPER))?;
    if output.status.success() {
        return Ok(());
    }
    let said = said(&output);
    // It knows of those alone that were made through it for this user.
    let errno = if said.contains("busy") {
        Errno::BUSY
    } else if !said.contains("not found") {
        return Err(refused(&said));
    } else if mountinfo::is_point(mountpoint) {
        Errno::PERM
    } else {
        return Err(not_mounted(mountpoint));
    };
    Err(Error::io("unmount", mountpoint)(errno))
}

/// Takes away what a server that died left on `mountpoint`: there, nothing answers any more.
pub fn clear_stale(mountpoint: &Path) -> Result<()> {
    // Of attributes the kernel may remember some, but this it asks the server for. Several may lie
    // on one another.
    while let Ok(place) =
        rustix::fs::open(mountpoint, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        && let Err(Errno::NOTCONN | Errno::CONNABORTED) = rustix::fs::fstatfs(&place)
    {
        expect_ours(mountpoint)?;
        log::warn!("{}: the server is gone; unmounting", mountpoint.display());
        // What was looked at: somebody else may have taken it away by now, and mounted there.
        let dead = format!("/proc/self/fd/{}", place.as_raw_fd());
        match rustix::mount::unmount(dead, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(Errno::PERM) => detach_by_helper(mountpoint, true)?,
            Err(errno) => return Err(Error::io("unmount", mountpoint)(errno)),
        }
    }
    Ok(())
}
