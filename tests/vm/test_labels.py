# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects those who mount where SELinux decides: the files get the label that they ask for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from devices import INSIDE, RESERVED, RESERVED_ADDRESS, loaded
from guest import Command, Guest
from module import load_module
from vmconfig import BIN, KERNELS

# Without any harm from a policy that allows next to nothing.
SELINUX = ("security=selinux", "selinux=1", "enforcing=0")
LABEL = "system_u:system_r:image_t:s0:c1,c2"


@pytest.mark.parametrize("series", KERNELS)
def test_files_have_the_label_that_is_asked_for(series: str, tmp_path: Path) -> None:
    tree, image, policy = tmp_path / "tree", tmp_path / "image", tmp_path / "policy"
    tree.mkdir()
    (tree / "file").touch()
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", tree, "-o", image], check=True)
    # What its classes lack is allowed.
    checkpolicy = ("checkpolicy", "-M", "-U", "allow", "-o")
    subprocess.run([*checkpolicy, policy, INSIDE / "policy.conf"], check=True)
    devices = [RESERVED, loaded(image, RESERVED_ADDRESS)]
    with Guest(series, tmp_path, devices=devices, modules=["fuse"], append=SELINUX) as guest:
        load_module(guest, series)
        guest.check("mkdir /run/m && mount -t selinuxfs selinuxfs /sys/fs/selinux")
        early = guest.run(mounting(str(image), f'context="{LABEL}"'))
        assert early.status == 32
        assert "is SELinux in use" in early.stderr

        guest.check(f"dd if={policy} of=/sys/fs/selinux/load bs=1M")
        memory = f"phys:{RESERVED_ADDRESS:#x}"
        for source, kind in [(str(image), "fuse.daxfs"), (memory, "daxfs")]:
            for given in (f'"{LABEL}"', LABEL.replace(",", r"\,")):
                guest.check(mounting(source, f"ro,context={given},nosuid"))
                shown = guest.check("findmnt -no FSTYPE,OPTIONS /run/m").split()
                assert shown[0] == kind
                assert shown[1].startswith("ro,nosuid,")
                assert guest.check("stat -c %C /run/m /run/m/file").split() == [LABEL] * 2
                guest.check([BIN / "daxfs", "umount", "/run/m"])
            unknown = guest.run(mounting(source, "context=system_u:system_r:other_t:s0"))
            assert unknown.status == 32
            assert len(unknown.stderr.splitlines()) == 1


def mounting(source: str, options: str) -> Command:
    return [BIN / "mount.daxfs", source, "/run/m", "-o", options]
