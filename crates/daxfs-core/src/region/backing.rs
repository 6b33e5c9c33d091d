// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What may lie behind a region: files, memory files, DAX devices, block devices, physical
//! ranges and DMA buffers; and the errors that say what the machine lacks.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, StatFs};
use rustix::io::Errno;
use zerocopy::FromBytes;

use super::{Durability, Region, dmabuf};
use crate::error::{Error, Result, reason, show_path};
use crate::format::{BLOCK_SIZE, MAGIC, Superblock};
use crate::persist;

/// Where an image lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path: regular file, file in /dev/shm, `/dev/daxN.M`, `/dev/pmemN`.
    Path(PathBuf),
    /// An open descriptor of any of these, a memfd, or a DMA buffer.
    Fd(RawFd),
    /// A physical range through /dev/mem.
    Physical {
        /// First byte.
        address: u64,
        /// Bytes; read from the superblock when left out.
        size: Option<u64>,
    },
}

/// What a region is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Loads only.
    Read,
    /// Loads and stores.
    Write,
}

/// Reads a number of bytes: decimal or 0x-hex, with an optional suffix K, M, G or T (powers of
/// 1024; KiB and so on are the same).
pub fn parse_size(text: &str) -> Result<u64> {
    let wrong =
        || Error::invalid(format!("{text:?} is not a size, such as 4096, 0x1000, 64K or 2G"));
    let lower = text.trim().to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (lower.as_str(), 10),
    };
    let digits = digits.strip_suffix("ib").unwrap_or(digits);
    let (digits, shift) = match digits.as_bytes().last() {
        Some(b'k') => (&digits[..digits.len() - 1], 10),
        Some(b'm') => (&digits[..digits.len() - 1], 20),
        Some(b'g') => (&digits[..digits.len() - 1], 30),
        Some(b't') => (&digits[..digits.len() - 1], 40),
        _ => (digits, 0),
    };
    if digits.starts_with('+') {
        return Err(wrong());
    }
    let number = u64::from_str_radix(digits, radix).map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

impl FromStr for Source {
    type Err = Error;

    /// `phys:ADDRESS[+SIZE]`, `dmabuf:FD`, `fd:FD`, or a path.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text.as_ref())
    }
}

impl Source {
    /// As [`FromStr`], for paths that need not be text.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let path = || Ok(Self::Path(text.into()));
        let Some(text) = text.to_str() else { return path() };
        if let Some(range) = text.strip_prefix("phys:") {
            let (address, size) = match range.split_once('+') {
                Some((address, size)) => (address, Some(parse_size(size)?)),
                None => (range, None),
            };
            return Ok(Self::Physical { address: parse_size(address)?, size });
        }
        if let Some(number) = text.strip_prefix("dmabuf:").or_else(|| text.strip_prefix("fd:")) {
            let fd = number.parse::<RawFd>().ok().filter(|fd| *fd >= 0);
            return fd
                .map(Self::Fd)
                .ok_or_else(|| Error::invalid(format!("{number:?} is not a file descriptor")));
        }
        path()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", show_path(path)),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
            Self::Physical { address, size: None } => write!(f, "phys:{address:#x}"),
            Self::Physical { address, size: Some(size) } => {
                write!(f, "phys:{address:#x}+{size:#x}")
            }
        }
    }
}

/// A descriptor, and what kind of thing it is open on.
struct Opened {
    fd: OwnedFd,
    name: PathBuf,
    kind: Kind,
}

enum Kind {
    File { len: u64, volatile: bool },
    Block { len: u64 },
    Dax { len: u64, align: u64 },
    DmaBuf { len: u64 },
}

pub(super) fn open(source: &Source, access: Access, size: Option<u64>) -> Result<Region> {
    let opened = match source {
        Source::Physical { address, size: stated } => {
            return open_physical(*address, size.or(*stated), access);
        }
        // Who says a size makes an image, and writes where nobody else may be.
        Source::Path(path) => open_path(path, access, size.is_some())?,
        Source::Fd(fd) => open_fd(*fd, access)?,
    };
    let Opened { fd, name, kind } = opened;
    if matches!(kind, Kind::Dax { .. }) {
        expect_known_caches(&name)?;
    }
    let (len, durability) = match kind {
        Kind::File { len, volatile: true } => (len, Durability::Volatile),
        Kind::File { len, volatile: false } | Kind::Block { len } => (len, Durability::File),
        Kind::Dax { len, .. } => (len, Durability::Memory),
        Kind::DmaBuf { len } => (len, Durability::Volatile),
    };
    if let Some(size) = size.filter(|size| *size > len) {
        return Err(Error::NoSpace {
            what: "image",
            needed: size,
            available: len,
            advice: "; take a larger device or leave something out",
        });
    }
    let map_len = usize::try_from(len).map_err(|_| {
        Error::invalid(format!("{}: {len} bytes do not fit this address space", show_path(&name)))
    })?;
    let dma = match kind {
        Kind::DmaBuf { .. } => {
            let buffer =
                rustix::io::fcntl_dupfd_cloexec(&fd, 0).map_err(Error::io("open", &name))?;
            Some(
                dmabuf::CpuAccess::begin(buffer, access)
                    .map_err(Error::io("begin CPU access", &name))?,
            )
        }
        _ => None,
    };
    let mapped = Region::map(&fd, 0, map_len, access, durability, name, dma);
    let mut region = mapped.map_err(|(errno, name)| match kind {
        Kind::Dax { align, .. } => Error::Backing {
            what: format!("{}: cannot map the device: {}", show_path(&name), reason(&errno.into())),
            advice: format!(
                "its alignment is {align} bytes; `daxctl reconfigure-device --align` changes it, \
                 and only one use at a time may hold it"
            ),
            errno: errno.raw_os_error(),
        },
        _ => Error::io("map", &name)(errno),
    })?;
    if matches!(kind, Kind::File { .. }) {
        region.file = Some(fd);
        if access == Access::Read {
            region.expect_early();
        }
    }
    Ok(region)
}

