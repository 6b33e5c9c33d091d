# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects access control lists: they are obeyed, inherited, and say what the mode says.

All is done on tmpfs as well, and what comes of it compared.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.mounts import Mounts

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER, USER, GROUP, NAMED_GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY, A_GROUP, OTHER_GROUP = 65534, 65533, 65535
IN_A_GROUP = f"--groups={A_GROUP}"


def acl(*entries: tuple[int, int] | tuple[int, int, int]) -> bytes:
    """Make a list of (whom, permissions) and (whom, permissions, id)."""
    packed = (struct.pack("<HHI", *(*entry, 0xFFFFFFFF)[:3]) for entry in entries)
    return struct.pack("<I", 2) + b"".join(packed)


READER = acl((OWNER, 6), (USER, 4, NOBODY), (GROUP, 0), (MASK, 7), (OTHER, 0))
MASKED = acl((OWNER, 6), (USER, 6, NOBODY), (GROUP, 6), (MASK, 2), (OTHER, 4))
NOT_THE_GROUP = acl((OWNER, 6), (GROUP, 0), (NAMED_GROUP, 4, A_GROUP), (MASK, 6), (OTHER, 4))
A_MODE = acl((OWNER, 7), (GROUP, 5), (OTHER, 1))
DEFAULTS = acl((OWNER, 7), (USER, 7, NOBODY), (GROUP, 5), (MASK, 7), (OTHER, 5))


def state(top: Path) -> list[object]:
    """Tell modes and lists of everything."""
    found: list[object] = []
    for path in sorted(top.rglob("*")):
        names = sorted(os.listxattr(path, follow_symlinks=False))
        lists = [os.getxattr(path, name) for name in names] if not path.is_symlink() else []
        found.append((str(path.relative_to(top)), oct(path.lstat().st_mode), names, lists))
    return found


