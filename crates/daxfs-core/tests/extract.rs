// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: what comes out of an image is what went in, as files and as an archive; and no
//! image, however hostile, writes outside the destination.

#[path = "common/trees.rs"]
mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{Without, build_image, describe, open, run, scan_dir, vector};
use daxfs_core::Error;
use daxfs_core::build::{BuildOptions, Input, Output, build};
use daxfs_core::diff::{DiffOptions, compare};
use daxfs_core::extract::{ExtractOptions, ExtractSummary, to_directory, to_tar};
use daxfs_core::format::{BaseInode, ROOT_INO, RawDirent, mode};
use daxfs_core::image::Unvalidated;
use daxfs_core::progress::Progress;
use daxfs_core::region::{Access, Region, Source};
use daxfs_core::source::{ArchiveInput, Selection, scan_archive};
use daxfs_core::validate::{Depth, validate_watched};
use daxfs_core::view::{Links, View};
use tempfile::TempDir;
use zerocopy::IntoBytes;

const FORCE: ExtractOptions = ExtractOptions { force: true };

fn extract(
    view: &View,
    path: &str,
    to: &Path,
    options: ExtractOptions,
) -> Result<ExtractSummary, Error> {
    let top = view.resolve(path.as_bytes(), Links::Follow)?;
    to_directory(view, &top, to, options, &Progress::default())
}

fn differences(view: &View, path: &str, directory: &Path) -> Vec<String> {
    let top = view.resolve(path.as_bytes(), Links::Follow).unwrap();
    let found = compare(view, &top, directory, DiffOptions::default(), &Progress::default());
    found.unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_directory_comes_back_as_it_was() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let copy = out.path().join("copy");
    let summary = extract(&view, "/", &copy, ExtractOptions::default()).unwrap();
    let expected = describe(&scan_dir(tree.path()), Without::default());
    assert_eq!(describe(&scan_dir(&copy), Without::default()), expected);
    assert_eq!(differences(&view, "/", &copy), <[String; 0]>::default());
    assert_eq!(summary.unrestored, 0);
    assert_eq!(summary.files + summary.directories, expected.len() as u64);
    // Blocks of zeroes became holes.
    let blocks = |name: &str| fs::metadata(copy.join(name)).unwrap().blocks() * 512;
    assert!(blocks("sparse") < common::HUGE / 2);
    assert_eq!(blocks("hole"), 0);
    assert_eq!(blocks("zeroes"), 0);
}

