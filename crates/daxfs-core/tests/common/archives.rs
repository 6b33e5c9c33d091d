// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Archives to scan, written by GNU tar or entry by entry.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use daxfs_core::error::Error;
use daxfs_core::progress::Progress;
use daxfs_core::source::{ArchiveInput, Scan, Selection, scan_archive};
use tar::{EntryType, Header};

use crate::common::run;

pub(crate) const PAX: [&str; 4] = ["--format=posix", "--xattrs", "--xattrs-include=*", "--no-acls"];

pub(crate) fn scan_with(input: ArchiveInput, selection: &Selection) -> Result<Scan, Error> {
    scan_archive(input, &std::env::temp_dir(), selection, &Progress::default())
}

pub(crate) fn scan(path: &Path) -> Scan {
    scan_with(ArchiveInput::Path(path.to_owned()), &Selection::default()).unwrap()
}

pub(crate) fn scan_bytes(bytes: Vec<u8>) -> Result<Scan, Error> {
    let input = ArchiveInput::Stream("test".into(), Box::new(Cursor::new(bytes)));
    scan_with(input, &Selection::default())
}

/// Archives `tree` with GNU tar.
pub(crate) fn gnu_tar(tree: &Path, archive: &Path, options: &[&str]) {
    archive_with("tar", tree, archive, options);
}

/// Archives `tree` with a program that takes GNU tar's options.
pub(crate) fn archive_with(program: &str, tree: &Path, archive: &Path, options: &[&str]) {
    run(Command::new(program).args(options).arg("-cf").arg(archive).arg("-C").arg(tree).arg("."));
}

/// Writes an archive entry by entry.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn entry(
        &mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        data: &[u8],
    ) -> &mut Self {
        let mut header = header(kind, path, data.len());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.header(header).data(data)
    }

    pub(crate) fn header(&mut self, mut header: Header) -> &mut Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    pub(crate) fn data(&mut self, data: &[u8]) -> &mut Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(&mut self, path: &str, data: &str) -> &mut Self {
        self.entry(EntryType::Regular, path, "", data.as_bytes())
    }

    pub(crate) fn pax(&mut self, records: &[(&str, &str)]) -> &mut Self {
        self.entry(EntryType::XHeader, "PaxHeaders", "", &pax_records(records))
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        std::mem::take(&mut self.0)
    }
}

pub(crate) fn header(kind: EntryType, path: &str, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_mode(0o640);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(3);
    header.set_size(size as u64);
    header
}

pub(crate) fn pax_records(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (keyword, value) in records {
        let rest = keyword.len() + value.len() + 3;
        let length = (rest..).find(|len| *len == rest + len.to_string().len()).unwrap();
        bytes.extend_from_slice(format!("{length} {keyword}={value}\n").as_bytes());
    }
    bytes
}
