// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A tree as a tar archive: PAX, and the same bytes for the same tree.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tar_core::{EntryType, HeaderBuilder, HeaderError};

use crate::base::Inode;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::format::{device, mode};
use crate::names::Names;
use crate::paths::join;
use crate::progress::Progress;
use crate::source::pax;
use crate::view::{Entry, View};

use super::directories::{Directories, Directory};

/// Bytes copied at once.
const PIECE: usize = 256 << 10;
/// Unit of an archive.
const BLOCK: u64 = 512;
/// Longest name that a header holds.
const HEADER_NAME: usize = 100;
/// Largest owner in a header's field.
const HEADER_ID: u32 = 0o777_7777;
/// Largest size and time in a header's field.
const HEADER_NUMBER: u64 = 0o777_7777_7777;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TarSummary {
    /// Entries written.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Sockets left out: tar has no entry for them.
    pub sockets: u64,
}

/// Writes the directory `top` and what is below it as a tar archive; messages call it `name`.
pub fn to_tar(
    view: &View,
    top: &Inode,
    writer: &mut dyn Write,
    name: &Path,
    progress: &Progress,
) -> Result<TarSummary> {
    if !top.is_dir() {
        return Err(Error::invalid("only a directory can be written as an archive"));
    }
    let mut archive = Archive {
        view,
        progress,
        out: BufWriter::with_capacity(PIECE, writer),
        name,
        summary: TarSummary::default(),
    };
    // By directory and name.
    let mut first_names: HashMap<u64, (usize, Vec<u8>)> = HashMap::new();
    let names = Names::new(view);
    let mut seen = HashSet::from([top.ino]);
    let mut directories = Directories::new(*top);
    archive.entry(Vec::new(), top, None)?;
    // The directories on the way down, with how long their paths are and what is still to come of
    // each; the path of the last begins that of whatever is met.
    let mut open = vec![(0, 0, names.of(top)?.into_iter())];
    let mut here = Vec::new();
    while let Some((directory, len, entries)) = open.last_mut() {
        progress.check()?;
        let directory = *directory;
        here.truncate(*len);
        let Some(Entry { name, ino, .. }) = entries.next() else {
            open.pop();
            continue;
        };
        let inode = view.inode(ino)?;
        let path = join(&here, &name);
        if inode.is_dir() {
            if !seen.insert(ino) {
                return Err(Error::corrupt(
                    "directory",
                    view.image().base().inode_offset(ino),
                    "one name",
                    format_args!("a second one, {}", crate::error::show(&path)),
                ));
            }
            let number = directories.add(Directory::new(directory, name, inode));
            open.push((number, path.len(), names.of(&inode)?.into_iter()));
            here.clone_from(&path);
            archive.entry(path, &inode, None)?;
        } else if inode.nlink < 2 {
            archive.entry(path, &inode, None)?;
        } else if let Some((directory, name)) = first_names.get(&ino) {
            archive.entry(path, &inode, Some(&directories.path_of(*directory, name)))?;
        } else {
            first_names.insert(ino, (directory, name));
            archive.entry(path, &inode, None)?;
        }
    }
    archive.write(&[0; 2 * BLOCK as usize])?;
    archive.out.flush().map_err(|error| archive.failed(error))?;
    Ok(archive.summary)
}

struct Archive<'a> {
    view: &'a View,
    progress: &'a Progress,
    out: BufWriter<&'a mut dyn Write>,
    name: &'a Path,
    summary: TarSummary,
}