#[test]
fn holes_are_neither_read_nor_filled() {
    let tree = TempDir::new().unwrap();
    let huge = fs::File::create(tree.path().join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    huge.write_all_at(b"in the middle", 1 << 39).unwrap();
    // In tmpfs, reading a hole through a mapping fills it.
    let out = TempDir::new_in("/dev/shm").unwrap();
    let image = out.path().join("image");
    let view = build_image(Input::Directory(tree.path().into()), image.clone());
    let blocks = || fs::metadata(&image).unwrap().blocks();
    let before = blocks();
    let copy = out.path().join("copy");
    extract(&view, "/", &copy, ExtractOptions::default()).unwrap();
    let again = out.path().join("again");
    build_image(Input::Image(Arc::new(view)), again.clone());
    assert_eq!(blocks(), before);
    for file in [&copy.join("huge"), &again] {
        assert!(fs::metadata(file).unwrap().blocks() < 4096, "{}", file.display());
    }
    let copied = fs::File::open(copy.join("huge")).unwrap();
    let mut bytes = [0; 15];
    copied.read_exact_at(&mut bytes, (1 << 39) - 1).unwrap();
    assert_eq!(&bytes, b"\0in the middle\0");
    assert_eq!(copied.metadata().unwrap().len(), 1 << 40);
    let view = open(&again);
    let inode = view.inode(view.resolve(b"/huge", Links::Follow).unwrap().ino).unwrap();
    let len = view.read(&inode, (1 << 39) - 1, &mut bytes).unwrap();
    assert_eq!((len, &bytes), (15, b"\0in the middle\0"));
}

#[test]
fn holes_are_summed_and_archived_and_not_filled() {
    let tree = TempDir::new().unwrap();
    let huge = fs::File::create(tree.path().join("huge")).unwrap();
    huge.set_len(1 << 31).unwrap();
    huge.write_all_at(b"in the middle", 1 << 30).unwrap();
    let out = TempDir::new_in("/dev/shm").unwrap();
    let path = out.path().join("image");
    let mut options =
        BuildOptions::new(Input::Directory(tree.path().into()), Output::File(path.clone()));
    options.data_checksums = true;
    build(&options, &Progress::default()).unwrap();
    let blocks = || fs::metadata(&path).unwrap().blocks();
    let before = blocks();
    let errors = || {
        let region = Arc::new(Region::open(&Source::Path(path.clone()), Access::Read).unwrap());
        let progress = Progress::default();
        let report = validate_watched(&region, Depth::Data, &progress).unwrap();
        assert_eq!(progress.done(), progress.total());
        report.findings.errors()
    };
    assert_eq!(errors(), 0);
    assert_eq!(blocks(), before);
    let view = open(&path);
    let top = view.inode(ROOT_INO).unwrap();
    let progress = Progress::default();
    let summary = to_tar(&view, &top, &mut std::io::sink(), "archive".as_ref(), &progress);
    assert_eq!(summary.unwrap().bytes, 1 << 31);
    assert_eq!(blocks(), before);
    let image = fs::File::options().write(true).open(&path).unwrap();
    let end = image.metadata().unwrap().len();
    image.write_all_at(b"x", end - (1 << 20)).unwrap();
    assert_eq!(errors(), 1);
}

/// Has a program unpack an archive into a directory that it is to make.
fn unpack(program: &[&str], archive: &Path, into: &Path) {
    fs::create_dir(into).unwrap();
    let mut command = Command::new(program[0]);
    run(command.args(&program[1..]).arg("-xpf").arg(archive).arg("-C").arg(into));
}

#[test]
fn an_archive_comes_back_as_it_was() {
    let tree = common::tree();
    // bsdtar reads -1.5 seconds as -0.5.
    common::set_mtime(&tree.path().join("set-id"), -2, 0);
    common::set_xattr(&tree.path().join("set-id"), OsStr::from_bytes(b"user.\xff"), b"\xff");
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let mut first = Vec::new();
    let top = view.inode(ROOT_INO).unwrap();
    let summary =
        to_tar(&view, &top, &mut first, "archive".as_ref(), &Progress::default()).unwrap();
    let mut second = Vec::new();
    to_tar(&view, &top, &mut second, "archive".as_ref(), &Progress::default()).unwrap();
    assert!(first == second, "two archives of one tree differ");
    assert_eq!(first.len() % 512, 0);

    let expected = describe(&scan_dir(tree.path()), Without::default());
    assert_eq!(summary.entries, expected.len() as u64);
    let archive = out.path().join("archive.tar");
    fs::write(&archive, &first).unwrap();
    // Through our own reader, through an image made from it, and through two other programs.
    let input = ArchiveInput::Path(archive.clone());
    let scan = scan_archive(input, out.path(), &Selection::default(), &Progress::default());
    assert_eq!(describe(&scan.unwrap(), Without::default()), expected);
    let again = build_image(Input::Archive(Some(archive.clone())), out.path().join("again"));
    assert_eq!(differences(&again, "/", tree.path()), <[String; 0]>::default());
    assert_eq!(
        fs::read(out.path().join("image")).unwrap(),
        fs::read(out.path().join("again")).unwrap()
    );
    for (name, options) in [
        ("gnu", &["tar", "--xattrs", "--xattrs-include=*", "--same-owner"][..]),
        ("bsd", &["bsdtar", "--xattrs", "--same-owner"][..]),
    ] {
        let copy = out.path().join(name);
        unpack(options, &archive, &copy);
        // bsdtar leaves the directory that it extracts into as it is.
        common::set_mtime(&copy, 1_500_000_000, 5);
        assert_eq!(differences(&view, "/", &copy), <[String; 0]>::default(), "{name}");
    }
}

#[test]
fn archives_have_access_control_lists_as_others_unpack_them() {
    let tree = TempDir::new_in("/dev/shm").unwrap();
    fs::create_dir(tree.path().join("dir")).unwrap();
    fs::write(tree.path().join("dir/file"), "text").unwrap();
    let value = common::acl(54321);
    for (path, list) in [("dir", "default"), ("dir", "access"), ("dir/file", "access")] {
        let name = format!("system.posix_acl_{list}");
        common::set_xattr(&tree.path().join(path), name, &value);
    }
    let out = TempDir::new_in("/dev/shm").unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let archive = out.path().join("archive");
    let top = view.inode(ROOT_INO).unwrap();
    let mut file = fs::File::create(&archive).unwrap();
    to_tar(&view, &top, &mut file, &archive, &Progress::default()).unwrap();
    for (name, options) in [
        ("gnu", &["tar", "--acls"][..]),
        ("both", &["tar", "--acls", "--xattrs", "--xattrs-include=*"][..]),
        ("bsd", &["bsdtar", "--acls"][..]),
    ] {
        let copy = out.path().join(name);
        unpack(options, &archive, &copy);
        let options = DiffOptions { ignore_mtime: true, ..DiffOptions::default() };
        let top = view.inode(ROOT_INO).unwrap();
        let found = compare(&view, &top, &copy, options, &Progress::default()).unwrap();
        assert!(found.is_empty(), "{name}: {found:?}");
    }
    let again = build_image(Input::Archive(Some(archive)), out.path().join("again"));
    assert_eq!(differences(&again, "/", tree.path()), <[String; 0]>::default());
}

#[test]
fn sockets_are_extracted_and_left_out_of_archives() {
    let tree = TempDir::new().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("socket")).unwrap();
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    extract(&view, "/", &out.path().join("copy"), ExtractOptions::default()).unwrap();
    assert_eq!(differences(&view, "/", &out.path().join("copy")), <[String; 0]>::default());
    let top = view.inode(ROOT_INO).unwrap();
    let summary =
        to_tar(&view, &top, &mut Vec::new(), "archive".as_ref(), &Progress::default()).unwrap();
    assert_eq!((summary.entries, summary.sockets), (1, 1));
}

