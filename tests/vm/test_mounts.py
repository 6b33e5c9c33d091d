# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Mounts through FUSE behave the same on the kernels that distributions have: tests of mounts, run
inside guests. `DAXFS_MOUNT_TESTS` says which, by default those of what kernels do differently.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from guest import Guest
from vmconfig import KERNELS

TOP = Path(__file__).parents[2]
# How pages are written back has changed in 6.16.
TESTS = os.environ.get("DAXFS_MOUNT_TESTS", "tests/fs/test_control.py -k mappings")


@pytest.mark.parametrize("series", KERNELS)
def test_mounts(series: str, tmp_path: Path) -> None:
    with Guest(series, tmp_path, memory="6G", modules=["fuse", "loop", "ext4"]) as guest:
        guest.check("mount -o remount,size=5G /dev/shm")
        # A disk, as machines have. The checkout may lie below the host's /tmp.
        guest.check("truncate -s 4G /run/disk && mkfs.ext4 -q /run/disk && mkdir /run/tmp")
        guest.check("mount /run/disk /run/tmp")
        command = f"cd {TOP} && {sys.executable} -m pytest -q -p no:cacheprovider {TESTS}"
        done = guest.run(command, env={"TMPDIR": "/run/tmp"}, timeout=4 * 3600)
        assert done.status == 0, done.stdout
