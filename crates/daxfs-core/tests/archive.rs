// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: scanning an archive gives what extracting it would, whoever wrote it and however it
//! is compressed; an archive that cannot be taken whole says so.

#[path = "common/archives.rs"]
mod archives;
#[path = "common/trees.rs"]
mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use archives::{
    PAX, Writer, archive_with, gnu_tar, header, pax_records, scan, scan_bytes, scan_with,
};
use common::{Without, describe, find, run, scan_dir};
use daxfs_core::format::mode;
use daxfs_core::progress::Progress;
use daxfs_core::source::{ArchiveInput, Exclude, Scan, Selection, scan_archive};
use tar::{EntryType, Header};
use tempfile::TempDir;

#[track_caller]
fn assert_same(archive: &Path, tree: &Path, without: Without) {
    let scan = scan(archive);
    assert_eq!(scan.problems, []);
    let (found, expected) = (describe(&scan, without), describe(&scan_dir(tree), without));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn pax_archives_keep_everything() {
    let tree = common::tree();
    let archive = tree.path().with_extension("tar");
    gnu_tar(tree.path(), &archive, &PAX);
    assert_same(&archive, tree.path(), Without::default());
    fs::remove_file(archive).unwrap();
}

#[test]
fn access_control_lists_become_attributes() {
    let tree = TempDir::new().unwrap();
    let out = TempDir::new().unwrap();
    fs::create_dir(tree.path().join("dir")).unwrap();
    fs::write(tree.path().join("dir/file"), "text").unwrap();
    // Only one of them gives numbers to groups that have names.
    for (program, group) in [("tar", 54321), ("bsdtar", 1)] {
        let value = common::acl(group);
        for (path, list) in [("dir", "default"), ("dir/file", "access")] {
            let (path, name) = (tree.path().join(path), format!("system.posix_acl_{list}"));
            rustix::fs::setxattr(path, name, &value, rustix::fs::XattrFlags::empty()).unwrap();
        }
        let archive = out.path().join(program);
        archive_with(program, tree.path(), &archive, &["--format=pax", "--acls"]);
        assert_same(&archive, tree.path(), Without::default());
    }
}

#[test]
fn attributes_of_any_name_are_taken() {
    let tree = TempDir::new().unwrap();
    let out = TempDir::new().unwrap();
    fs::write(tree.path().join("file"), "text").unwrap();
    for name in ["user.plain", "user.caf\u{e9} a=b%3Dc%25", "user.%C3%A9"] {
        common::set_xattr(&tree.path().join("file"), name, name.as_bytes());
    }
    // Names are bytes.
    let name = OsStr::from_bytes(b"user.\xff");
    common::set_xattr(&tree.path().join("file"), name, b"\0\xff\n");
    // The same, where records are of a long name and a long target, too.
    let long = "l".repeat(100);
    fs::rename(tree.path().join("file"), tree.path().join(&long)).unwrap();
    std::os::unix::fs::symlink("t".repeat(200), tree.path().join("link")).unwrap();
    let archive = out.path().join("archive");
    gnu_tar(tree.path(), &archive, &PAX);
    assert_same(&archive, tree.path(), Without::default());
    for headers in ["SCHILY", "LIBARCHIVE", "ALL"] {
        let option = format!("--options=pax:xattrheader={headers}");
        archive_with("bsdtar", tree.path(), &archive, &["--format=pax", "--xattrs", &option]);
        assert_same(&archive, tree.path(), Without::default());
    }
}

#[test]
fn deep_paths_cost_what_they_have_bytes() {
    // Joined anew for every directory, this path would be some 40 GB.
    let path = "d/".repeat(200_000);
    let bytes =
        Writer::default().pax(&[("path", &path)]).entry(EntryType::Directory, "d", "", b"").end();
    let scan = scan_bytes(bytes).unwrap();
    assert_eq!(scan.problems, []);
    assert_eq!(scan.tree.nodes().len(), 200_001);
}

#[test]
fn sparse_files_of_every_version_are_expanded() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    for version in ["0.0", "0.1", "1.0"] {
        let archive = out.path().join(version);
        let version = format!("--sparse-version={version}");
        gnu_tar(tree.path(), &archive, &[&PAX[..], &["--sparse", &version]].concat());
        assert!(fs::metadata(&archive).unwrap().len() < common::HUGE);
        assert_same(&archive, tree.path(), Without::default());
    }
    let archive = out.path().join("old");
    gnu_tar(tree.path(), &archive, &["--format=gnu", "--sparse"]);
    assert!(fs::metadata(&archive).unwrap().len() < common::HUGE);
    assert_same(&archive, tree.path(), Without { nanoseconds: true, xattrs: true });
}

