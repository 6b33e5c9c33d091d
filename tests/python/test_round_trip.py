# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the round trip: what goes into an image comes out again, all of it.

Trees are compared by `support.snapshot`, which walks them with the system's own calls, and images
by `support.v3reader`, which knows nothing but plain version 3.
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import daxfs
from support.debian_root import debian_root
from support.snapshot import Record
from support.trees import Options, compare, random_tree, snapshot
from support.v3reader import V3Image, unsatisfied

LATEST = (1 << 63) - 1

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and foreign owners")


def assert_sound(image: Path, *, data: bool = False) -> None:
    report = daxfs.validate(image, data=data)
    assert [str(finding) for finding in report.findings] == []
    with daxfs.open(image, trusted=True) as opened:
        plain = "branches" not in opened.features
    if plain:
        with image.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            assert unsatisfied(view) is None


def held(records: dict[bytes, Record]) -> dict[bytes, Record]:
    """Return what an image can hold of a tree: times end in the year 2262."""
    return {
        path: dataclasses.replace(record, mtime_ns=min(record.mtime_ns, LATEST))
        for path, record in records.items()
    }


def assert_round_trip(tree: Path, image: Path, out: Path) -> None:
    """Assert that what is extracted from `image` is `tree`, down to the last attribute."""
    with daxfs.open(image) as opened:
        opened.extract(out)
        assert compare(held(snapshot(tree)), snapshot(out)) == []
        assert opened.compare(tree) == []


@pytest.fixture(scope="session")
def debian() -> Path:
    """Return a Debian root file system."""
    return debian_root()


@needs_root
def test_debian_root(debian: Path, tmp_path: Path) -> None:
    image = tmp_path / "debian.daxfs"
    daxfs.build(debian, image, data_checksums=True)
    assert_sound(image, data=True)
    assert_round_trip(debian, image, tmp_path / "out")


@needs_root
def test_debian_root_as_plain_readers_see_it(debian: Path, tmp_path: Path) -> None:
    image = tmp_path / "debian.daxfs"
    daxfs.build(debian, image)
    told = {entry["path"]: entry for entry in V3Image(image.read_bytes()).manifest()}
    seen = {}
    for directory, directories, files in os.walk(debian):
        for name in [*directories, *files]:
            path = Path(directory, name)
            seen["/" + str(path.relative_to(debian))] = path
    assert told.keys() == seen.keys() | {"/"}
    for name, path in seen.items():
        status = path.lstat()
        entry = told[name]
        assert (entry["mode"], entry["uid"], entry["gid"]) == (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
        )
        if path.is_symlink():
            assert entry["target"] == str(path.readlink())
        elif path.is_file():
            assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@needs_root
def test_debian_root_through_tar(debian: Path, tmp_path: Path) -> None:
    tar = subprocess.Popen(
        ["tar", "--xattrs", "--format=posix", "-C", debian, "-c", "."], stdout=subprocess.PIPE
    )
    mkdaxfs = Path(sys.executable).with_name("mkdaxfs")
    command: list[str | Path] = [mkdaxfs, "--tar", "-", "-o", tmp_path / "from_tar.daxfs"]
    subprocess.run(command, stdin=tar.stdout, check=True)
    assert tar.stdout is not None
    tar.stdout.close()
    assert tar.wait() == 0
    daxfs.build(debian, tmp_path / "from_directory.daxfs")
    made = [(tmp_path / name).read_bytes() for name in ("from_tar.daxfs", "from_directory.daxfs")]
    assert made[0] == made[1]


@needs_root
@pytest.mark.parametrize("seed", range(8))
def test_random_trees(seed: int, tmp_path: Path) -> None:
    tree, image = tmp_path / "tree", tmp_path / "image.daxfs"
    tree.mkdir()
    random_tree(tree, random.Random(seed), entries=250, options=Options(sparse_max=1 << 26))
    daxfs.build(tree, image, branches=bool(seed % 2))
    assert_sound(image)
    assert image.stat().st_blocks * 512 < 1 << 30
    assert_round_trip(tree, image, tmp_path / "out")


@needs_root
def test_equal_trees_give_equal_images(tmp_path: Path) -> None:
    tree, copy = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    options = Options(deep=False, sparse_max=1 << 26)
    random_tree(tree, random.Random(99), entries=250, options=options)
    subprocess.run(["cp", "-a", "--sparse=always", tree, copy], check=True)
    daxfs.build(tree, tmp_path / "a")
    daxfs.build(copy, tmp_path / "b")
    subprocess.run(["cmp", tmp_path / "a", tmp_path / "b"], check=True)


def test_one_directory_of_100_000_entries(tmp_path: Path) -> None:
    tree, image = tmp_path / "tree", tmp_path / "image.daxfs"
    tree.mkdir()
    names = [f"{number:06}" for number in range(100_000)]
    random.Random(1).shuffle(names)
    for name in names:
        (tree / name).touch()
    daxfs.build(tree, image)
    assert_sound(image)
    with daxfs.open(image) as opened:
        assert opened.listdir("/") == sorted(names)
        assert all(opened.exists(name) for name in names[:1000])
        assert not opened.exists("100000")


def test_an_empty_tree(tmp_path: Path) -> None:
    tree, image = tmp_path / "tree", tmp_path / "image.daxfs"
    tree.mkdir()
    daxfs.build(tree, image)
    assert_sound(image)
    assert_round_trip(tree, image, tmp_path / "out")


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Make a tree of one huge file that is nearly all hole."""
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "sparse").open("wb") as file:
        file.truncate(64 << 30)
        file.seek(40 << 30)
        file.write(b"far out")
    return tree


def test_a_huge_sparse_file(sparse: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.daxfs"
    daxfs.build(sparse, image)
    assert image.stat().st_blocks * 512 < 64 << 20
    with daxfs.open(image) as opened:
        view = opened.view("sparse")
        assert len(view) == 64 << 30
        assert bytes(view[40 << 30 : (40 << 30) + 7]) == b"far out"
        assert not any(view[: 1 << 16])


def test_a_huge_sparse_file_of_an_archive(sparse: Path, tmp_path: Path) -> None:
    image, archive = tmp_path / "image.daxfs", tmp_path / "sparse.tar"
    subprocess.run(["tar", "--sparse", "-C", sparse, "-cf", archive, "."], check=True)
    daxfs.build(archive, image, tar=True)
    assert image.stat().st_blocks * 512 < 64 << 20
    with daxfs.open(image) as opened:
        assert bytes(opened.view("sparse")[40 << 30 : (40 << 30) + 7]) == b"far out"