#[test]
fn a_part_is_extracted_with_the_links_inside_it() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    extract(&view, "d", &out.path().join("d"), ExtractOptions::default()).unwrap();
    assert_eq!(differences(&view, "d", &out.path().join("d")), <[String; 0]>::default());
    assert_eq!(fs::metadata(out.path().join("d/file")).unwrap().nlink(), 2);
    // One file, under the name asked for.
    let single = out.path().join("single");
    extract(&view, "d/file", &single, ExtractOptions::default()).unwrap();
    assert_eq!(fs::read(&single).unwrap(), b"contents\n");
    let again = extract(&view, "d/file", &single, ExtractOptions::default());
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    extract(&view, "block", &single, FORCE).unwrap();
    assert_eq!(fs::read(&single).unwrap().len(), 4096);
}

#[test]
fn images_of_other_implementations_are_extracted() {
    for (image, branch, manifest) in [
        ("static.daxfs", None, "static.manifest.jsonl"),
        ("delta.daxfs", Some("main"), "static.manifest.jsonl"),
        ("delta.daxfs", Some("b1"), "delta-b1.manifest.jsonl"),
    ] {
        let view = open(&vector(image));
        let view = match branch {
            Some(branch) => View::open(Arc::clone(view.image()), branch).unwrap(),
            None => view,
        };
        let out = TempDir::new().unwrap();
        let copy = out.path().join("copy");
        extract(&view, "/", &copy, ExtractOptions::default()).unwrap();
        assert_eq!(differences(&view, "/", &copy), <[String; 0]>::default());
        let manifest = fs::read_to_string(vector(manifest)).unwrap();
        for line in manifest.lines() {
            assert_as_in_manifest(&copy, &serde_json::from_str(line).unwrap());
        }
        let names = describe(&scan_dir(&copy), Without::default()).len();
        assert_eq!(names, manifest.lines().count());
    }
}

fn assert_as_in_manifest(copy: &Path, entry: &serde_json::Value) {
    let path = copy.join(entry["path"].as_str().unwrap().trim_start_matches('/'));
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert_eq!(format!("0o{:o}", metadata.mode()), entry["mode"], "{entry}");
    if common::is_root() {
        assert_eq!(entry["uid"], metadata.uid());
        assert_eq!(entry["gid"], metadata.gid());
    }
    if let Some(size) = entry.get("size") {
        assert_eq!(*size, metadata.len());
        let output = Command::new("sha256sum").arg(&path).output().unwrap();
        let sum = String::from_utf8(output.stdout).unwrap();
        assert_eq!(entry["sha256"], sum.split(' ').next().unwrap());
    }
    if let Some(target) = entry.get("target") {
        assert_eq!(*target, fs::read_link(&path).unwrap().to_str().unwrap());
    }
}

