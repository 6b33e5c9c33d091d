# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Many containers on one image: a branch each, and the memory of the base once.

What one of them sees otherwise than the others does not make it take them for dead.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import daxfs
from daxfs import control, errors
from support.mounts import IDMAPS, Mounts, memory_of, server_of
from support.programs import build_program
from support.users import as_user

MANY = 10
MIB = 1 << 20

# In a mount namespace of its own: mount a branch, read the base, write, wait to be told to end.
CONTAINER = r"""
import os, subprocess, sys
daxfs, image, point, number = sys.argv[1:]
options = f"branch=agent{number},parent=main"
subprocess.run([daxfs, "mount", "-o", options, image, point], check=True)
with open(point + "/large", "rb") as file:
    assert sum(len(part) for part in iter(lambda: file.read(1 << 20), b"")) == 64 << 20
with open(point + "/mine", "w") as file:
    file.write(number)
os.mkdir(point + f"/dir {number}")
print("ready", flush=True)
sys.stdin.read()
assert sorted(os.listdir(point)) == [f"dir {number}", "large", "mine"]
subprocess.run([daxfs, "umount", point], check=True)
"""


def test_ten_namespaces_have_a_branch_each(mounts: Mounts, scratch: Path) -> None:
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(os.urandom(64 * MIB))
    image = mounts.build(tree, "32M")
    point = mounts.point()
    (tree / "large").unlink()
    program = Path(sys.executable).with_name("daxfs")
    containers = [
        subprocess.Popen(
            ["unshare", "-m", sys.executable, "-c", CONTAINER, program, image, point, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(MANY)
    ]
    try:
        for container in containers:
            assert container.stdout is not None
            assert container.stdout.readline() == "ready\n"
        # Here nothing is mounted, and all branches are seen from a mount of our own.
        assert os.listdir(point) == []
        ours = mounts.mount(image, "ro")
        names = {branch.name for branch in control.branches(ours)}
        assert names == {"main", *(f"agent{number}" for number in range(MANY))}
        for number in range(MANY):
            assert (ours / f".daxfs/@agent{number}/mine").read_text() == str(number)
        # The base lies in memory once, whoever maps it: the image itself.
        assert image.stat().st_blocks * 512 < 64 * MIB + 16 * MIB
        private = memory_of(server_of(ours))
        assert private < 30 * MIB
    finally:
        for container in containers:
            container.communicate()
    assert [container.returncode for container in containers] == [0] * MANY
    mounts.sound(image)


def test_owners_can_be_moved(mounts: Mounts, empty: Path, tmp_path: Path) -> None:
    """As for a container with users of its own."""
    options = "rw,branch=work,parent=main,idmap"
    if not IDMAPS:
        said = mounts.run("daxfs", "mount", "-o", options, empty, mounts.point(), status=1)
        assert "idmap: with FUSE, this needs Linux 6.12" in said
        return
    point, moved = mounts.mount(empty, options), mounts.point()
    (point / "note").touch()
    for name in ("user.note", "trusted.note"):
        os.setxattr(point / "note", name, b"")
    subprocess.run([build_program("idmap", tmp_path), point, moved, "100000"], check=True)

    def make(directory: Path) -> None:
        os.mkdir(directory / "dir")
        os.chmod(directory / "dir", 0o777)
        os.symlink("x", directory / "dir/link")
        os.mkfifo(directory / "dir/fifo")
        (directory / "dir/file").touch()
        assert os.listxattr(directory / "note") == ["user.note"]

    # Root of the container owns what is root's, its users do not, and there is nobody else.
    assert as_user(lambda: make(moved), 100_000) == 0
    assert as_user(lambda: (moved / "other").touch(), 101_234) == errno.EACCES
    assert as_user(lambda: (moved / "dir/other").touch(), 101_234) == 0
    assert as_user(lambda: (moved / "dir/nobody").touch()) == errno.EOVERFLOW
    owners = {"dir": 0, "dir/link": 0, "dir/fifo": 0, "dir/file": 0, "dir/other": 1234}
    for top, distance in ((point, 0), (moved, 100_000)):
        for name, owner in owners.items():
            found = os.lstat(top / name)
            assert {found.st_uid, found.st_gid} == {owner + distance}, (top, name)
    # What requests do not say any more is still known of those who are here.
    assert sorted(os.listxattr(point / "note")) == ["trusted.note", "user.note"]
    for user in (100_000, 101_234):
        assert as_user(lambda: control.commit(moved, "work"), user) == errno.EACCES
    control.commit(point, "work")
    subprocess.run(["umount", moved], check=True)


@pytest.fixture
def shown(empty: Path, scratch: Path) -> Iterator[tuple[Path, Path]]:
    """Give an image twice: as a container's root shows it, and in the directory below."""
    names = ("lower", "upper", "work", "root")
    lower, upper, work, root = (scratch / name for name in names)
    for directory in (lower, upper, work, root):
        directory.mkdir()
    shutil.copy(empty, upper / "image")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", root], check=True)
    yield root / "image", upper / "image"
    subprocess.run(["umount", root], check=True)


def test_an_overlay_shows_pages_and_not_locks(shown: tuple[Path, Path]) -> None:
    for mine, others in (shown, shown[::-1]):
        with (
            daxfs.open(mine, writable=True) as image,
            daxfs.open(others, writable=True) as other,
            image.branch("held", parent="main") as branch,
        ):
            with pytest.raises(errors.BranchBusyError):
                other.branch("held")
            branch.write_text("file", "text")


def test_another_time_namespace_tells_other_starts(
    shown: tuple[Path, Path], mounts: Mounts
) -> None:
    # Where there are no locks, the start of a process tells it from a later one of its number.
    above, _ = shown
    listing = (Path(sys.executable).with_name("daxfs-branch"), "list", "--json", "-i", above)
    with daxfs.open(above, writable=True) as image, image.branch("held", parent="main"):
        for apart in ((), ("/usr/bin/unshare", "--fork", "--time", "--boottime", "100000")):
            branches = json.loads(mounts.run(*apart, *listing))
            (held,) = (branch["owner"] for branch in branches if branch["name"] == "held")
            assert held == {"pid": os.getpid(), "alive": True}
