# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What takes kernels or disks of the test's own, but no module.

Mounts through FUSE behave the same on the kernels that distributions have: tests of mounts, run
inside guests. `DAXFS_MOUNT_TESTS` says which, by default those of what kernels do differently.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guest import Guest
from vmconfig import BIN, KERNELS

TOP = Path(__file__).parents[2]
# How pages are written back has changed in 6.16, and owners are moved since 6.12.
DIFFERENT = "tests/fs/test_control.py tests/fs/test_namespaces.py -k 'mappings or owners'"
TESTS = os.environ.get("DAXFS_MOUNT_TESTS", DIFFERENT)


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


def test_a_full_disk_is_no_place_for_attributes(tmp_path: Path) -> None:
    """An attribute that is too large for any file is left out; one that finds no room is not."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / str(number)).touch()
        # No two alike: those would share a block.
        os.setxattr(tree / str(number), "user.some", bytes([number]) * 900)
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", tree, "-o", tmp_path / "image"], check=True)
    with Guest(next(iter(KERNELS)), tmp_path, modules=["loop", "ext4"]) as guest:
        guest.check("truncate -s 1M /run/disk && mkfs.ext4 -qb 1024 -O ^has_journal /run/disk")
        guest.check("mkdir /run/tmp && mount /run/disk /run/tmp")
        # Room for names, and for some of the attributes.
        guest.run("dd if=/dev/zero of=/run/tmp/fill bs=1k; truncate -cs -20K /run/tmp/fill")
        done = guest.run([BIN / "daxfs", "extract", tmp_path / "image", "/run/tmp/copy"])
        assert done.status == 1
        assert "No space left on device" in done.stderr
        assert "/run/tmp/copy/" in done.stderr