/// What GNU tar makes of an archive, whose first entry is of the root.
#[track_caller]
fn assert_as_gnu_tar_extracts(archive: &[u8]) {
    let out = TempDir::new().unwrap();
    let (path, tree) = (out.path().join("archive"), out.path().join("tree"));
    fs::write(&path, archive).unwrap();
    fs::create_dir(&tree).unwrap();
    run(Command::new("tar").arg("-xpf").arg(&path).arg("--numeric-owner").arg("-C").arg(&tree));
    assert_same(&path, &tree, Without::default());
}

/// What is larger than a header's digits can say has its size in a record, and nothing in the header;
/// of a sparse file, that of the map included.
#[test]
fn sizes_in_records_are_those_of_data_and_map() {
    let (map, data) = ("2\n1000\n600\n3000\n0\n", "s".repeat(600));
    let stored = (512 + data.len()).to_string();
    let records = [
        ("size", &stored[..]),
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", "3000"),
    ];
    for size in [0, 512 + data.len()] {
        let mut writer = Writer::default();
        writer.entry(EntryType::Directory, "./", "", b"").pax(&records);
        let packed = header(EntryType::Regular, "packed", size);
        writer.header(packed).data(map.as_bytes()).data(data.as_bytes());
        // The same of a file that is not sparse, and with a long name between record and header.
        writer.pax(&[("size", "4"), ("mtime", "5")]);
        let long = "l".repeat(120);
        writer.entry(EntryType::GNULongName, "././@LongLink", "", long.as_bytes());
        writer.header(header(EntryType::Regular, "long", 0)).data(b"text").file("next", "more");
        assert_as_gnu_tar_extracts(&writer.end());
    }
}

/// v7 knows directories by a slash behind their names; the size that some give them is of no data.
#[test]
fn directories_have_no_data_whatever_their_size() {
    let mut writer = Writer::default();
    writer.entry(EntryType::Directory, "./", "", b"");
    for (kind, path) in [(b'0', "old/"), (0, "older/"), (b'5', "new/")] {
        let header = header(EntryType::new(kind), path, 512);
        writer.header(header).file(&format!("{path}file"), "data");
    }
    assert_as_gnu_tar_extracts(&writer.end());
}

#[test]
fn gnu_archives_keep_long_names_and_early_times() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    for format in ["gnu", "oldgnu"] {
        let archive = out.path().join(format);
        gnu_tar(tree.path(), &archive, &[&format!("--format={format}")]);
        assert_same(&archive, tree.path(), Without { nanoseconds: true, xattrs: true });
    }
}