#[test]
fn a_destination_in_use_needs_force_and_is_never_followed() {
    let tree = common::tree();
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    let (copy, outside) = (out.path().join("copy"), out.path().join("outside"));
    fs::create_dir(&copy).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    symlink(&outside, copy.join("d")).unwrap();
    symlink(outside.join("file"), copy.join("block")).unwrap();
    fs::create_dir(copy.join("empty")).unwrap();
    fs::write(copy.join("deep"), "").unwrap();
    fs::write(copy.join("unrelated"), "").unwrap();
    fs::hard_link(outside.join("file"), copy.join("zeroes")).unwrap();
    let refused = extract(&view, "/", &copy, ExtractOptions::default());
    assert!(matches!(refused, Err(Error::Exists { .. })), "{refused:?}");

    extract(&view, "/", &copy, FORCE).unwrap();
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(differences(&view, "/", &copy), ["unrelated: only in the directory"]);
    extract(&view, "/", &copy, FORCE).unwrap();
    assert_eq!(differences(&view, "/", &copy), ["unrelated: only in the directory"]);

    fs::remove_file(copy.join("block")).unwrap();
    fs::create_dir_all(copy.join("block/full")).unwrap();
    let full = extract(&view, "/", &copy, FORCE).unwrap_err();
    let expected = format!("{}: cannot replace: ", copy.join("block").display());
    assert!(full.to_string().starts_with(&expected), "{full}");
}

/// A trusted image whose first directory entries get these names.
fn with_names(names: &[&[u8]]) -> View {
    let tree = TempDir::new().unwrap();
    symlink("/tmp", tree.path().join("a")).unwrap();
    fs::create_dir(tree.path().join("b")).unwrap();
    fs::write(tree.path().join("b/victim"), "evil").unwrap();
    let image = tree.path().with_extension("image");
    drop(build_image(Input::Directory(tree.path().into()), image.clone()));
    let region = Region::from_bytes(&fs::read(&image).unwrap()).unwrap();
    fs::remove_file(image).unwrap();
    let region = Arc::new(region);
    let opened = Unvalidated::open(Arc::clone(&region)).unwrap().trust();
    let root = opened.base().inode(ROOT_INO).unwrap();
    for (index, name) in names.iter().enumerate() {
        let at = root.data + index as u64 * size_of::<RawDirent>() as u64;
        let mut dirent: RawDirent = region.read(at).unwrap();
        dirent.name = [0; 128];
        dirent.name[..name.len()].copy_from_slice(name);
        dirent.name_len = (name.len() as u16).into();
        region.write(at, dirent.as_bytes()).unwrap();
    }
    View::base(Arc::new(opened))
}

#[test]
fn hostile_names_are_refused() {
    for name in [&b".."[..], b".", b"", b"x/y", b"/etc/x", b"nul\0", b"b"] {
        let view = with_names(&[name]);
        let out = TempDir::new().unwrap();
        let copy = out.path().join("copy");
        let refused = extract(&view, "/", &copy, ExtractOptions::default()).unwrap_err();
        assert!(matches!(refused, Error::Corrupt { what: "name in a directory", .. }), "{refused}");
        assert_eq!(fs::read_dir(&copy).unwrap().count(), 0);
        let top = view.inode(ROOT_INO).unwrap();
        let refused =
            to_tar(&view, &top, &mut Vec::new(), "archive".as_ref(), &Progress::default())
                .unwrap_err();
        assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
    }
}

#[test]
fn a_directory_that_contains_itself_is_refused() {
    let view = with_names(&[]);
    let region = view.image().region();
    let root = view.inode(ROOT_INO).unwrap();
    let at = root.data + size_of::<RawDirent>() as u64;
    let mut dirent: RawDirent = region.read(at).unwrap();
    dirent.ino = 1.into();
    region.write(at, dirent.as_bytes()).unwrap();
    let out = TempDir::new().unwrap();
    let refused = extract(&view, "/", &out.path().join("copy"), ExtractOptions::default());
    assert!(matches!(refused, Err(Error::Corrupt { what: "directory", .. })), "{refused:?}");
    let refused = to_tar(&view, &root, &mut Vec::new(), "archive".as_ref(), &Progress::default());
    assert!(matches!(refused, Err(Error::Corrupt { what: "directory", .. })), "{refused:?}");
}

