# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects what lies behind block devices, by whatever name it is asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import daxfs
from daxfs import errors


def test_what_a_loop_device_shows_is_the_file_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "image"
    (tmp_path / "tree").mkdir()
    daxfs.build(tmp_path / "tree", path, branches=True, size="4M")
    before = path.read_bytes()
    done = subprocess.run(["losetup", "-f", "--show", path], capture_output=True, check=True)
    device = done.stdout.decode().strip()
    try:
        for source, output in ((path, device), (device, path)):
            with pytest.raises(errors.InvalidError, match="in place"):
                daxfs.compact(source, output, force=True)
            assert path.read_bytes() == before
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