#[test]
fn archives_of_other_programs_are_the_same() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    // It writes -1.5 seconds as -2.5.
    common::set_mtime(&tree.path().join("set-id"), -2, 0);
    let archive = out.path().join("bsdtar");
    archive_with("bsdtar", tree.path(), &archive, &["--format=pax", "--xattrs"]);
    assert_same(&archive, tree.path(), Without::default());

    // What the oldest formats can hold.
    let plain = TempDir::new().unwrap();
    fs::create_dir_all(plain.path().join(format!("{}/{}", "a".repeat(80), "b".repeat(60))))
        .unwrap();
    fs::write(plain.path().join("file"), "text").unwrap();
    fs::hard_link(plain.path().join("file"), plain.path().join("other")).unwrap();
    std::os::unix::fs::symlink("file", plain.path().join("symlink")).unwrap();
    let seconds = Without { nanoseconds: true, xattrs: false };
    let archive = out.path().join("ustar");
    gnu_tar(plain.path(), &archive, &["--format=ustar"]);
    assert_same(&archive, plain.path(), seconds);
    let archive = out.path().join("python");
    run(Command::new("python3")
        .args(["-c", "import sys,tarfile; t=tarfile.open(sys.argv[1],'w'); t.add(sys.argv[2],'.'); t.close()"])
        .args([&archive, plain.path()]));
    assert_same(&archive, plain.path(), seconds);
    let archive = out.path().join("cpio");
    let pipe = "cd \"$1\" && find . -mindepth 1 | cpio --quiet -o -H ustar > \"$2\"";
    run(Command::new("sh").args(["-c", pipe, "sh"]).arg(plain.path()).arg(&archive));
    assert_eq!(
        describe(&scan(&archive), seconds)[1..],
        describe(&scan_dir(plain.path()), seconds)[1..]
    );
    fs::remove_dir_all(plain.path().join("a".repeat(80))).unwrap();
    let archive = out.path().join("v7");
    gnu_tar(plain.path(), &archive, &["--format=v7"]);
    assert_same(&archive, plain.path(), seconds);
}

#[test]
fn compressed_archives_are_recognised_by_their_bytes() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let plain = out.path().join("plain");
    gnu_tar(tree.path(), &plain, &PAX);
    // Some writers make several streams, which follow each other.
    let half = fs::metadata(&plain).unwrap().len() / 2;
    let bytes = fs::read(&plain).unwrap();
    let (first, second) = bytes.split_at(half as usize);
    for command in [
        "gzip -c",
        "bzip2 -c",
        "xz -c",
        "xz -c --check=sha256 --x86 --lzma2",
        "zstd -c -q --ultra -22",
        "zstd -c -q -1 --no-check",
        "zstd -c -q --long=27",
    ] {
        let mut compressed = Vec::new();
        if command.starts_with("zstd") {
            // A frame that readers skip.
            compressed.extend_from_slice(&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        }
        for part in [first, second] {
            compressed.extend(filter(command, part));
        }
        let archive = out.path().join("archive");
        fs::write(&archive, &compressed).unwrap();
        assert_same(&archive, tree.path(), Without::default());
        let cut = compressed[..compressed.len() - 9].to_vec();
        assert!(scan_bytes(cut).is_err(), "{command}");
    }
    // Padding to the blocks of a medium; anything else behind the end is not passed over.
    let mut padded = filter("gzip -c", &bytes);
    padded.resize(padded.len() + 3000, 0);
    assert_eq!(scan_bytes(padded.clone()).unwrap().problems, []);
    padded.push(1);
    let other = scan_bytes(padded).unwrap_err();
    assert!(other.to_string().contains("other bytes behind the end"), "{other}");
    for (bytes, name) in [
        (vec![0x04, 0x22, 0x4d, 0x18, 0, 0, 0], "lz4"),
        (vec![0x02, 0x21, 0x4c, 0x18, 0, 0, 0], "lz4"),
        (filter("xz -c --format=lzma", &bytes), "lzma"),
    ] {
        let error = scan_bytes(bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("{name} compression; decompress")), "{error}");
    }
}

fn filter(command: &str, input: &[u8]) -> Vec<u8> {
    let mut words = command.split(' ');
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success(), "{command}");
    output
}

#[test]
fn streams_are_spooled_to_a_file_without_a_name() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let archive = out.path().join("archive");
    gnu_tar(tree.path(), &archive, &PAX);
    let spool = TempDir::new().unwrap();
    let stream = ArchiveInput::Stream("pipe".into(), Box::new(File::open(&archive).unwrap()));
    let scan =
        scan_archive(stream, spool.path(), &Selection::default(), &Progress::default()).unwrap();
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
    let expected = describe(&scan_dir(tree.path()), Without::default());
    assert_eq!(describe(&scan, Without::default()), expected);
}