def error(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as failure:
        return errno.errorcode[failure.errno or 0]
    return "OK"


def as_nobody(path: Path, flags: int, group: int) -> str:
    """Open a file as an ordinary user in a group."""
    program = (
        "import errno, os, sys\n"
        "try: os.open(sys.argv[1], int(sys.argv[2]))\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
        "else: print('OK')"
    )
    return run_as_nobody(group, program, path, str(flags)).strip()


def run_as_nobody(
    group: int, program: str, *arguments: str | Path, others: str = "--clear-groups"
) -> str:
    """Run a program of Python as an ordinary user in a group; return what it prints."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={group}", others]
    command: list[str | Path] = [*user, "/usr/bin/python3", "-c", program, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def make(path: Path, mode: int, group: int = 0) -> Path:
    path.write_text(path.name)
    path.chmod(mode)
    os.chown(path, 0, group)
    return path


def permissions(top: Path) -> list[object]:
    """Set lists, and see who may do what."""
    top.chmod(0o755)
    lists = {"reader": READER, "masked": MASKED, "not the group": NOT_THE_GROUP, "mode": A_MODE}
    found: list[object] = []
    for name, value in lists.items():
        file = make(top / name, 0o664, A_GROUP + 1)
        os.setxattr(file, ACCESS, value)
        for group in (A_GROUP, A_GROUP + 1):
            for flags in (os.O_RDONLY, os.O_WRONLY):
                found.append((name, group, flags, as_nobody(file, flags, group)))
    return found + state(top)


def changes(top: Path) -> list[object]:
    """Change modes and lists one after the other, and remove lists."""
    file = make(top / "file", 0o640)
    found: list[object] = []
    steps: list[Callable[[], object]] = [
        lambda: os.setxattr(file, ACCESS, READER),
        lambda: file.chmod(0o600),
        lambda: file.chmod(0o4775),
        lambda: os.setxattr(file, ACCESS, MASKED),
        lambda: os.chown(file, 1, 1),
        lambda: os.setxattr(file, ACCESS, A_MODE),
        lambda: os.setxattr(file, ACCESS, MASKED),
        lambda: os.removexattr(file, ACCESS),
        lambda: os.removexattr(file, ACCESS),
        lambda: os.setxattr(file, DEFAULT, DEFAULTS),
        lambda: os.setxattr(file, ACCESS, READER[:-1]),
        lambda: os.setxattr(file, ACCESS, acl((OWNER, 7), (GROUP, 7))),
        lambda: os.setxattr(file, ACCESS, acl((OTHER, 7), (GROUP, 7), (OWNER, 7))),
        lambda: os.setxattr(file, ACCESS, acl((OWNER, 7), (USER, 7, 5), (GROUP, 7), (OTHER, 7))),
        lambda: os.setxattr(file, ACCESS, b""),
    ]
    for step in steps:
        outcome = error(step)
        found.append((outcome, state(top)))
    return found


def inheritance(top: Path) -> list[object]:
    """Make things in directories with lists."""
    before = os.umask(0o027)
    try:
        for name, value in (("list", DEFAULTS), ("mode", A_MODE)):
            directory = top / name
            directory.mkdir()
            os.setxattr(directory, DEFAULT, value)
            (directory / "file").touch()
            (directory / "private").touch(0o600)
            os.mkfifo(directory / "fifo", 0o666)
            os.mknod(directory / "device", stat.S_IFCHR | 0o660, os.makedev(1, 3))
            (directory / "link").symlink_to("file")
            (directory / "below").mkdir()
            (directory / "below/again").mkdir(0o700)
            (directory / "below/file").touch()
            os.removexattr(directory / "below", DEFAULT)
            (directory / "below/plain").touch()
    finally:
        os.umask(before)
    return state(top)


def set_group_id(top: Path) -> list[object]:
    """Set a list of a file that runs as a group, as an owner who is of the group or is not."""
    top.chmod(0o777)
    file = make(top / "file", 0o2755, A_GROUP)
    os.chown(file, NOBODY, A_GROUP)
    program = "import os, sys; os.setxattr(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]))"
    states: list[object] = []
    clear = "--clear-groups"
    for group, others in ((A_GROUP, clear), (OTHER_GROUP, clear), (OTHER_GROUP, IN_A_GROUP)):
        file.chmod(0o2755)
        run_as_nobody(group, program, file, ACCESS, MASKED.hex(), others=others)
        states += state(top)
    return states


@pytest.mark.parametrize("work", [permissions, changes, inheritance, set_group_id])
def test_as_on_tmpfs(
    work: Callable[[Path], list[object]], mounts: Mounts, empty: Path, scratch: Path
) -> None:
    reference = scratch / "reference"
    reference.mkdir()
    point = mounts.mount(empty, "rw,allow_other")
    done = work(point)
    assert done == work(reference)
    mounts.unmount(point)
    # They are the image's: another mount, which only reads, shows and obeys the same.
    point = mounts.mount(empty, "ro,allow_other")
    assert state(point) == state(reference)
    mounts.sound(empty)


def test_an_image_keeps_and_obeys_lists(mounts: Mounts, scratch: Path) -> None:
    tree = scratch / "tree"
    (tree / "closed").mkdir(parents=True)
    tree.chmod(0o755)
    for name, value in (("reader", READER), ("not the group", NOT_THE_GROUP)):
        os.setxattr(make(tree / name, 0o664, A_GROUP + 1), ACCESS, value)
    inside = acl((OWNER, 7), (USER, 5, NOBODY), (GROUP, 0), (MASK, 5), (OTHER, 0))
    make(tree / "closed/inside", 0o644)
    os.setxattr(tree / "closed", ACCESS, inside)
    point = mounts.mount(mounts.build(tree), "ro,allow_other")
    assert state(point) == state(tree)
    for name in ("reader", "not the group", "closed/inside"):
        for group in (A_GROUP, A_GROUP + 1):
            allowed = as_nobody(tree / name, os.O_RDONLY, group)
            assert as_nobody(point / name, os.O_RDONLY, group) == allowed, (name, group)
    assert as_nobody(point / "not the group", os.O_RDONLY, A_GROUP + 1) == "EACCES"
