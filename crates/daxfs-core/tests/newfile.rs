// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Protects: a file that is not whole has no name, so that nothing of it outlives its writer, and
//! what takes a name takes it from nobody who did not agree.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use daxfs_core::error::Error;
use daxfs_core::newfile::NewFile;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn begin(path: &Path, force: bool, text: &str) -> Result<NewFile, Error> {
    let new = NewFile::create(path, force)?;
    new.file().write_all(text.as_bytes()).unwrap();
    Ok(new)
}

#[test]
fn a_file_has_its_name_when_it_is_whole() {
    let shared = tempfile::tempdir_in("/dev/shm").unwrap();
    let (directory, path) = (shared.path(), shared.path().join("file"));
    let new = begin(&path, false, "first").unwrap();
    assert!(names(directory).is_empty());
    new.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert!(matches!(begin(&path, false, ""), Err(Error::Exists { .. })));

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let new = begin(&path, true, "second").unwrap();
    assert_eq!(names(directory), ["file"]);
    assert_eq!(fs::read(&path).unwrap(), b"first");
    new.finish().unwrap();
    assert_eq!(names(directory), ["file"]);
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn who_was_faster_keeps_the_name() {
    let shared = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = shared.path().join("file");
    let new = begin(&path, false, "ours").unwrap();
    fs::write(&path, "theirs").unwrap();
    assert!(matches!(new.finish(), Err(Error::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"theirs");
    assert_eq!(names(shared.path()), ["file"]);
}

#[test]
fn a_name_that_no_file_can_have_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let long = "n".repeat(256);
    for (name, errno) in [("new/", libc::EINVAL), (&*long, libc::ENAMETOOLONG)] {
        for force in [false, true] {
            let refused = NewFile::create(&dir.path().join(name), force).unwrap_err();
            assert_eq!(refused.errno(), errno, "{refused}");
        }
    }
}

#[test]
fn what_cannot_be_replaced_is_not_said_to_be_replaced_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link, nowhere) =
        (dir.path().join("file"), dir.path().join("link"), dir.path().join("nowhere"));
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    std::os::unix::fs::symlink("none", &nowhere).unwrap();
    for (path, errno) in [(&*nowhere, libc::ENOENT), (dir.path(), libc::EINVAL)] {
        for force in [false, true] {
            let refused = NewFile::create(path, force).unwrap_err();
            assert_eq!(refused.errno(), errno, "{refused}");
        }
    }
    for path in [&file, &link] {
        let refused = NewFile::create(path, false).unwrap_err();
        assert!(matches!(&refused, Error::Exists { path: found } if found == path), "{refused}");
        NewFile::create(path, true).unwrap();
    }
}
