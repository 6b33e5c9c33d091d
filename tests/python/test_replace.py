# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects what is where an image is to go: others' images in use, and the image's own source."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import daxfs
from daxfs import errors
from support.small import sound


@pytest.fixture
def memory(path: Path) -> Iterator[int]:
    """Open an image as memory to write into."""
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def unchanged(path: Path, work: Callable[[], object]) -> bool:
    """Tell whether a file is as it was before."""
    before = path.read_bytes()
    work()
    return path.read_bytes() == before


def test_an_image_is_not_compacted_onto_itself(path: Path, memory: int) -> None:
    same = ((memory, memory), (memory, f"fd:{memory}"), (memory, path), (path, memory))
    for source, output in same:

        def compact(
            source: int | Path = source, output: int | str | Path = output
        ) -> pytest.ExceptionInfo[errors.InvalidError]:
            with pytest.raises(errors.InvalidError, match="in place") as refused:
                daxfs.compact(source, output, force=True)
            return refused

        assert unchanged(path, compact)
    # A file gives way to another, which leaves the old one whole until then.
    inode = path.stat().st_ino
    daxfs.compact(path, path, force=True)
    assert path.stat().st_ino != inode
    assert sound(path)


def test_an_archive_is_not_written_over_as_it_is_read(image: daxfs.Image, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    image.extract_tar(archive)

    def build() -> None:
        with archive.open("r+b") as file, pytest.raises(errors.InvalidError, match="itself"):
            daxfs.build(archive, file.fileno(), tar=True, force=True)

    assert unchanged(archive, build)


def test_memory_in_use_is_not_built_into(
    path: Path, memory: int, tree: Path, image_path: Path
) -> None:
    with daxfs.open(path, writable=True) as image, image.branch("b") as branch:
        branch.write_text("new", "text")
        builds: list[Callable[[], object]] = [
            lambda: daxfs.build(tree, memory, force=True),
            lambda: daxfs.compact(image_path, memory, force=True),
            lambda: daxfs.compact(image_path, path, force=True),
        ]
        for build in builds:
            with pytest.raises(errors.BranchBusyError, match=f"process {os.getpid()} has"):
                build()
    assert sound(path)
    with daxfs.open(path) as image:
        assert image.read_text("new") == "text"
    daxfs.build(tree, memory, force=True)
    assert sound(path)


def test_other_file_systems_in_memory_stay(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "swap"
    other.touch()
    os.truncate(other, 64 << 20)
    subprocess.run(["mkswap", other], check=True, capture_output=True)
    with other.open("r+b") as file:
        fd = file.fileno()

        def refused() -> None:
            with pytest.raises(errors.ExistsError, match=r"something else \(swap\); `force`"):
                daxfs.build(tree, fd)

        assert unchanged(other, refused)
        daxfs.build(tree, fd, force=True)
    assert daxfs.validate(other).errors == 0


def test_wrong_contents_get_no_right_checksums(tree: Path, tmp_path: Path) -> None:
    path, copy = tmp_path / "x", tmp_path / "copy"
    daxfs.build(tree, path, data_checksums=True)
    with daxfs.open(path) as image:
        (extent, *_) = image.extents("big")
    with path.open("r+b") as file:
        file.seek(extent.image_offset)
        file.write(b"!")
    with pytest.raises(errors.UnsoundImageError, match="checksum of a file"):
        daxfs.compact(path)
    assert not sound(path)
    daxfs.compact(path, copy, trusted=True)
    assert sound(copy)