/// Problems of a scan as text.
fn problems(scan: &Scan) -> Vec<String> {
    scan.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn missing_directories_are_made_and_late_ones_described() {
    let bytes = Writer::default()
        .file("./a/b/c", "x")
        .file("/absolute//./path", "y")
        .entry(EntryType::Directory, "a/", "", b"")
        .end();
    let scan = scan_bytes(bytes).unwrap();
    assert_eq!(scan.problems, []);
    let attributes = |path| {
        let node = find(&scan.tree, path).unwrap();
        (node.mode, node.uid, node.mtime)
    };
    assert_eq!(attributes("a"), (mode::DIRECTORY | 0o640, 1, 3_000_000_000));
    assert_eq!(attributes("a/b"), (mode::DIRECTORY | 0o755, 0, 0));
    assert_eq!(attributes("absolute/path"), (mode::REGULAR | 0o640, 1, 3_000_000_000));
    assert_eq!(scan.tree.node(0).mode, mode::DIRECTORY | 0o755);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let bytes = Writer::default()
        .file("a", "first")
        .entry(EntryType::Link, "b", "a", b"")
        .file("a", "second!")
        .entry(EntryType::Directory, "d", "", b"")
        .entry(EntryType::Symlink, "d", "a", b"")
        .file("e", "")
        .entry(EntryType::Directory, "e", "", b"")
        .file("e/f", "")
        .end();
    let scan = scan_bytes(bytes).unwrap();
    assert_eq!(scan.problems, []);
    let of =
        |path| find(&scan.tree, path).map(|node| (node.mode & mode::TYPE, node.size, node.nlink));
    assert_eq!(of("a"), Some((mode::REGULAR, 7, 1)));
    assert_eq!(of("b"), Some((mode::REGULAR, 5, 1)));
    assert_eq!(of("d"), Some((mode::SYMLINK, 1, 1)));
    assert_eq!(of("e/f"), Some((mode::REGULAR, 0, 1)));
}

#[test]
fn everything_that_cannot_be_taken_is_named() {
    let long = "n".repeat(129);
    let mut device = Header::new_ustar();
    device.set_entry_type(EntryType::Char);
    device.as_old_mut().name[..6].copy_from_slice(b"device");
    device.set_device_major(5000).unwrap();
    for set in [Header::set_uid, Header::set_gid, Header::set_size, Header::set_mtime] {
        set(&mut device, 0);
    }
    device.set_mode(0);
    let bytes = Writer::default()
        .file("good", "1")
        .file("", "0")
        .file("../escape", "2")
        .pax(&[("path", &long)])
        .file("short", "3")
        .entry(EntryType::Link, "link", "nowhere", b"")
        .entry(EntryType::Link, "dirlink", "dir", b"")
        .entry(EntryType::Directory, "dir", "", b"")
        .entry(EntryType::Link, "dirlink", "dir", b"")
        .file("dir/x", "")
        .file("dir", "")
        .file("good/below", "")
        .entry(EntryType::Symlink, "symlink", "", b"")
        .entry(EntryType::new(b'M'), "volume", "", b"4")
        .entry(EntryType::new(b'?'), "unknown", "", b"5")
        .header(device)
        .pax(&[("uid", "4294967295")])
        .file("owner", "")
        .pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")])
        .file("sparse", "")
        .pax(&[("GNU.sparse.size", "10"), ("GNU.sparse.map", "8,4")])
        .file("outside", "1234")
        .pax(&[("GNU.sparse.size", "9223372036854775807"), ("GNU.sparse.map", "0,4")])
        .file("vast", "1234")
        .pax(&[("LIBARCHIVE.xattr.user.a", "AP8?")])
        .file("attributes", "")
        .pax(&[("SCHILY.acl.access", "user::rw-,user:joe:rw-,group::r--,mask::rw-,other::---")])
        .file("list", "")
        .file("last", "6")
        .end();
    let scan = scan_bytes(bytes).unwrap();
    let found = problems(&scan);
    let expected = [
        ".: the root can only be a directory",
        "../escape: path with a \"..\" in it",
        "link: hard link to nowhere, which is not there",
        "dirlink: hard link to dir, which is not there",
        "dirlink: hard link to dir, a directory",
        "dir: in the place of a directory that is not empty",
        "good/below: good on the way to it is not a directory",
        "symlink: symbolic link without a sound target",
        "volume: part of a file that begins in another volume",
        "unknown: entry of unknown type '?'",
        "device: device 5000:0, at most 4095:1048575 are possible",
        "owner: uid 4294967295, at most 4294967294 is possible",
        "sparse: sparse file in a format that is not known; write the archive with tar \
         --format=gnu",
        "outside: sparse file whose pieces overlap or lie outside",
        "attributes: extended attribute user.a: Invalid symbol 63, offset 3.",
        "list: access control list: names of users or groups without their numbers; write the \
         archive with bsdtar --acls, which adds them",
    ];
    assert_eq!(found[..expected.len()], expected);
    assert_eq!(found[16], format!("{long}: name of 129 bytes, at most 128 are possible"));
    assert!(found[17].starts_with("vast: sparse file of 9223372036854775807 bytes: "), "{found:?}");
    assert_eq!(found.len(), 18);
    assert_eq!(find(&scan.tree, "last").unwrap().size, 1);
}

#[test]
fn no_name_of_a_file_is_left_that_cannot_be_taken() {
    let bytes = Writer::default()
        .pax(&[("GNU.sparse.size", "9223372036854775807"), ("GNU.sparse.map", "0,4")])
        .file("vast", "1234")
        .entry(EntryType::Link, "other", "vast", b"")
        .file("last", "6")
        .end();
    let scan = scan_bytes(bytes).unwrap();
    let found: Vec<_> = scan.problems.iter().map(|problem| &problem.path[..]).collect();
    assert_eq!(found, [&b"other"[..], b"vast"]);
    assert_eq!(scan.tree.names(), 2);
}

#[test]
fn global_records_apply_until_they_are_replaced() {
    let bytes = Writer::default()
        .entry(EntryType::XGlobalHeader, "g", "", &pax_records(&[("uid", "77"), ("comment", "x")]))
        .file("a", "")
        .pax(&[("uid", "88")])
        .file("b", "")
        .pax(&[("uid", ""), ("mtime", "-0.25")])
        .file("c", "")
        .entry(EntryType::XGlobalHeader, "g", "", &pax_records(&[("uid", "")]))
        .file("d", "")
        .end();
    let scan = scan_bytes(bytes).unwrap();
    let uid = |path| find(&scan.tree, path).unwrap().uid;
    assert_eq!([uid("a"), uid("b"), uid("c"), uid("d")], [77, 88, 1, 1]);
    assert_eq!(find(&scan.tree, "c").unwrap().mtime, -250_000_000);
}

#[test]
fn excluded_entries_leave_other_names_of_their_files() {
    let bytes = Writer::default()
        .file("skip/kept", "data")
        .entry(EntryType::Link, "kept", "skip/kept", b"")
        .file("x.o", "")
        .pax(&[("path", &format!("skip/{}", "n".repeat(200)))])
        .file("too-long", "")
        .end();
    let selection = Selection {
        exclude: Exclude::new(&["*.o".into(), "/skip".into()]).unwrap(),
        uid: Some(5),
        ..Selection::default()
    };
    let input = ArchiveInput::Stream("test".into(), Box::new(Cursor::new(bytes)));
    let scan = scan_with(input, &selection).unwrap();
    assert_eq!(scan.problems, []);
    assert_eq!(scan.tree.children(scan.tree.node(0)).len(), 1);
    let kept = find(&scan.tree, "kept").unwrap();
    assert_eq!((kept.size, kept.uid, kept.nlink), (4, 5, 1));
}

#[test]
fn files_of_more_than_8_gib_have_their_size_in_a_record() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("archive");
    let size = 9u64 << 30;
    let mut writer = Writer::default();
    writer.pax(&[("SCHILY.xattr.user.a", "1\n2"), ("size", &size.to_string())]).file("large", "");
    let start = writer.0.len() as u64;
    let end = Writer::default().file("last", "6").end();
    let file = File::create(&path).unwrap();
    (&file).write_all(&writer.0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &end, start + size).unwrap();
    let scan = scan(&path);
    assert_eq!(scan.problems, []);
    assert_eq!(find(&scan.tree, "large").unwrap().size, size);
    assert_eq!(find(&scan.tree, "last").unwrap().size, 1);
}