fn flags(access: Access) -> OFlags {
    // A FIFO is no image, and not to be waited for.
    let both = OFlags::CLOEXEC | OFlags::NONBLOCK;
    match access {
        Access::Read => OFlags::RDONLY | both,
        Access::Write => OFlags::RDWR | both,
    }
}

fn open_path(path: &Path, access: Access, alone: bool) -> Result<Opened> {
    // Of a block device the kernel knows who holds it: a mount, a swap area, another device.
    let exclusive = if alone && is_block_device(path) { OFlags::EXCL } else { OFlags::empty() };
    let fd = rustix::fs::open(path, flags(access) | exclusive, Mode::empty())
        .map_err(|errno| explain_open(path, errno))?;
    classify(fd, path.to_owned(), access)
}

fn is_block_device(path: &Path) -> bool {
    rustix::fs::stat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice)
}

fn open_fd(raw: RawFd, access: Access) -> Result<Opened> {
    let name = PathBuf::from(format!("fd:{raw}"));
    if raw < 0 {
        return Err(Error::io("open", &name)(Errno::BADF));
    }
    // SAFETY: the descriptor is only borrowed to duplicate it; a wrong number gives EBADF, and
    // -1, which no such value may be, was refused.
    let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
    let fd = rustix::io::fcntl_dupfd_cloexec(borrowed, 0).map_err(Error::io("open", &name))?;
    classify(fd, name, access)
}

fn classify(fd: OwnedFd, name: PathBuf, access: Access) -> Result<Opened> {
    let stat = rustix::fs::fstat(&fd).map_err(Error::io("examine", &name))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            // How stores are made durable matters where there are any.
            let volatile = access == Access::Write
                && (is_tmpfs(&fd) || rustix::fs::fstatfs(&fd).is_ok_and(|fs| is_hugetlbfs(&fs)));
            Kind::File { len: stat.st_size.cast_unsigned(), volatile }
        }
        FileType::BlockDevice => Kind::Block { len: end(&fd, &name)? },
        FileType::CharacterDevice => dax_geometry(stat.st_rdev, &name)?,
        FileType::Directory => {
            return Err(Error::io("open", &name)(Errno::ISDIR));
        }
        // A DMA buffer's inode has no type.
        _ if is_dma_buf(&fd) => Kind::DmaBuf { len: end(&fd, &name)? },
        _ => {
            return Err(Error::invalid(format!(
                "{}: neither a file nor a device that memory can be mapped from",
                show_path(&name)
            )));
        }
    };
    Ok(Opened { fd, name, kind })
}

/// Whether a file's bytes are memory and nothing else.
pub(crate) fn is_tmpfs(fd: impl AsFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == libc::TMPFS_MAGIC)
}

/// Whether the files of a file system are huge pages, which are stored to and not written.
pub(crate) fn is_hugetlbfs(fs: &StatFs) -> bool {
    fs.f_type == libc::HUGETLBFS_MAGIC
}

fn is_dma_buf(fd: &OwnedFd) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .is_ok_and(|link| link.as_os_str().as_bytes().starts_with(b"/dmabuf:"))
}

fn end(fd: &OwnedFd, name: &Path) -> Result<u64> {
    rustix::fs::seek(fd, SeekFrom::End(0)).map_err(Error::io("find the size", name))
}

/// Size and alignment of a character device: only DAX devices have them.
fn dax_geometry(device: u64, name: &Path) -> Result<Kind> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let sysfs = PathBuf::from(format!("/sys/dev/char/{major}:{minor}"));
    let number = |file: &str| -> Option<u64> {
        parse_size(std::fs::read_to_string(sysfs.join(file)).ok()?.trim()).ok()
    };
    match (number("size"), number("align")) {
        (Some(len), Some(align)) if align > 0 => Ok(Kind::Dax { len: len - len % align, align }),
        _ => Err(Error::invalid(format!(
            "{}: not a DAX device; physical memory is named phys:ADDRESS+SIZE",
            show_path(name)
        ))),
    }
}

