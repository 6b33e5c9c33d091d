# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A Debian in an image is worked on in a branch as on any other file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.debian_root import apt_environment, apt_mirror, debian_root
from support.mounts import Mounts


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Mount images, and take all mounts away in the end."""
    scratch = Path(tempfile.mkdtemp(prefix="daxfs-debian-", dir="/dev/shm"))
    mounts = Mounts(scratch, Path(sys.executable).parent)
    yield mounts
    mounts.clear()
    shutil.rmtree(scratch)


def test_packages_are_installed_in_a_branch(mounts: Mounts) -> None:
    image = mounts.build(debian_root(), "1G")
    root = mounts.mount(image, "branch=more,parent=main,suid,dev")
    (root / "etc/apt/sources.list").write_text(f"deb {apt_mirror()} bookworm main\n")
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc") / name, root / "etc" / name)
    configuration = Path("/etc/apt/apt.conf.d")
    shutil.copytree(configuration, root / configuration.relative_to("/"), dirs_exist_ok=True)
    environment = {**apt_environment(), "DEBIAN_FRONTEND": "noninteractive"}

    def inside(*command: str) -> str:
        done = subprocess.run(
            ["chroot", root, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout[-3000:])
        return done.stdout

    inside("apt-get", "update")
    inside("apt-get", "install", "-y", "--no-install-recommends", "python3-minimal", "git")
    inside("git", "init", "-q", "/srv/repository")
    assert inside("python3", "-c", "print(6 * 7)") == "42\n"
    assert inside("dpkg", "--audit") == ""
    mounts.run("daxfs-branch", "commit", "more", "-m", root)
    mounts.unmount(root)
    mounts.sound(image)
    again = mounts.mount(image, "ro")
    done = subprocess.run(
        ["chroot", again, "git", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("git version")
    assert os.path.isdir(again / "srv/repository/.git")
