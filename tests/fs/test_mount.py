# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Mounts show exactly what is in the image, and what they are told to."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import stat
import subprocess
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

import daxfs
from support.mounts import Mounts, memory_of, server_of
from support.pages import address, is_cached
from support.snapshot import as_stored, compare, snapshot


@pytest.mark.parametrize("room", [None, "16M"])
def test_a_mount_shows_the_tree(mounts: Mounts, tree: Path, room: str | None) -> None:
    mounted = mounts.mount(mounts.build(tree, room))
    expected = as_stored(tree)
    assert compare(expected, snapshot(mounted)) == []
    # Once more, now from what the kernel keeps.
    assert compare(expected, snapshot(mounted)) == []


@pytest.mark.parametrize("room", [None, "16M"])
def test_many_names_are_listed_in_pieces(mounts: Mounts, scratch: Path, room: str | None) -> None:
    """And whoever reads a directory goes on where it was, whatever others read meanwhile."""
    tree = scratch / "wide"
    tree.mkdir()
    expected = [f"{number:04}-{'x' * (number % 90)}" for number in range(3000)]
    for name in expected:
        (tree / name).touch()
    point = mounts.mount(mounts.build(tree, room))
    one, two = os.scandir(point), os.scandir(point)
    found = [next(one).name for _ in range(1500)]
    assert sorted(entry.name for entry in two) == expected
    assert all(stat.S_ISREG(os.lstat(point / name).st_mode) for name in expected)
    found += [entry.name for entry in one]
    assert sorted(found) == expected
    assert sorted(os.listdir(point)) == expected