#[test]
fn old_links_that_give_the_size_of_their_file_have_no_data() {
    let mut link = Header::new_old();
    link.set_entry_type(EntryType::Link);
    link.as_old_mut().name[..4].copy_from_slice(b"link");
    link.as_old_mut().linkname[..1].copy_from_slice(b"a");
    link.set_size(512);
    let bytes = Writer::default().file("a", "data").header(link).file("b", "").end();
    let scan = scan_bytes(bytes).unwrap();
    assert_eq!(scan.problems, []);
    assert_eq!(find(&scan.tree, "a").unwrap().nlink, 2);
    assert!(find(&scan.tree, "b").is_some());
}

#[test]
fn links_bring_data_only_where_some_follow() {
    let link = |size: u64| {
        let mut link = Header::new_ustar();
        link.set_entry_type(EntryType::Link);
        link.as_old_mut().name[..4].copy_from_slice(b"link");
        link.as_old_mut().linkname[..1].copy_from_slice(b"a");
        link.set_size(size);
        link
    };
    let begun = |bytes: u64| {
        let mut writer = Writer::default();
        writer.file("a", "data").header(link(bytes));
        writer
    };
    // Of the size of what follows, which must not be taken for data.
    let mut none = begun(1024);
    none.file("b", "").file("c", "");
    let mut last = begun(1 << 20);
    let mut data = begun(4);
    data.data(b"data").file("b", "").file("c", "");
    for (writer, names) in [(&mut none, 4), (&mut last, 2), (&mut data, 4)] {
        let scan = scan_bytes(writer.end()).unwrap();
        assert_eq!(scan.problems, []);
        assert_eq!(scan.tree.names() - 1, names);
        assert_eq!(find(&scan.tree, "link").unwrap().nlink, 2);
    }
}

#[test]
fn checksums_of_signed_bytes_are_taken() {
    let mut writer = Writer::default();
    // The header of the records, that of the file, and that of a link before another file.
    let mut headers = vec![0, 1024];
    writer.entry(EntryType::XHeader, "Päx", "", &pax_records(&[("mtime", "1e-09")]));
    writer.file("ä", "data");
    headers.push(writer.0.len());
    writer.entry(EntryType::Link, "link", "ä", b"");
    writer.0.splice(headers[2] + 124..headers[2] + 135, *b"00000000004");
    headers.push(writer.0.len());
    writer.file("ö", "more");
    let mut bytes = writer.end();
    for at in headers {
        let header = &mut bytes[at..at + 512];
        header[148..156].fill(b' ');
        let sum: i32 = header.iter().map(|byte| i32::from(byte.cast_signed())).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    let scan = scan_bytes(bytes.clone()).unwrap();
    assert_eq!(scan.problems, []);
    let file = find(&scan.tree, "ä").unwrap();
    assert_eq!((file.size, file.nlink, file.mtime), (4, 2, 1));
    assert_eq!(find(&scan.tree, "ö").unwrap().size, 4);
    bytes[1024] ^= 1;
    assert!(scan_bytes(bytes).is_err());
}
