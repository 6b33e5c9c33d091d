// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An archive as one plain, seekable file: decompressed and spooled where it is not one already.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use tar_core::SparseEntry;

use crate::buffer::Buffer;
use crate::error::{Error, Result, show_path};
use crate::format::BLOCK_SIZE;
use crate::patient::Patient;
use crate::progress::Progress;

/// Bytes copied at once.
const PIECE: usize = 1 << 20;
/// Bytes that tell one compression from another.
const MAGIC_MAX: usize = 6;

/// Where an archive comes from.
pub enum ArchiveInput {
    /// A file, or whatever else can be opened by name.
    Path(PathBuf),
    /// The process's standard input.
    Stdin,
    /// Bytes as they come, and what to call them in messages.
    Stream(PathBuf, Box<dyn Read + Send>),
}

impl std::fmt::Debug for ArchiveInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) | Self::Stream(path, _) => {
                f.debug_tuple("ArchiveInput").field(path).finish()
            }
            Self::Stdin => f.write_str("ArchiveInput(stdin)"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compression {
    fn detect(magic: &[u8]) -> std::result::Result<Self, &'static str> {
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [b'B', b'Z', b'h', ..] => Ok(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Ok(Self::Xz),
            // Either a frame, or a skippable frame before one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0x1f, 0x9d, ..] => Err("compress"),
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Err("lz4"),
            // It has no magic; what all of its writers begin with, the size of the dictionary last.
            [0x5d, 0, 0, a, b, ..] if a | b != 0 => Err("lzma"),
            [b'L', b'Z', b'I', b'P', ..] => Err("lzip"),
            [0x89, b'L', b'Z', b'O', ..] => Err("lzop"),
            [b'P', b'K', 3, 4, ..] => Err("zip"),
            _ => Ok(Self::None),
        }
    }

    /// Reads all members or frames of a stream, one after the other.
    fn decoder<'a>(self, source: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(source),
            Self::Gzip => Box::new(GzipMembers(Some(GzDecoder::new(source)))),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
            Self::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(source)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(source)?),
        })
    }
}

/// The members of a gzip file, one after the other. Zeroes behind the last one are padding to the
/// blocks of some medium, as for gzip(1).
struct GzipMembers<R>(Option<GzDecoder<R>>);

impl<R: BufRead> GzipMembers<R> {
    fn next(mut source: R) -> io::Result<Option<GzDecoder<R>>> {
        let mut padded = false;
        loop {
            let there = source.fill_buf()?;
            if there.is_empty() {
                return Ok(None);
            }
            let zeroes = there.iter().take_while(|byte| **byte == 0).count();
            padded |= zeroes > 0;
            if zeroes < there.len() && padded {
                let what = "other bytes behind the end of the compressed data";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            if !padded {
                return Ok(Some(GzDecoder::new(source)));
            }
            source.consume(zeroes);
        }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.0.take() {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                self.0 = Some(member);
                return Ok(read);
            }
            self.0 = Self::next(member.into_inner())?;
        }
        Ok(0)
    }
}

/// A plain archive in a file, which can be extended by expanded contents if it is spooled.
pub(super) struct Archive {
    file: File,
    /// Bytes of the archive itself.
    pub(super) len: u64,
    name: PathBuf,
    /// Directory for a spool; none once the file is one.
    spool_dir: Option<PathBuf>,
    /// End of the archive and of what was appended to it.
    end: u64,
}

impl Archive {
    /// Opens an archive; anything but a plain one in a regular file is spooled.
    pub(super) fn open(input: ArchiveInput, spool_dir: &Path, progress: &Progress) -> Result<Self> {
        let (name, stream): (_, Box<dyn Read>) = match input {
            ArchiveInput::Stream(name, stream) => (name, stream),
            ArchiveInput::Stdin => {
                let name = PathBuf::from("standard input");
                let file = io::stdin().as_fd().try_clone_to_owned();
                let file = file.map_err(Error::io("open", &name))?.into();
                (name, Box::new(Patient::new(file, progress)))
            }
            ArchiveInput::Path(name) => {
                // A FIFO that nobody writes to yet is waited for when it is read.
                let mut how = File::options();
                how.read(true).custom_flags(libc::O_NONBLOCK);
                let mut file = how.open(&name).map_err(Error::io("open", &name))?;
                let metadata = file.metadata().map_err(Error::io("examine", &name))?;
                if metadata.is_file() {
                    let magic = read_magic(&mut file).map_err(Error::io("read", &name))?;
                    io::Seek::rewind(&mut file).map_err(Error::io("read", &name))?;
                    if detect(&magic, &name)? == Compression::None {
                        let (len, spool_dir) = (metadata.len(), Some(spool_dir.to_owned()));
                        return Ok(Self { file, len, name, spool_dir, end: len });
                    }
                }
                (name, Box::new(Patient::new(file, progress)))
            }
        };
        let (file, len) = decompress(stream, &name, spool_dir, progress)?;
        Ok(Self { file, len, name, spool_dir: None, end: len })
    }