def test_small_files_are_there_before_they_are_asked_for(mounts: Mounts, scratch: Path) -> None:
    """Who reads one after the other gets those that follow, whatever lies between them."""
    tree = scratch / "small"
    tree.mkdir()
    files = {f"{number:03}": random.Random(number).randbytes(97 * number) for number in range(60)}
    for name, content in files.items():
        (tree / name).write_bytes(content)
    (tree / "002-directory").mkdir()
    (tree / "003-link").symlink_to("003")
    (tree / "004-large").write_bytes(bytes(100_000))
    point = mounts.mount(mounts.build(tree))
    # The kernel takes nothing of files that it does not know.
    assert len([entry.stat() for entry in os.scandir(point)]) == len(files) + 3
    assert not any(is_cached(point / name) for name in files)
    for name in ("001", "002"):
        assert (point / name).read_bytes() == files[name]
    deadline = time.monotonic() + 20
    while not all(is_cached(point / name) for name in ("003", "004", "005", "006")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not is_cached(point / "004-large")
    for name, content in files.items():
        assert (point / name).read_bytes() == content
        if content:
            with (point / name).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            # What a page has behind the file's end are zeroes.
            last = ctypes.string_at(address(mapped), -(-len(content) // 4096) * 4096)
            assert last[len(content) :].strip(b"\0") == b""
    assert (point / "004-large").read_bytes() == bytes(100_000)


def test_validation_and_trust(mounts: Mounts, tree: Path, scratch: Path) -> None:
    image = mounts.build(tree)
    mounts.mount(image, "ro,validate")
    with image.open("r+b") as file:
        file.seek(image.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))
    bad = scratch / "bad.daxfs"
    bad.write_bytes(b"not an image" * 1000)
    assert "not a daxfs image" in mounts.run("daxfs", "mount", bad, mounts.point(), status=1)


def test_what_cannot_be_mounted_is_said_in_one_line(mounts: Mounts, tree: Path) -> None:
    static, point = mounts.build(tree), mounts.point()
    writable = mounts.build(tree, "16M")
    for image, where, options, said in [
        (static, point, "rw", "mkdaxfs -w"),
        (writable, point, "branch=b", "no such branch: b"),
        (writable, point, "nonsense", "mount option"),
        (writable, point, "parent=main", "branch=NAME"),
        (writable, point / "missing", "ro", "No such file"),
        (writable, static, "ro", "not a directory"),
        (static.with_name("missing"), point, "ro", "No such file"),
        (writable, point, "kernel", "kernel"),
        (writable, point, "fuse,kernel", "kernel"),
    ]:
        answer = mounts.run("daxfs", "mount", "-o", options, image, where, status=1)
        assert said in answer
        assert len(answer.splitlines()) == 1
    assert "no image is mounted there" in mounts.run("daxfs", "umount", point, status=1)


def test_writing_to_main_names_the_branches_to_take(mounts: Mounts, empty: Path) -> None:
    first = mounts.mount(empty, "branch=work,parent=main")
    said = mounts.run("daxfs", "mount", "-o", "rw", empty, mounts.point(), status=1)
    assert "branch=NAME: work" in said
    # The branch itself is taken, too.
    assert "work" in mounts.run(
        "daxfs", "mount", "-o", "branch=work", empty, mounts.point(), status=1
    )
    (first / "made").touch()
    mounts.unmount(first)
    assert (mounts.mount(empty, "ro,branch=work") / "made").exists()
    assert not (mounts.mount(empty, "ro") / "made").exists()


def test_attributes_of_other_file_systems_are_not_copied(
    mounts: Mounts, empty: Path, scratch: Path
) -> None:
    """Some list what none but they can have; archives of them do, too."""
    other, names = scratch / "other.daxfs", ("btrfs.compression", "user.note")
    with tarfile.open(scratch / "other.tar", "w") as archive:
        entry = tarfile.TarInfo("file")
        entry.pax_headers = {f"SCHILY.xattr.{name}": "zstd" for name in names}
        archive.addfile(entry)
    mounts.run("mkdaxfs", "--tar", scratch / "other.tar", "-o", other)
    file = mounts.mount(other) / "file"
    assert sorted(os.listxattr(file)) == sorted(names)
    mounts.run("daxfs-branch", "create", "b", "-i", empty)
    mounts.run("daxfs-branch", "put", "-a", file, "copy", "-b", "b", "-i", empty)
    with daxfs.open(empty, branch="b") as image:
        assert image.xattrs("copy") == {"user.note": b"zstd"}


def test_a_directory_that_changes_is_read_stably(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    names = {f"name {number:04}" for number in range(3000)}
    moved = set()
    for name in names:
        (point / name).touch()
    seen = []
    with os.scandir(point) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 10 == 0:
                (point / f"new {number}").touch()
                (point / f"name {number:04}").rename(point / f"moved {number}")
                moved.add(f"name {number:04}")
    assert len(seen) == len(set(seen))
    # Nobody can say whether what went meanwhile is seen; what stayed is, and nothing else.
    assert names - moved <= set(seen) <= names
    assert set(os.listdir(point)) >= names - moved
    assert not set(os.listdir(point)) & moved
    assert sum(1 for name in os.listdir(point) if name.startswith("new")) == 300


def test_names_that_are_replaced_meanwhile_are_listed(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    names = {f"name {number:04}" for number in range(2000)}
    for name in names:
        (point / name).touch()
    seen = []
    with os.scandir(point) as entries:
        seen.append(next(entries))
        for name in names:
            (point / "new").touch()
            (point / "new").rename(point / name)
        seen += entries
    assert len(seen) == len(names)
    assert {entry.name for entry in seen} == names


def test_offsets_of_a_directory_lead_back(mounts: Mounts, tree: Path) -> None:
    wide = tree / "wide"
    wide.mkdir()
    for number in range(2000):
        (wide / f"{number}").touch()
    point = mounts.mount(mounts.build(tree))
    program = r"""
#include <dirent.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    static long at[3000]; static char name[3000][256]; int count = 0;
    DIR *dir = opendir(argv[1]); struct dirent *entry;
    for (; at[count] = telldir(dir), entry = readdir(dir); count++)
        strcpy(name[count], entry->d_name);
    if (count != 2002) return 1;
    for (int i = count - 1; i >= 0; i -= 7) {
        seekdir(dir, at[i]);
        if (!(entry = readdir(dir)) || strcmp(entry->d_name, name[i])) return 2;
    }
    rewinddir(dir);
    return !(entry = readdir(dir)) || strcmp(entry->d_name, name[0]) ? 3 : 0;
}
"""
    source = tree / "seek.c"
    source.write_text(program)
    subprocess.run(["cc", "-o", tree / "seek", source], check=True)
    subprocess.run([tree / "seek", point / "wide"], check=True)


def test_holes_of_the_image_are_holes_of_the_mount(mounts: Mounts, scratch: Path) -> None:
    top = scratch / "sparse"
    top.mkdir()
    with (top / "file").open("wb") as file:
        file.truncate(64 << 20)
        for place in (20 << 20, 40 << 20):
            os.pwrite(file.fileno(), b"data", place)
    (top / "hole").touch()
    os.truncate(top / "hole", 8 << 20)
    point = mounts.mount(mounts.build(top, "16M"), "rw")
    # A block after a hole, and one where there was a hole.
    for root in (top, point):
        with (root / "file").open("r+b") as file:
            os.pwrite(file.fileno(), b"more", 30 << 20)
        os.sync()
    starts = [0, 1 << 20, 20 << 20, (20 << 20) + 4096, 30 << 20, 40 << 20, (64 << 20) - 1]
    for name in ("file", "hole"):
        found = []
        for root in (top, point):
            with (root / name).open("rb") as file:
                for start in [start for start in starts if start < (root / name).stat().st_size]:
                    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                        try:
                            found.append(os.lseek(file.fileno(), start, whence))
                        except OSError as error:
                            found.append(error.errno or 0)
        assert found[: len(found) // 2] == found[len(found) // 2 :], name


def test_main_outlives_its_log(mounts: Mounts, tree: Path) -> None:
    image = mounts.build(tree, "4M")
    point = mounts.mount(image, "rw")
    with open(point / "open", "w+b", buffering=0) as file, open(point / "mapped", "w+b") as mapped:
        mapped.truncate(8192)
        memory = mmap.mmap(mapped.fileno(), 8192)
        # Their entries are more than there is room for.
        for number in range(16_000):
            path = point / f"passing {number % 7}"
            path.write_bytes(b"x" * (number % 50))
            if number % 1000 == 0:
                file.write(b"%6d" % number)
                memory[number // 1000] = 65 + number // 1000
            path.unlink()
        file.seek(0)
        assert file.read() == b"".join(b"%6d" % (number * 1000) for number in range(16))
        assert memory[:17] == b"ABCDEFGHIJKLMNOP\0"
        memory.close()
    mounts.unmount(point)
    mounts.sound(image)
    point = mounts.mount(image, "ro")
    assert (point / "mapped").read_bytes()[:17] == b"ABCDEFGHIJKLMNOP\0"
    assert (point / "open").stat().st_size == 16 * 6
    assert not list(point.glob("passing*"))


def test_open_directories_share_what_they_hold(mounts: Mounts, scratch: Path) -> None:
    directory = scratch / "tree/many"
    directory.mkdir(parents=True)
    names = {f"a file of some number {number}" for number in range(20_000)}
    for name in names:
        (directory / name).touch()
    point = mounts.mount(mounts.build(scratch / "tree", "16M"), "rw")
    server = server_of(point)
    open_ones = [os.scandir(point / "many")]
    found = {next(open_ones[0]).name}
    before = memory_of(server)
    for _ in range(100):
        open_ones.append(os.scandir(point / "many"))
        next(open_ones[-1])
    assert memory_of(server) - before < 10 << 20
    # What changes is seen by who begins afterwards, and not by who reads.
    (point / "many/new").touch()
    assert "new" in os.listdir(point / "many")
    assert found | {entry.name for entry in open_ones[0]} == names
    for one in open_ones:
        one.close()
    assert os.listdir(point / "many").count("new") == 1


def test_what_filled_a_mount_makes_room_at_once(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")

    def fill(path: Path) -> int:
        with path.open("wb", 0) as file:
            with suppress(OSError):
                while file.write(bytes(64 << 10)):
                    pass
            with pytest.raises(OSError, match="No space"):
                file.write(bytes(64 << 10))
            return file.tell()

    first = fill(point / "first")
    (point / "first").unlink()
    second = fill(point / "second")
    assert second > first * 9 // 10
    (point / "second").unlink()
    mounts.unmount(point)
    mounts.sound(empty)
