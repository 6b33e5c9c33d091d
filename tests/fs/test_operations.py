# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The same random operations on a mount and on tmpfs have the same outcomes and leave the same."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from support.mounts import Mounts
from support.operations import Operations
from support.snapshot import compare, snapshot

STEPS = 12_000


@pytest.mark.parametrize("seed", range(4))
def test_operations_as_on_tmpfs(
    mounts: Mounts, empty: Path, scratch: Path, seed: int, stress: int
) -> None:
    reference = scratch / "reference"
    reference.mkdir()
    os.umask(0o022)
    point = mounts.mount(empty, "branch=work,parent=main")
    ours, theirs = Operations(point, seed), Operations(reference, seed)
    for number in range(STEPS * stress):
        assert ours.step() == theirs.step(), f"step {number}"
    ours.close()
    theirs.close()
    expected = snapshot(reference)
    assert compare(expected, snapshot(point), ignore=["mtime_ns"]) == []
    mounts.unmount(point)
    # What is replayed is what was there, and it is a sound image.
    again = mounts.mount(empty, "ro,branch=work")
    assert compare(expected, snapshot(again), ignore=["mtime_ns"]) == []
    mounts.unmount(again)
    mounts.sound(empty)


def test_allocation_keeps_what_lies_behind_it(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    with (point / "file").open("w+b") as file:
        file.write(b"x" * 8192)
        file.flush()
        # A hole that ends within a page, and space for a part of that hole.
        assert _LIBC.fallocate(file.fileno(), 3, _offset(0), _offset(6000)) == 0
        os.posix_fallocate(file.fileno(), 100, 5000)
    # Not from what the kernel keeps.
    mounts.unmount(point)
    again = mounts.mount(empty, "ro")
    assert (again / "file").read_bytes() == bytes(6000) + b"x" * 2192


_LIBC = ctypes.CDLL(None)
_offset = ctypes.c_longlong
