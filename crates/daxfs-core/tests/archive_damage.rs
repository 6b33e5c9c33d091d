// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: a damaged or hostile archive is refused with a reason, neither panics nor takes
//! memory for what it only claims.

#[path = "common/archives.rs"]
mod archives;
#[path = "common/trees.rs"]
mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use archives::{PAX, Writer, gnu_tar, pax_records, scan_bytes, scan_with};
use daxfs_core::source::{ArchiveInput, Selection};
use tar::{EntryType, Header};
use tempfile::TempDir;

#[test]
fn damaged_archives_are_refused() {
    let whole = Writer::default().file("a", "data").file("b", &"x".repeat(1000)).end();
    assert!(scan_bytes(whole.clone()).is_ok());
    let message = |bytes: Vec<u8>| scan_bytes(bytes).unwrap_err().to_string();
    let ends = [
        (0, "test: it is empty"),
        (300, "test: it ends in a header at 0x0: truncated"),
        (512, "test: 4 bytes from 0x200 on are not all there: truncated"),
        (1024, "test: it has no end-of-archive mark: truncated, or not finished by its writer"),
        (1800, "test: 1000 bytes from 0x600 on are not all there: truncated"),
        (2560, "test: it has no end-of-archive mark: truncated, or not finished by its writer"),
    ];
    for (len, expected) in ends {
        assert_eq!(message(whole[..len].to_vec()), expected);
    }
    let mut flipped = whole.clone();
    flipped[1024] ^= 1;
    assert!(message(flipped).starts_with("test: no sound entry at 0x400: header error: checksum"));
    assert_eq!(message(vec![7; 4096]), "test: not a tar archive");
    let mut lone = whole.clone();
    lone[1024..1536].fill(0);
    assert!(message(lone).starts_with("test: no sound entry at 0x400: header error:"));
    let records = |records: &[u8]| {
        message(Writer::default().entry(EntryType::XHeader, "p", "", records).file("a", "").end())
    };
    assert_eq!(
        records(b"99 path=x\n"),
        "test: no sound entry at 0x0: PAX error: malformed PAX extension record"
    );
    assert_eq!(records(b"10 path=x\n?"), "test: a PAX header at 0x0 that makes no sense");
    assert_eq!(records(b"13 size=many\n"), "test: PAX record size is not a number");
    let global = |records| {
        let records = pax_records(records);
        message(Writer::default().entry(EntryType::XGlobalHeader, "g", "", &records).end())
    };
    assert_eq!(global(&[("size", "1")]), "test: a global PAX header at 0x0 unfit for all");
    let unfit = [("GNU.sparse.size", "10"), ("GNU.sparse.map", "4,9")];
    assert!(
        message(Writer::default().pax(&unfit).file("a", "1234").end())
            .contains("a: sparse file whose map does not fit its data; write the archive with")
    );
}

/// What an entry claims about itself reserves no memory.
#[test]
fn descriptions_without_end_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("archive");
    let message = |start: &[u8], rest: u8| {
        let file = File::create(&path).unwrap();
        (&file).write_all(start).unwrap();
        if rest == 0 {
            file.set_len(64 << 30).unwrap();
        } else {
            (&file).write_all(&vec![rest; 200 << 20]).unwrap();
        }
        let scanned = scan_with(ArchiveInput::Path(path.clone()), &Selection::default());
        scanned.unwrap_err().to_string()
    };
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName] {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(60 << 30);
        header.set_cksum();
        let found = message(header.as_bytes(), 0);
        assert!(found.contains("metadata exceeds limit: 64424509440 bytes"), "{found}");
    }
    // The text of a sparse map, with no line in it.
    let version = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
    let size = [version[0], version[1], ("GNU.sparse.realsize", "1")];
    let mut map = Writer::default();
    map.pax(&size).file("a", "");
    let found = message(&map.0, b'7');
    assert!(found.contains("headers without an end at 0x0"), "{found}");
}

/// No input may make the scanner panic: cut and flip a real archive at every field.
#[test]
fn no_damage_is_a_panic() {
    let out = TempDir::new().unwrap();
    let tree = out.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 70_000).unwrap();
    fs::write(tree.join("file"), "text").unwrap();
    common::set_xattr(&tree.join("file"), "user.a", b"b");
    let archive: PathBuf = out.path().join("archive");
    for options in [&["--format=gnu", "--sparse"][..], &[&PAX[..], &["--sparse"]].concat()] {
        gnu_tar(&tree, &archive, options);
        let bytes = fs::read(&archive).unwrap();
        let end = bytes.len().min(10_240);
        for at in (0..end).step_by(7) {
            for value in [0, b'9', 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let block = at / 512 * 512;
                // Let the damage past the checksum.
                if let Ok(field) = <&mut [u8; 512]>::try_from(&mut damaged[block..block + 512]) {
                    let mut header = Header::from_byte_slice(&field[..]).clone();
                    header.set_cksum();
                    field.copy_from_slice(header.as_bytes());
                }
                let _ = scan_bytes(damaged);
            }
        }
    }
}