    /// What the archive is called.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// The file that holds the archive.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Fills `window` with `len` bytes from `position` on, or what is there of them.
    pub(super) fn window(&self, position: u64, len: usize, window: &mut Vec<u8>) -> Result<()> {
        let there = self.len.saturating_sub(position);
        window.resize(there.min(len as u64) as usize, 0);
        self.file.read_exact_at(window, position).map_err(Error::io("read", &self.name))
    }

    /// Appends a file of `size` bytes whose `segments` lie packed at `position`,
    /// and holes elsewhere; returns where.
    pub(super) fn expand(
        &mut self,
        position: u64,
        segments: &[SparseEntry],
        size: u64,
        progress: &Progress,
    ) -> Result<u64> {
        if let Some(dir) = self.spool_dir.take() {
            io::Seek::rewind(&mut self.file).map_err(Error::io("read", &self.name))?;
            // What it has grown by meanwhile must not be in holes.
            let whole = (&self.file).take(self.len);
            let failed = |error| Error::io("read", &self.name)(error);
            self.file = spool(whole, failed, &dir, progress)?.0;
        }
        let start = self.end.next_multiple_of(BLOCK_SIZE);
        let grow = Error::io("expand a sparse file of", &self.name);
        let end = start
            .checked_add(size)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| io::Error::from(rustix::io::Errno::FBIG))
            .and_then(|end| self.file.set_len(end).map(|()| end));
        self.end = end.map_err(grow)?;
        let mut from = position;
        let mut buffer = Buffer::of(PIECE);
        for SparseEntry { offset, length } in segments {
            let mut done = 0;
            while done < *length {
                progress.check()?;
                let piece = &mut buffer[..(length - done).min(PIECE as u64) as usize];
                self.file
                    .read_exact_at(piece, from)
                    .and_then(|()| self.file.write_all_at(piece, start + offset + done))
                    .map_err(Error::io("expand a sparse file of", &self.name))?;
                from += piece.len() as u64;
                done += piece.len() as u64;
            }
        }
        Ok(start)
    }
}

/// An unlinked file: it goes when it is closed, whatever happens to the process.
fn create(dir: &Path) -> Result<File> {
    tempfile::tempfile_in(dir).map_err(Error::io("create a temporary file in", dir))
}

fn detect(magic: &[u8], name: &Path) -> Result<Compression> {
    Compression::detect(magic).map_err(|other| Error::Unsupported {
        what: format!(
            "{}: {other} compression; decompress the archive first, or use gzip, bzip2, xz or zstd",
            show_path(name)
        ),
    })
}

fn read_magic(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(MAGIC_MAX);
    source.take(MAGIC_MAX as u64).read_to_end(&mut magic)?;
    Ok(magic)
}

fn decompress(
    stream: impl Read,
    name: &Path,
    dir: &Path,
    progress: &Progress,
) -> Result<(File, u64)> {
    let failed = |action: &'static str, error: io::Error| {
        if progress.is_cancelled() { Error::Interrupted } else { Error::io(action, name)(error) }
    };
    let mut stream = BufReader::with_capacity(PIECE, stream);
    let magic = read_magic(&mut stream).map_err(|error| failed("read", error))?;
    let compression = detect(&magic, name)?;
    let mut decoder =
        compression.decoder(magic.chain(stream)).map_err(|error| failed("decompress", error))?;
    let action = if compression == Compression::None { "read" } else { "decompress" };
    spool(&mut decoder, |error| failed(action, error), dir, progress)
}

/// Copies a stream to a file without a name; gives that and its bytes.
fn spool(
    mut stream: impl Read,
    failed: impl Fn(io::Error) -> Error,
    dir: &Path,
    progress: &Progress,
) -> Result<(File, u64)> {
    let mut spool = create(dir)?;
    let mut buffer = Buffer::of(PIECE);
    let mut len = 0;
    loop {
        progress.check()?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok((spool, len)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        spool.write_all(&buffer[..read]).map_err(Error::io("spool the archive in", dir))?;
        len += read as u64;
        progress.advance(0, read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_archive_grows_by_is_in_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        std::fs::write(&path, "data").unwrap();
        let progress = Progress::default();
        let input = ArchiveInput::Path(path.clone());
        let mut archive = Archive::open(input, dir.path(), &progress).unwrap();
        std::fs::write(&path, [b'x'; 1 << 16]).unwrap();
        let size = 3 * BLOCK_SIZE;
        let start = archive.expand(0, &[], size, &progress).unwrap();
        let mut hole = vec![1; size as usize];
        archive.file.read_exact_at(&mut hole, start).unwrap();
        assert_eq!(hole, vec![0; size as usize]);
    }
}