#[test]
fn directories_that_share_their_bytes_are_refused() {
    let tree = TempDir::new().unwrap();
    let count = 100;
    for index in 0..count {
        fs::create_dir(tree.path().join(format!("d{index:03}"))).unwrap();
    }
    for index in 0..count {
        fs::write(tree.path().join(format!("d000/{index}")), "").unwrap();
    }
    let image = tree.path().join("image");
    let view = build_image(Input::Directory(tree.path().into()), image.clone());
    let region = Arc::new(Region::from_bytes(&fs::read(&image).unwrap()).unwrap());
    let first: BaseInode = region.read(view.image().base().inode_offset(2)).unwrap();
    for ino in 3..count + 2 {
        let at = view.image().base().inode_offset(ino);
        let mut inode: BaseInode = region.read(at).unwrap();
        (inode.data_offset, inode.size) = (first.data_offset, first.size);
        region.write(at, inode.as_bytes()).unwrap();
    }
    let view = View::base(Arc::new(Unvalidated::open(region).unwrap().trust()));
    let refused = extract(&view, "/", &tree.path().join("copy"), ExtractOptions::default());
    assert!(matches!(refused, Err(Error::Corrupt { what: "directory", .. })), "{refused:?}");
    let top = view.inode(ROOT_INO).unwrap();
    let refused = to_tar(&view, &top, &mut Vec::new(), "archive".as_ref(), &Progress::default());
    assert!(matches!(refused, Err(Error::Corrupt { what: "directory", .. })), "{refused:?}");
}

#[test]
fn an_unknown_type_of_file_is_refused() {
    let view = with_names(&[]);
    let at = view.image().base().inode_offset(2);
    let mut raw: BaseInode = view.image().region().read(at).unwrap();
    raw.mode = (mode::TYPE | 0o644).into();
    view.image().region().write(at, raw.as_bytes()).unwrap();
    let out = TempDir::new().unwrap();
    let refused = extract(&view, "/", &out.path().join("copy"), ExtractOptions::default());
    assert!(matches!(refused, Err(Error::Corrupt { what: "type of a file", .. })), "{refused:?}");
}

#[test]
fn trees_deeper_than_a_path_can_name_are_extracted() {
    let out = TempDir::new().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    let path = format!("{}file", format!("{}/", "d".repeat(100)).repeat(100));
    archive.append_data(&mut header, path, &b"deep"[..]).unwrap();
    let file = out.path().join("archive");
    fs::write(&file, archive.into_inner().unwrap()).unwrap();
    let view = build_image(Input::Archive(Some(file)), out.path().join("image"));
    let copy = out.path().join("copy");
    let summary = extract(&view, "/", &copy, ExtractOptions::default()).unwrap();
    assert_eq!((summary.files, summary.directories), (1, 101));
    assert_eq!(differences(&view, "/", &copy), <[String; 0]>::default());
    let mut bytes = Vec::new();
    let top = view.inode(ROOT_INO).unwrap();
    to_tar(&view, &top, &mut bytes, "archive".as_ref(), &Progress::default()).unwrap();
    fs::write(out.path().join("again"), bytes).unwrap();
    let again = build_image(Input::Archive(Some(out.path().join("again"))), out.path().join("2"));
    assert_eq!(differences(&again, "/", &copy), <[String; 0]>::default());
}

const CHILD: &str = "DAXFS_TEST_DESTINATION";