/// Turns a refusal to open into what the machine lacks.
fn explain_open(path: &Path, errno: Errno) -> Error {
    let text = path.to_string_lossy();
    let device = text.strip_prefix("/dev/").unwrap_or_default();
    let backing = |what: &str, advice: &str| Error::Backing {
        what: format!("{}: {what}", show_path(path)),
        advice: advice.into(),
        errno: errno.raw_os_error(),
    };
    match errno {
        Errno::NOENT if device.starts_with("dax") => backing(
            "no such DAX device",
            "`daxfs doctor` lists the devices, and says how to make them of CXL or persistent \
             memory",
        ),
        Errno::NXIO if device.starts_with("dax") => backing(
            match dax_driver(path).as_deref() {
                Some("kmem") => "in system-ram mode: the kernel uses the device as ordinary memory",
                _ => "no driver has the DAX device",
            },
            &format!("`daxctl reconfigure-device --mode=devdax {device}` changes that"),
        ),
        Errno::NOENT if device.starts_with("pmem") => backing(
            "no such persistent memory device",
            "`ndctl create-namespace --mode=fsdax` makes one; memmap=SIZE!ADDRESS on the kernel \
             command line makes one of plain memory",
        ),
        Errno::BUSY => backing("the device is in use", "unmount or stop what uses it"),
        _ => Error::io("open", path)(errno),
    }
}

/// The driver that has a DAX device.
fn dax_driver(path: &Path) -> Option<String> {
    let device = rustix::fs::stat(path).ok()?.st_rdev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let driver = std::fs::read_link(format!("/sys/dev/char/{major}:{minor}/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// An error on processors of which it is not known here how caches are written back: of memory that
/// is no file it could not be said that anything is durable.
fn expect_known_caches(name: &Path) -> Result<()> {
    if persist::KNOWN {
        return Ok(());
    }
    Err(Error::Backing {
        what: format!("{}: daxfs cannot write back the caches of this processor", show_path(name)),
        advice: "images can lie in files here".into(),
        errno: Errno::OPNOTSUPP.raw_os_error(),
    })
}

fn open_physical(address: u64, size: Option<u64>, access: Access) -> Result<Region> {
    let path = Path::new("/dev/mem");
    let name = PathBuf::from(format!("phys:{address:#x}"));
    expect_known_caches(&name)?;
    if !address.is_multiple_of(BLOCK_SIZE) {
        return Err(Error::invalid(format!("{}: not a multiple of 4096", show_path(&name))));
    }
    // Without O_SYNC, RAM is mapped write-back; with it, some architectures map it uncached.
    let fd = rustix::fs::open(path, flags(access), Mode::empty())
        .map_err(|errno| explain_physical(&name, errno))?;
    let map = |len: usize, access| {
        Region::map(&fd, address, len, access, Durability::Memory, name.clone(), None)
            .map_err(|(errno, name)| explain_physical(&name, errno))
    };
    let size = match size {
        Some(size) => size,
        None => {
            let mut first = vec![0; size_of::<Superblock>()];
            map(first.len(), Access::Read)?.read_into(0, &mut first)?;
            match Superblock::read_from_bytes(&first) {
                Ok(superblock) if superblock.magic == MAGIC => superblock.total_size.get(),
                _ => {
                    return Err(Error::corrupt(
                        "magic number of the superblock",
                        0,
                        format_args!("{MAGIC:#x} at physical address {address:#x}"),
                        "other bytes; give the size as phys:ADDRESS+SIZE to look regardless",
                    ));
                }
            }
        }
    };
    let len = usize::try_from(size)
        .map_err(|_| Error::invalid(format!("{}: size too large", show_path(&name))))?;
    map(len, access)
}

fn explain_physical(name: &Path, errno: Errno) -> Error {
    let advice = match errno {
        Errno::NOENT | Errno::NXIO => {
            "this system has no /dev/mem (a container, or CONFIG_DEVMEM is off)"
        }
        Errno::ACCESS => "only root may use /dev/mem",
        Errno::PERM => {
            "the kernel uses this range, or a driver owns it (see /proc/iomem): reserve memory \
             with memmap=SIZE$ADDRESS on the kernel command line; iomem=relaxed there opens what \
             a driver owns; CAP_SYS_RAWIO is needed, and lockdown must be off"
        }
        Errno::AGAIN => "somebody maps this range with another cache mode",
        Errno::INVAL => "the range lies beyond what the processor can address",
        _ => "check the range against /proc/iomem",
    };
    Error::Backing {
        what: format!("{}: cannot map physical memory: {}", show_path(name), reason(&errno.into())),
        advice: advice.into(),
        errno: errno.raw_os_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_takes_a_processor_whose_caches_are_known() {
        let physical = Source::Physical { address: 1, size: Some(BLOCK_SIZE) };
        let error = Region::open(&physical, Access::Read).expect_err("no block begins there");
        assert_eq!(matches!(error, Error::Backing { .. }), !persist::KNOWN, "{error}");
    }
}
