# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The helpers other tests rely on: a reader that judges images, and trees that are compared.

A helper that misses something hides what daxfs misses, so each is shown to see what it is for.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from support import debian_root
from support.trees import FIELDS, Options, compare, random_tree, snapshot
from support.v3delta import branch_manifest
from support.v3reader import ManifestRecord, V3Error, V3Image, unsatisfied

VECTORS = Path(__file__).parent.parent / "vectors"
BASE = 4096
INODES = BASE + 4096
DATA = BASE + 8192
LOG = 0x2D000
LOG_SIZE_FIELD = 4096 + 128 + 24

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="odd trees take root to make")


def image(name: str) -> bytes:
    return (VECTORS / f"{name}.daxfs").read_bytes()


def expected(name: str) -> list[ManifestRecord]:
    lines = (VECTORS / f"{name}.manifest.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def patched(data: bytes, offset: int, layout: str, *values: int | bytes) -> bytes:
    changed = bytearray(data)
    struct.pack_into(f"<{layout}", changed, offset, *values)
    return bytes(changed)


def inode_field(ino: int, offset: int) -> int:
    return INODES + (ino - 1) * 64 + offset


def dirent(position: int, offset: int = 0) -> int:
    """Where a field of a dirent of the root lies."""
    return DATA + position * 144 + offset


@pytest.mark.parametrize("name", ["static", "branching", "delta"])
def test_reader_shows_the_base_tree_of_vectors(name: str) -> None:
    assert unsatisfied(image(name)) is None
    assert V3Image(image(name)).manifest() == expected("static")


def test_reader_reads_by_path() -> None:
    static = V3Image(image("static"))
    assert static.read(b"/dir/sub/deep") == b"deep\n"
    assert static.read(b"/numlink") == b"etc/numbers"
    for path in (b"/dir", b"/dir/none", b"/perm.txt/below"):
        with pytest.raises(V3Error):
            static.read(path)


def test_reader_ignores_compatible_bits_and_names_incompatible_ones() -> None:
    assert unsatisfied(patched(image("static"), 8, "I", 0xFFFF)) is None
    for bit in range(16, 32):
        reason = unsatisfied(patched(image("static"), 8, "I", 1 << bit))
        assert reason == f"superblock: unknown incompatible feature bit {bit}"


DAMAGE: dict[str, tuple[int, str, int | bytes, str]] = {
    "magic": (0, "I", 0, "superblock: magic"),
    "version": (4, "I", 4, "version 4"),
    "block size": (12, "I", 512, "block size 512"),
    "total size": (16, "Q", 1 << 40, "total size"),
    "no base": (24, "Q", 0, "no base image"),
    "base unaligned": (24, "Q", 4097, "block boundary"),
    "base over superblock": (24, "Q", 1 << 63, "pass the end"),
    "base too large": (32, "Q", 1 << 63, "pass the end"),
    "base empty": (32, "Q", 0, "no room"),
    "branch table": (40, "Q", 4096, "static image with"),
    "branch entries": (48, "I", 1 << 31, "branch table entries"),
    "base magic": (BASE, "I", 0, "base superblock: magic"),
    "base total size": (BASE + 16, "Q", 1 << 50, "base superblock: total size"),
    "inode table on superblock": (BASE + 24, "Q", 0, "overlaps"),
    "inode count": (BASE + 32, "I", 0xFFFFFFFF, "pass the end"),
    "inode table on data": (BASE + 32, "I", 65, "overlaps"),
    "no inodes": (BASE + 32, "I", 0, "inode 1: the table holds"),
    "root inode": (BASE + 36, "I", 2, "root inode 2"),
    "data on inode table": (BASE + 40, "Q", 4096, "overlaps"),
    "inode number": (inode_field(4, 0), "I", 5, "carries the number 5"),
    "no type": (inode_field(4, 4), "I", 0o644, "no known type"),
    "root no directory": (inode_field(1, 4), "I", 0o100644, "the root is a directory"),
    "file size": (inode_field(4, 16), "Q", 1 << 62, "outside the data"),
    "file offset": (inode_field(4, 24), "Q", (1 << 64) - 4096, "outside the data"),
    "file unaligned": (inode_field(4, 24), "Q", 16385, "block boundary"),
    "file on inode table": (inode_field(4, 24), "Q", 4096, "outside the data"),
    "directory size": (inode_field(1, 16), "Q", 145, "no multiple of 144"),
    "symlink size": (inode_field(9, 16), "Q", 10, "first NUL"),
    "symlink empty": (inode_field(9, 16), "Q", 0, "target length 0"),
    "symlink endless": (inode_field(9, 16), "Q", 1 << 63, "target length"),
    "dirent to no inode": (dirent(0), "I", 0, "inode 0: the table holds"),
    "dirent past inodes": (dirent(0), "I", 17, "inode 17: the table holds"),
    "dirent type": (dirent(0, 4), "I", 0o120777, "another type"),
    "name empty": (dirent(0, 8), "H", 0, "not legal"),
    "name too long": (dirent(0, 8), "H", 129, "name length 129"),
    "name with slash": (dirent(0, 16), "c", b"/", "not legal"),
    "name with NUL": (dirent(0, 16), "c", b"\0", "not legal"),
    "name twice": (dirent(0, 16), "8s", b"base.txt", "is there twice"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_reader_names_what_is_damaged(case: str) -> None:
    offset, layout, value, reason = DAMAGE[case]
    found = unsatisfied(patched(image("static"), offset, layout, value))
    assert found is not None
    assert reason in found


@pytest.mark.parametrize("name", [b".", b".."])
def test_reader_refuses_dot_names(name: bytes) -> None:
    found = unsatisfied(patched(image("static"), dirent(0, 8), "H6x2s", len(name), name))
    assert found is not None
    assert "not legal" in found


def test_reader_refuses_cycles_and_directories_reached_twice_or_never() -> None:
    static = image("static")
    to_root = unsatisfied(patched(static, dirent(0), "I", 1))
    assert to_root == "inode 1: directory is reached again, as b'emptydir' in inode 1"
    twice = unsatisfied(patched(static, dirent(0), "I", 3))
    assert twice == "inode 3: directory is reached again, as b'etc' in inode 1"
    never = unsatisfied(patched(static, dirent(0), "II", 16, stat.S_IFREG))
    assert never == "inode 2: directory is never reached from the root"


def test_reader_accepts_hard_links() -> None:
    linked = V3Image(patched(image("static"), dirent(2), "I", 6))
    assert linked.unsatisfied() is None
    assert linked.read(b"/victim.txt") == linked.read(b"/a b")


def test_reader_does_bounded_work_on_shared_arrays() -> None:
    """Each of many directories names the same many files; walking them all would be quadratic."""
    count = 20_000
    root_array = -(-(count * 64 + 8192) // 4096) * 4096
    shared = -(-(root_array + count * 144) // 4096) * 4096
    size = -(-(shared + count * 144) // 4096) * 4096
    data = bytearray(BASE + size)
    struct.pack_into("<4I4Q", data, 0, 0x64617833, 3, 0, 4096, len(data), BASE, size, 0)
    layout = ("<4I2Q2IQ", data, BASE, 0x64646179, 3, 0, 4096)
    struct.pack_into(*layout, size, 4096, count + 2, 1, root_array)
    inode = struct.Struct("<4I2QI28x")
    inode.pack_into(data, INODES, 1, 0o40755, 0, 0, count * 144, root_array, 2)
    inode.pack_into(data, inode_field(count + 2, 0), count + 2, 0o100644, 0, 0, 0, 0, 1)
    for ino in range(2, count + 2):
        name = b"%d" % ino
        inode.pack_into(data, inode_field(ino, 0), ino, 0o40755, 0, 0, count * 144, shared, 2)
        for array, child, mode in ((root_array, ino, 0o40755), (shared, count + 2, 0o100644)):
            place = BASE + array + (ino - 2) * 144
            struct.pack_into("<IIH6x128s", data, place, child, mode, len(name), name)
    reason = unsatisfied(bytes(data))
    assert reason is not None
    assert "directories up to this one hold" in reason


def test_reader_hashes_no_more_than_the_image_holds() -> None:
    overlapping = image("static")
    for ino in (4, 5, 6, 7, 8):
        overlapping = patched(overlapping, inode_field(ino, 16), "QQ", 0x11000, 8192)
    with pytest.raises(V3Error, match="files hold more bytes"):
        V3Image(overlapping).manifest()


def test_reader_survives_any_byte_changed() -> None:
    """Errors are fine; any exception but V3Error is a bug of the reader."""
    rng = Random(1)
    static = image("static")
    metadata = [*range(96), *range(BASE, BASE + 48), *range(INODES, INODES + 16 * 64)]
    metadata += range(DATA, DATA + 11 * 144)
    for _ in range(1500):
        changed = patched(static, rng.choice(metadata), "B", rng.randrange(256))
        unsatisfied(changed)
    for length in (0, 1, 4095, 4096, 8191, 8192, len(static) - 1):
        assert unsatisfied(static[:length]) is not None


@pytest.mark.parametrize(("branch", "manifest"), [("main", "static"), ("b1", "delta-b1")])
def test_replay_shows_the_branches_of_the_vector(branch: str, manifest: str) -> None:
    assert branch_manifest(image("delta"), branch) == expected(manifest)


def test_replay_steps_by_the_size_an_entry_states() -> None:
    """The last entry, a WRITE of one byte, is made to end later than its parts do."""
    delta = image("delta")
    longer = patched(delta, LOG + 7431 + 4, "I", 41 + 7)
    longer = patched(longer, LOG_SIZE_FIELD, "Q", 7472 + 7)
    assert branch_manifest(longer, "b1") == expected("delta-b1")


def test_replay_fills_with_zeroes_what_was_cut_off() -> None:
    """After TRUNCATE shortened it, a file extended by a WRITE shows no old data."""
    write = struct.pack("<2I2QQ2I", 1, 41, 14, 0, 12, 1, 0) + b"!"
    delta = patched(image("delta"), LOG + 7472, f"{len(write)}s", write)
    delta = patched(delta, LOG_SIZE_FIELD, "Q", 7472 + len(write))
    size = {r["path"]: r.get("size") for r in branch_manifest(delta, "b1")}["/cut.txt"]
    assert size == 13


REPLAY_DAMAGE: dict[str, tuple[int, str, int, str]] = {
    "type": (LOG, "I", 9, "unknown type 9"),
    "size of nothing": (LOG + 4, "I", 0, "size 0"),
    "size past the log": (LOG + 4, "I", 7473, "size 7473"),
    "parent is missing": (LOG + 24, "Q", 99, "no inode 99"),
    "parent is a file": (LOG + 24, "Q", 4, "no directory's"),
    "inode is not new": (LOG + 32, "Q", 3, "is there already"),
    "name passes the entry": (LOG + 44, "H", 7, "pass its end"),
    "write is huge": (LOG + 111 + 24, "Q", 1 << 60, "above"),
    "removed is another": (LOG + 511 + 8, "Q", 14, "not 14"),
    "log size": (LOG_SIZE_FIELD, "Q", 1 << 40, "outside the delta region"),
    "parent in a circle": (4096 + 128 + 8, "Q", 2, "in a circle"),
    "name in use": (4096 + 128 + 56, "Q", int.from_bytes(b"main", "little"), "is not new"),
}


@pytest.mark.parametrize("case", REPLAY_DAMAGE)
def test_replay_names_what_is_damaged(case: str) -> None:
    offset, layout, value, reason = REPLAY_DAMAGE[case]
    with pytest.raises(V3Error, match=reason):
        branch_manifest(patched(image("delta"), offset, layout, value), "b1")


def test_replay_survives_any_byte_changed() -> None:
    rng = Random(2)
    delta = image("delta")
    places = [*range(4096, 4096 + 256), *range(LOG, LOG + 1309 + 40)]
    for _ in range(800):
        changed = patched(delta, rng.choice(places), "B", rng.randrange(256))
        try:
            branch_manifest(changed, "b1")
        except V3Error:
            continue


@needs_root
def test_trees_hold_every_kind_and_a_path_beyond_path_max(tmp_path: Path) -> None:
    random_tree(tmp_path / "tree", Random(3), entries=300)
    records = snapshot(tmp_path / "tree").values()
    paths = snapshot(tmp_path / "tree").keys()
    kinds = {"file", "directory", "symlink", "fifo", "socket", "character device", "block device"}
    assert {record.kind for record in records} == kinds
    names = [path.rsplit(b"/", 1)[1] for path in paths]
    assert max(map(len, paths)) > 4096
    assert max(map(len, names)) == 128
    assert any(b"\n" in name for name in names)
    assert any(name.startswith(b"-") for name in names)
    assert any(not _is_utf8(name) for name in names)
    assert max(record.size for record in records) > 1 << 30
    assert min(record.mtime_ns for record in records) < 0
    assert {record.kind for record in records if record.nlink > 1} >= {"file", "symlink"}
    assert any(record.mode & stat.S_ISUID for record in records)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@needs_root
def test_same_seed_same_tree_other_seed_other_tree(tmp_path: Path) -> None:
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        random_tree(tmp_path / name, Random(seed), entries=200)
    one = snapshot(tmp_path / "one")
    assert compare(one, snapshot(tmp_path / "two")) == []
    assert compare(one, snapshot(tmp_path / "other")) != []


@needs_root
def test_copy_compares_equal(tmp_path: Path) -> None:
    # cp uses whole paths, so it cannot copy the deep one.
    random_tree(tmp_path / "tree", Random(6), entries=300, options=Options(deep=False))
    subprocess.run(["cp", "-a", tmp_path / "tree", tmp_path / "copy"], check=True)
    assert compare(snapshot(tmp_path / "tree"), snapshot(tmp_path / "copy")) == []


def _small_tree(root: Path) -> None:
    root.mkdir()
    (root / "file").write_bytes(b"content")
    (root / "linked").write_bytes(b"twice")
    os.link(root / "linked", root / "other name")
    os.symlink("file", root / "symlink")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.setxattr(root / "file", "trusted.mark", b"before")
    for path in (*root.iterdir(), root):
        os.utime(path, ns=(0, 0), follow_symlinks=False)


def _rewrite(path: Path, data: bytes) -> None:
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)
    os.utime(path, ns=(0, 0), follow_symlinks=False)


def _unlink_and_copy(path: Path) -> None:
    data = path.read_bytes()
    _replace(path, lambda p: p.write_bytes(data))


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "kind": lambda root: _replace(root / "file", Path.mkdir),
    "mode": lambda root: (root / "file").chmod(0o4711),
    "uid": lambda root: os.chown(root / "symlink", 7, -1, follow_symlinks=False),
    "gid": lambda root: os.chown(root / "device", -1, 7),
    "size": lambda root: _rewrite(root / "file", b"content\0"),
    "nlink": lambda root: _unlink_and_copy(root / "other name"),
    "rdev": lambda root: _replace(
        root / "device", lambda p: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    ),
    "mtime_ns": lambda root: os.utime(root / "file", ns=(0, 1)),
    "target": lambda root: _replace(root / "symlink", lambda p: p.symlink_to("fil\n")),
    "content": lambda root: _rewrite(root / "file", b"contenu"),
    "xattrs": lambda root: os.setxattr(root / "file", "trusted.mark", b"after"),
    "links": lambda root: _unlink_and_copy(root / "other name"),
}


def test_every_field_has_a_mutation() -> None:
    assert set(MUTATIONS) == set(FIELDS)


@needs_root
@pytest.mark.parametrize("field", MUTATIONS)
def test_compare_sees_each_field(tmp_path: Path, field: str) -> None:
    _small_tree(tmp_path / "one")
    _small_tree(tmp_path / "two")
    one = snapshot(tmp_path / "one")
    assert compare(one, snapshot(tmp_path / "two")) == []
    MUTATIONS[field](tmp_path / "two")
    os.utime(tmp_path / "two", ns=(0, 0))
    two = snapshot(tmp_path / "two")
    differences = compare(one, two)
    assert any(f": {field} " in line for line in differences), differences
    assert not any(f": {field} " in line for line in compare(one, two, ignore=[field]))


def test_compare_sees_what_is_missing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "a").touch()
    (tmp_path / "two" / "b").touch()
    found = compare(snapshot(tmp_path / "one"), snapshot(tmp_path / "two"), ignore=["mtime_ns"])
    assert found == ["b'/a': only in the first", "b'/b': only in the second"]
    with pytest.raises(ValueError, match="colour"):
        compare({}, {}, ignore=["colour"])


def test_content_is_the_same_stored_or_in_holes(tmp_path: Path) -> None:
    for name in ("stored", "holes", "tail"):
        (tmp_path / name).mkdir()
    (tmp_path / "stored" / "f").write_bytes(bytes(200_000) + b"x" + bytes(100_000))
    for name, offset in (("holes", 200_000), ("tail", 200_001)):
        with (tmp_path / name / "f").open("wb") as file:
            file.truncate(300_001)
            file.seek(offset)
            file.write(b"x")
    stored, holes, tail = (
        snapshot(tmp_path / name)[b"/f"].content for name in ("stored", "holes", "tail")
    )
    assert stored == holes != tail


def _fake_apt(
    monkeypatch: pytest.MonkeyPatch, directory: Path, targets: str, proxy: str = ""
) -> None:
    for name, output in (("apt-get", targets), ("apt-config", proxy)):
        tool = directory / name
        tool.write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_mirror_is_the_one_apt_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    targets = "bookworm main http://other.invalid/ Someone\nbookworm-updates main u Debian\n"
    _fake_apt(monkeypatch, tmp_path, targets)
    with pytest.raises(debian_root.DebianRootError, match="name a mirror"):
        debian_root.apt_mirror()
    # On a newer Debian, that of the newer has the older, too.
    for release, address in (
        ("trixie", "http://newer.invalid"),
        ("bookworm", "http://own.invalid"),
    ):
        targets += f"{release} main {address} Debian\n"
        _fake_apt(monkeypatch, tmp_path, targets)
        assert debian_root.apt_mirror() == address


def test_proxy_is_the_one_apt_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("http_proxy", "http://environment.invalid")
    for setting, proxy in (
        ("", "http://environment.invalid"),
        ("proxy='http://apt.invalid:3142'\n", "http://apt.invalid:3142"),
        ("proxy='DIRECT'\n", None),
    ):
        _fake_apt(monkeypatch, tmp_path, "", setting)
        assert debian_root.apt_environment().get("http_proxy") == proxy


def test_debian_root_is_made_once(tmp_path: Path) -> None:
    made = tmp_path / f"debian-{debian_root.SUITE}-minbase"
    made.mkdir()
    assert debian_root.debian_root(tmp_path, mirror="http://unused.invalid") == made