/// Runs itself once more as nobody, because a process cannot become root again.
#[test]
fn what_only_root_may_restore_is_counted_for_others() {
    if let Some(destination) = std::env::var_os(CHILD) {
        let destination = Path::new(&destination);
        let view = open(&destination.join("image"));
        let copy = destination.join("copy");
        let summary = extract(&view, "/", &copy, ExtractOptions::default()).unwrap();
        assert_eq!(summary.unrestored, 5);
        let mode = |name| fs::metadata(copy.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(mode("theirs"), 0o755, "set-ID for another owner");
        assert_eq!(mode("own"), 0o755, "set-ID of a stranger's making");
        assert_eq!(mode("closed"), 0);
        assert!(!copy.join("device").exists());
        return;
    }
    assert!(common::is_root(), "this test has to be started by root");
    let tree = TempDir::new().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir(at("closed")).unwrap();
    for name in ["theirs", "own", "closed/file"] {
        fs::write(at(name), "").unwrap();
    }
    common::set_xattr(&at("closed/file"), "trusted.x", b"");
    for name in [".", "own", "closed", "closed/file"] {
        std::os::unix::fs::chown(at(name), Some(65534), Some(65534)).unwrap();
    }
    for name in ["theirs", "own"] {
        fs::set_permissions(at(name), PermissionsExt::from_mode(0o6755)).unwrap();
    }
    common::set_xattr(&at("closed"), "trusted.y", b"");
    fs::set_permissions(at("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, at("device"), kind, mode, null).unwrap();
    let out = TempDir::new().unwrap();
    drop(build_image(Input::Directory(tree.path().into()), out.path().join("image")));
    std::os::unix::fs::chown(out.path(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(out.path().join("image"), PermissionsExt::from_mode(0o644)).unwrap();
    // The checkout may lie where others cannot reach. Were it open for writing here, a child of
    // another test could hold it so, and it could not be executed.
    let program = out.path().join("program");
    let mut copy = Command::new("cp");
    assert!(copy.arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap().success());
    let mut child = Command::new(program);
    std::os::unix::process::CommandExt::uid(&mut child, 65534);
    std::os::unix::process::CommandExt::gid(&mut child, 65534);
    let name = "what_only_root_may_restore_is_counted_for_others";
    child.args(["--exact", name]).env(CHILD, out.path()).current_dir("/");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn access_control_lists_of_the_place_are_not_inherited() {
    let tree = TempDir::new().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("directory/file"), "for its group alone").unwrap();
    fs::set_permissions(at("directory/file"), PermissionsExt::from_mode(0o640)).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, 0o640.into(), 0).unwrap();
    let out = TempDir::new().unwrap();
    let view = build_image(Input::Directory(tree.path().into()), out.path().join("image"));
    // user::rwx, user:65534:rwx, group::r-x, mask::rwx, other::r-x
    let entries = [(1, 7, u32::MAX), (2, 7, 65534), (4, 5, u32::MAX), (16, 7, 0), (32, 5, 0)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend([u16::to_le_bytes(tag), u16::to_le_bytes(permissions)].concat());
        list.extend(u32::to_le_bytes(id));
    }
    common::set_xattr(out.path(), "system.posix_acl_default", &list);
    let there = out.path().join("there");
    fs::create_dir(&there).unwrap();
    for destination in [there, out.path().join("new")] {
        extract(&view, "/", &destination, ExtractOptions::default()).unwrap();
        assert_eq!(differences(&view, "/", &destination), <[String; 0]>::default());
    }
    let one = out.path().join("one");
    extract(&view, "/directory/file", &one, ExtractOptions::default()).unwrap();
    let mut value = [0u8; 64];
    let found = rustix::fs::getxattr(&one, "system.posix_acl_access", &mut value[..]);
    assert_eq!(found, Err(rustix::io::Errno::NODATA));
}

#[test]
fn extraction_stops_when_asked() {
    let view = open(&vector("static.daxfs"));
    let out = TempDir::new().unwrap();
    let progress = Progress::default();
    progress.cancel();
    let top = view.inode(ROOT_INO).unwrap();
    let stopped = to_directory(&view, &top, &out.path().join("x"), FORCE, &progress);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert!(matches!(
        to_tar(&view, &top, &mut Vec::new(), "archive".as_ref(), &progress),
        Err(Error::Interrupted)
    ));
}

/// ext4 gives the attributes of a file one block.
#[test]
fn attributes_too_large_for_the_file_system_are_counted() {
    let out = TempDir::new().unwrap();
    let archive = out.path().join("archive");
    let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
    tar.append_pax_extensions([("SCHILY.xattr.user.large", &[b'x'; 60_000][..])]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    tar.append_data(&mut header, "file", &b""[..]).unwrap();
    tar.into_inner().unwrap();
    let view = build_image(Input::Archive(Some(archive)), out.path().join("image"));
    let copy = out.path().join("copy");
    let summary = extract(&view, "/", &copy, ExtractOptions::default()).unwrap();
    let held = rustix::fs::getxattr(copy.join("file"), "user.large", &mut [0; 60_000][..]).is_ok();
    assert_eq!(summary.unrestored, u64::from(!held));
}