impl Archive<'_> {
    fn entry(&mut self, mut path: Vec<u8>, inode: &Inode, link: Option<&[u8]>) -> Result<()> {
        let (kind, target) = match (link, inode.kind()) {
            (_, mode::SOCKET) => {
                self.summary.sockets += 1;
                return Ok(());
            }
            (Some(first), _) => (EntryType::Link, first.to_vec()),
            (None, mode::REGULAR) => (EntryType::Regular, Vec::new()),
            (None, mode::DIRECTORY) => (EntryType::Directory, Vec::new()),
            (None, mode::SYMLINK) => (EntryType::Symlink, self.view.readlink(inode)?),
            (None, mode::CHAR) => (EntryType::Char, Vec::new()),
            (None, mode::BLOCK) => (EntryType::Block, Vec::new()),
            (None, mode::FIFO) => (EntryType::Fifo, Vec::new()),
            (None, other) => {
                let at = self.view.image().base().inode_offset(inode.ino);
                let found = format!("{other:#o} ({})", crate::error::show(&path));
                return Err(Error::corrupt("type of a file", at, "one of POSIX's", found));
            }
        };
        if inode.is_dir() {
            if path.is_empty() {
                path.push(b'.');
            }
            path.push(b'/');
        }
        let size = if kind == EntryType::Regular { inode.size } else { 0 };
        let records = self.records(&path, &target, inode, size, link.is_some())?;
        if !records.is_empty() {
            self.extended(&path, &records)?;
        }
        let seconds = inode.mtime.div_euclid(1_000_000_000).max(0);
        let header = header(kind, &path, &target).and_then(|mut header| {
            header.mode(inode.mode & 0o7777)?;
            header.uid(inode.uid.min(HEADER_ID).into())?;
            header.gid(inode.gid.min(HEADER_ID).into())?;
            header.size(size.min(HEADER_NUMBER))?;
            header.mtime(seconds.cast_unsigned().min(HEADER_NUMBER))?;
            if matches!(kind, EntryType::Char | EntryType::Block) {
                let (major, minor) = device::numbers(inode.rdev);
                header.device(major, minor)?;
            }
            Ok(header)
        });
        self.header(header)?;
        if size > 0 {
            self.contents(inode)?;
        }
        self.summary.entries += 1;
        self.summary.bytes += size;
        self.progress.advance(1, 0);
        Ok(())
    }

    /// PAX records for what the header cannot hold.
    fn records(
        &self,
        path: &[u8],
        target: &[u8],
        inode: &Inode,
        size: u64,
        link: bool,
    ) -> Result<Vec<u8>> {
        let mut records = Vec::new();
        for (keyword, text) in [(&b"path"[..], path), (b"linkpath", target)] {
            if text.len() > HEADER_NAME {
                if std::str::from_utf8(text).is_err() {
                    pax::append(&mut records, b"hdrcharset", b"BINARY");
                }
                pax::append(&mut records, keyword, text);
            }
        }
        for (keyword, id) in [(b"uid", inode.uid), (b"gid", inode.gid)] {
            if id > HEADER_ID {
                pax::append(&mut records, keyword, id.to_string().as_bytes());
            }
        }
        if size > HEADER_NUMBER {
            pax::append(&mut records, b"size", size.to_string().as_bytes());
        }
        let seconds = u64::try_from(inode.mtime / 1_000_000_000);
        let exact = inode.mtime >= 0 && inode.mtime % 1_000_000_000 == 0;
        if !exact || seconds.is_ok_and(|seconds| seconds > HEADER_NUMBER) {
            pax::append(&mut records, b"mtime", pax::format_time(inode.mtime).as_bytes());
        }
        // The first name has brought the attributes.
        if !link {
            for (name, value) in self.view.xattrs(inode)? {
                pax::append_xattr(&mut records, &name, &value);
            }
        }
        Ok(records)
    }

    fn extended(&mut self, path: &[u8], records: &[u8]) -> Result<()> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let name = [b"PaxHeaders/", name].concat();
        let name = &name[..name.len().min(HEADER_NAME)];
        self.header(header(EntryType::XHeader, name, b"").and_then(|mut header| {
            header.mode(0o644)?.size(records.len() as u64)?;
            Ok(header)
        }))?;
        self.write(records)?;
        self.pad(records.len() as u64)
    }

    fn header(&mut self, header: HeaderResult) -> Result<()> {
        let mut header =
            header.map_err(|error| Error::invalid(format!("header of an archive: {error}")))?;
        self.write(header.finish().as_bytes())
    }

    fn contents(&mut self, inode: &Inode) -> Result<()> {
        let mut buffer = Buffer::of(PIECE.min(inode.size as usize));
        let end = inode.size..inode.size;
        let runs = self.view.data_extents(inode)?.into_iter();
        let mut done = 0;
        for run in runs.map(|run| run.file_offset..run.end()).chain([end]) {
            if done < run.start {
                buffer.fill(0);
            }
            for (end, data) in [(run.start, false), (run.end, true)] {
                while done < end {
                    self.progress.check()?;
                    let len = (end - done).min(buffer.len() as u64);
                    let piece = &mut buffer[..len as usize];
                    if data {
                        self.view.read(inode, done, piece)?;
                    }
                    self.write(piece)?;
                    self.progress.advance(0, len);
                    done += len;
                }
            }
        }
        self.pad(inode.size)
    }

    fn pad(&mut self, len: u64) -> Result<()> {
        let padding = (len.next_multiple_of(BLOCK) - len) as usize;
        self.write(&[0; BLOCK as usize][..padding])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        if self.progress.is_cancelled() {
            return Error::Interrupted;
        }
        Error::io("write", self.name)(error)
    }
}

type HeaderResult = std::result::Result<HeaderBuilder, HeaderError>;

/// A header with as much of the names as it holds.
fn header(kind: EntryType, path: &[u8], target: &[u8]) -> HeaderResult {
    let mut header = HeaderBuilder::new_ustar();
    header.entry_type(kind);
    header.path(&path[..path.len().min(HEADER_NAME)])?;
    header.link_name(&target[..target.len().min(HEADER_NAME)])?;
    Ok(header)
}
