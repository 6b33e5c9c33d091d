# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects `Branch.map`: what is stored in a view is in the file, and nobody is surprised by it."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

import daxfs
from daxfs import errors
from support.small import sound


@pytest.fixture
def image(writable: daxfs.Image) -> daxfs.Image:
    return writable


class TestMap:
    def test_what_is_stored_is_in_the_file(self, path: Path) -> None:
        with daxfs.open(path, writable=True) as image:
            with image.branch("b") as branch:
                branch.write_bytes("f", bytes(range(256)) * 64)
                branch.sync()
                before = branch.stat("f").st_mtime_ns
                with branch.map("f") as view:
                    assert (view.readonly, view.format, view.shape) == (False, "B", (16384,))
                    assert view == branch.read_bytes("f")
                    view[100:103] = b"abc"
                    # At once, and for every party.
                    with daxfs.open(path, writable=True) as other:
                        seen = other.tree("b").read_bytes("f")
                    assert seen[98:105] == b"bcabcgh"
                    array = np.frombuffer(view, np.uint8)
                    array[5000:5004] = 7
                    del array
                assert branch.stat("f").st_mtime_ns > before
            content = image.read_bytes("f")
            assert (content[98:105], content[4999:5005]) == (b"bcabcgh", b"\x87\7\7\7\7\x8c")
        assert sound(path)

    def test_the_base_stays_as_it_was(
        self, image: daxfs.Image, branch: daxfs.Branch, path: Path
    ) -> None:
        branch.write_bytes("f", b"1" * 5000 + b"2" * 5000)
        branch.commit()
        with image.branch("c", keep=True) as child:
            with child.map("f", 4990, 20) as view:
                assert bytes(view) == b"1" * 10 + b"2" * 10
                view[:] = b"x" * 20
            assert image.read_bytes("f") == b"1" * 5000 + b"2" * 5000
            assert child.read_bytes("f") == b"1" * 4990 + b"x" * 20 + b"2" * 4990
            child.abort()
        assert image.read_bytes("f") == b"1" * 5000 + b"2" * 5000
        assert sound(path)

    def test_pieces_and_holes_are_gathered_once(self, branch: daxfs.Branch) -> None:
        with branch.open("f", "wb") as file:
            for at in (0, 90_000, 30_000):
                file.seek(at)
                file.write(b"%d" % at)
        with branch.map("f", 1, 60_000) as view:
            assert bytes(view[:3]) == bytes(3)
            assert bytes(view[29_999:30_004]) == b"30000"
            view[40_000] = 1
        extents = branch.extents("f")
        with branch.map("f", 4096, 4096) as view:
            view[0] = 2
        assert branch.extents("f") == extents
        assert branch.read_bytes("f")[40_001] == 1

    def test_a_view_is_never_left_behind(self, branch: daxfs.Branch) -> None:
        branch.write_bytes("f", b"1" * 20_000)
        with branch.map("f", 4096, 1000) as view, branch.map("f") as whole:
            view[0] = 2
            whole[4097] = 3
            assert bytes(whole[4096:4098]) == bytes(view[:2]) == b"\2\3"
        # Of this one only what was mapped has a block.
        branch.write_bytes("hole", b"")
        branch.truncate("hole", 1 << 20)
        with branch.map("hole", 4096, 1000) as view:
            with pytest.raises(errors.BranchBusyError, match="release it"):
                branch.map("hole")
            with branch.map("hole", 5000, 10) as part, branch.map("hole", 8192, 10) as next_to:
                part[0] = next_to[0] = 4
            view[0] = 5
        with branch.map("hole") as whole:
            assert (whole[4096], whole[5000], whole[8192]) == (5, 4, 4)

    def test_nothing_takes_a_branch_from_under_a_view(
        self, image: daxfs.Image, branch: daxfs.Branch
    ) -> None:
        branch.write_bytes("f", b"abc")
        view = branch.map("f")
        slices = [view[1:]]
        view.release()
        for refused in (
            branch.commit,
            branch.release,
            branch.close,
            lambda: image.branch("child", parent="b"),
        ):
            with pytest.raises(errors.BranchBusyError, match=r"1 writable view.* release"):
                refused()
        assert not branch.closed
        slices.pop()[:] = b"BC"
        branch.commit()
        assert image.read_bytes("f") == b"aBC"

    def test_a_view_outlives_its_branch(self, image: daxfs.Image, branch: daxfs.Branch) -> None:
        branch.write_bytes("f", b"a" * 100_000)
        view = branch.map("f")
        branch.abort()
        for name in ("one", "two"):
            with image.branch(name) as other:
                other.write_bytes(name, b"b" * 100_000)
            image.maintain()
        view[:] = b"c" * 100_000
        for name in ("one", "two"):
            assert image.read_bytes(name) == b"b" * 100_000

    def test_a_view_outlives_its_file(self, branch: daxfs.Branch) -> None:
        size = 5 << 20
        branch.write_bytes("f", b"a" * size)
        view = branch.map("f", 0, 4096)
        branch.unlink("f")
        # Many times what there is room for.
        for _ in range(8):
            branch.write_bytes("g", b"b" * size)
            assert bytes(view) == b"a" * 4096
            view[:] = b"a" * 4096
            assert branch.read_bytes("g") == b"b" * size
            branch.unlink("g")

    def test_bad_ranges_are_refused(self, branch: daxfs.Branch, image: daxfs.Image) -> None:
        branch.write_bytes("f", b"abc")
        assert bytes(branch.map("f", 3)) == b""
        for offset, length in ((4, None), (0, 4), (4, 0), (2, 1 << 62)):
            with pytest.raises(errors.InvalidError, match="of 3 bytes"):
                branch.map("f", offset, length)
        with pytest.raises(errors.NotFoundError):
            branch.map("no")
        with pytest.raises(IsADirectoryError):
            branch.map("/")
        with image.branch("b", writable=False, keep=True) as reader, pytest.raises(OSError) as why:
            reader.map("f")
        assert why.value.errno == errno.EROFS
