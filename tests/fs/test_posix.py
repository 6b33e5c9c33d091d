# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects what POSIX promises call by call: errors, times, link counts, permissions.

Each table runs on tmpfs as well, which proves the table.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.mounts import IDMAPS, Mounts

# An ordinary user, and a group that the user is in besides its own.
USER, GROUP = 65534, 65533


WORLDS = {"tmpfs": None, "daxfs": "rw,allow_other", "idmap": "rw,allow_other,idmap"}
if not IDMAPS:
    del WORLDS["idmap"]


@pytest.fixture(params=list(WORLDS.values()), ids=list(WORLDS))
def world(
    request: pytest.FixtureRequest, mounts: Mounts, empty: Path, scratch: Path
) -> Iterator[Path]:
    """Change to a directory with one of each thing."""
    if request.param is None:
        top = scratch / "world"
        top.mkdir()
    else:
        top = mounts.mount(empty, request.param)
    before = os.getcwd()
    os.chdir(top)
    os.umask(0o022)
    os.chmod(".", 0o755)
    for name in ("file", "other", "full/inside"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    os.mkdir("dir")
    os.symlink("file", "link")
    os.symlink("nothing", "dangling")
    os.symlink("loop2", "loop1")
    os.symlink("loop1", "loop2")
    os.mkfifo("fifo")
    os.mkdir("open", 0o777)
    os.chmod("open", 0o777)
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    Path("sticky/roots").touch()
    Path("mine").write_text("mine")
    os.chown("mine", USER, USER)
    os.mkdir("closed", 0o700)
    Path("closed/in").touch()
    yield top
    os.chdir(before)


def outcome(call: Callable[[], object]) -> str:
    """Give the name of the error that a call ends with, or OK."""
    try:
        result = call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    if isinstance(result, int) and not isinstance(result, bool) and result > 2:
        os.close(result)
    return "OK"


def open_(path: str, flags: int, mode: int = 0o644) -> Callable[[], int]:
    return lambda: os.open(path, flags, mode)


def on(path: str, flags: int, use: Callable[[int], object]) -> Callable[[], None]:
    """Use an open file."""

    def call() -> None:
        fd = os.open(path, flags)
        try:
            use(fd)
        finally:
            os.close(fd)

    return call


class Case(NamedTuple):
    """A call and how it ends."""

    call: Callable[[], object]
    expected: str


def twice(name: str, flags: int) -> None:
    """Set an attribute, and set it again."""
    os.setxattr("file", name, b"x")
    os.setxattr("file", name, b"x", flags)


BOTH = os.XATTR_CREATE | os.XATTR_REPLACE
LAST_PAGE = (1 << 63) - 4096
LONG_PATH = "/".join(["dir"] + ["."] * 2100)
W, R, C, X = os.O_WRONLY, os.O_RDONLY, os.O_CREAT, os.O_EXCL
DIRECTORY, NOFOLLOW, TRUNC = os.O_DIRECTORY, os.O_NOFOLLOW, os.O_TRUNC

# Attributes are trusted ones: before 6.6 tmpfs has none of users.
ERRORS = {
    "open nothing": Case(open_("nothing", R), "ENOENT"),
    "open below nothing": Case(open_("nothing/x", C | W), "ENOENT"),
    "open below a file": Case(open_("file/x", R), "ENOTDIR"),
    "create below a file": Case(open_("file/x", C | W), "ENOTDIR"),
    "open an empty path": Case(open_("", R), "ENOENT"),
    "create what exists": Case(open_("file", C | X | W), "EEXIST"),
    "create where a link is": Case(open_("dangling", C | X | W), "EEXIST"),
    "create through a link": Case(open_("dangling", C | W), "OK"),
    "open a directory for writing": Case(open_("dir", W), "EISDIR"),
    "create over a directory": Case(open_("dir", C | W), "EISDIR"),
    "open a file as a directory": Case(open_("file", R | DIRECTORY), "ENOTDIR"),
    "open a link as such": Case(open_("link", R | NOFOLLOW), "ELOOP"),
    "open a loop": Case(open_("loop1", R), "ELOOP"),
    "open below a loop": Case(open_("loop1/x", R), "ELOOP"),
    "open with a trailing slash": Case(open_("file/", R), "ENOTDIR"),
    "open too long a path": Case(open_(LONG_PATH, R), "ENAMETOOLONG"),
    "open too long a name": Case(open_("n" * 256, R), "ENAMETOOLONG"),
    "create too long a name": Case(open_("n" * 256, C | W), "ENAMETOOLONG"),
    "create as long a name as may be": Case(open_("n" * 128, C | W), "OK"),
    "open a FIFO without reader": Case(open_("fifo", W | os.O_NONBLOCK), "ENXIO"),
    "truncate a directory": Case(lambda: os.truncate("dir", 0), "EISDIR"),
    "truncate to less than nothing": Case(lambda: os.truncate("file", -1), "EINVAL"),
    "truncate what is open for reading": Case(
        on("file", R, lambda fd: os.ftruncate(fd, 0)), "EINVAL"
    ),
    "write what is open for reading": Case(on("file", R, lambda fd: os.write(fd, b"x")), "EBADF"),
    "read what is open for writing": Case(on("file", W, lambda fd: os.read(fd, 1)), "EBADF"),
    "read a directory's bytes": Case(on("dir", R, lambda fd: os.read(fd, 1)), "EISDIR"),
    "write at less than nothing": Case(on("file", W, lambda fd: os.pwrite(fd, b"x", -1)), "EINVAL"),
    "write beyond every size": Case(
        on("file", W, lambda fd: os.pwrite(fd, b"x", (1 << 63) - 1)), "EINVAL"
    ),
    "seek before the start": Case(on("file", R, lambda fd: os.lseek(fd, -1, 0)), "EINVAL"),
    "seek data behind the end": Case(
        on("file", R, lambda fd: os.lseek(fd, 100, os.SEEK_DATA)), "ENXIO"
    ),
    "seek a hole behind the end": Case(
        on("file", R, lambda fd: os.lseek(fd, 100, os.SEEK_HOLE)), "ENXIO"
    ),
    "allocate nothing": Case(on("file", W, lambda fd: os.posix_fallocate(fd, 0, 0)), "EINVAL"),
    "allocate in a FIFO": Case(
        on("fifo", os.O_RDWR, lambda fd: os.posix_fallocate(fd, 0, 1)), "ESPIPE"
    ),
    "allocate the last page that a file can have": Case(
        on("file", W, lambda fd: os.posix_fallocate(fd, LAST_PAGE, 1)), "OK"
    ),
    "allocate up to its end": Case(
        on("file", W, lambda fd: os.posix_fallocate(fd, LAST_PAGE - 1, 4096)), "OK"
    ),
    "allocate beyond every size": Case(
        on("file", W, lambda fd: os.posix_fallocate(fd, LAST_PAGE, 4096)), "EFBIG"
    ),
    "mkdir what exists": Case(lambda: os.mkdir("dir"), "EEXIST"),
    "mkdir where a link is": Case(lambda: os.mkdir("dangling"), "EEXIST"),
    "mkdir below nothing": Case(lambda: os.mkdir("nothing/x"), "ENOENT"),
    "mkdir below a file": Case(lambda: os.mkdir("file/x"), "ENOTDIR"),
    "mkdir .": Case(lambda: os.mkdir("."), "EEXIST"),
    "mkdir with a trailing slash": Case(lambda: os.mkdir("new/"), "OK"),
    "rmdir nothing": Case(lambda: os.rmdir("nothing"), "ENOENT"),
    "rmdir a file": Case(lambda: os.rmdir("file"), "ENOTDIR"),
    "rmdir a link": Case(lambda: os.rmdir("link"), "ENOTDIR"),
    "rmdir what is not empty": Case(lambda: os.rmdir("full"), "ENOTEMPTY"),
    "rmdir .": Case(lambda: os.rmdir("dir/."), "EINVAL"),
    "rmdir ..": Case(lambda: os.rmdir("dir/.."), "ENOTEMPTY"),
    "unlink nothing": Case(lambda: os.unlink("nothing"), "ENOENT"),
    "unlink a directory": Case(lambda: os.unlink("dir"), "EISDIR"),
    "unlink with a trailing slash": Case(lambda: os.unlink("file/"), "ENOTDIR"),
    "link to nothing": Case(lambda: os.link("nothing", "new"), "ENOENT"),
    "link over something": Case(lambda: os.link("file", "other"), "EEXIST"),
    "link a directory": Case(lambda: os.link("dir", "new"), "EPERM"),
    "link a link": Case(lambda: os.link("dangling", "new", follow_symlinks=False), "OK"),
    "symlink over something": Case(lambda: os.symlink("x", "file"), "EEXIST"),
    "symlink to an empty path": Case(lambda: os.symlink("", "new"), "ENOENT"),
    "symlink to too long a path": Case(lambda: os.symlink("x" * 4096, "new"), "ENAMETOOLONG"),
    "read a file as a link": Case(lambda: os.readlink("file"), "EINVAL"),
    "rename nothing": Case(lambda: os.rename("nothing", "new"), "ENOENT"),
    "rename into nothing": Case(lambda: os.rename("file", "nothing/x"), "ENOENT"),
    "rename a file over a directory": Case(lambda: os.rename("file", "dir"), "EISDIR"),
    "rename a directory over a file": Case(lambda: os.rename("dir", "file"), "ENOTDIR"),
    "rename over a full directory": Case(lambda: os.rename("dir", "full"), "ENOTEMPTY"),
    "rename over an empty directory": Case(lambda: os.rename("full", "dir"), "OK"),
    "rename into itself": Case(lambda: os.rename("dir", "dir/x"), "EINVAL"),
    "rename .": Case(lambda: os.rename("dir/.", "new"), "EBUSY"),
    "rename to itself": Case(lambda: os.rename("file", "file"), "OK"),
    "rename a link": Case(lambda: os.rename("loop1", "new"), "OK"),
    "mknod over something": Case(lambda: os.mknod("file"), "EEXIST"),
    "mkfifo below a file": Case(lambda: os.mkfifo("file/x"), "ENOTDIR"),
    "chmod nothing": Case(lambda: os.chmod("nothing", 0), "ENOENT"),
    "chmod a dangling link": Case(lambda: os.chmod("dangling", 0), "ENOENT"),
    "chown below a file": Case(lambda: os.chown("file/x", 0, 0), "ENOTDIR"),
    "utimes of a loop": Case(lambda: os.utime("loop1"), "ELOOP"),
    "list a file": Case(lambda: os.listdir("file"), "ENOTDIR"),
    "change into a file": Case(lambda: os.chdir("file"), "ENOTDIR"),
    "get no attribute": Case(lambda: os.getxattr("file", "trusted.none"), "ENODATA"),
    "remove no attribute": Case(lambda: os.removexattr("file", "trusted.none"), "ENODATA"),
    "replace no attribute": Case(
        lambda: os.setxattr("file", "trusted.a", b"x", os.XATTR_REPLACE), "ENODATA"
    ),
    "replace and make no attribute": Case(
        lambda: os.setxattr("file", "trusted.a", b"x", BOTH), "ENODATA"
    ),
    "replace and make an attribute": Case(lambda: twice("trusted.a", BOTH), "EEXIST"),
    "an attribute without name": Case(lambda: os.setxattr("file", "trusted.", b"x"), "EINVAL"),
    "get an attribute without name": Case(lambda: os.getxattr("file", "trusted."), "EINVAL"),
    "remove an attribute without name": Case(lambda: os.removexattr("file", "trusted."), "EINVAL"),
    "an attribute without namespace": Case(lambda: os.setxattr("file", "a", b"x"), "ENOTSUP"),
    "get an attribute without namespace": Case(lambda: os.getxattr("file", "a.b"), "ENOTSUP"),
    "remove an attribute without namespace": Case(
        lambda: os.removexattr("file", "system.b"), "ENOTSUP"
    ),
    "an attribute of users on a link": Case(
        lambda: os.setxattr("link", "user.a", b"x", follow_symlinks=False), "EPERM"
    ),
    "too long a name of an attribute": Case(
        lambda: os.setxattr("file", "trusted." + "a" * 248, b"x"), "ERANGE"
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(world: Path, name: str) -> None:
    case = ERRORS[name]
    assert outcome(case.call) == case.expected


def test_cutting_a_file_where_it_ends_needs_no_space(mounts: Mounts, scratch: Path) -> None:
    """As a shell does with `> FILE`, if there is nothing in it yet."""
    (scratch / "small").mkdir()
    point = mounts.mount(mounts.build(scratch / "small", "4M"), "rw")
    (point / "empty").touch()
    (point / "full").write_bytes(b"x" * 5000)
    with (point / "filling").open("wb", buffering=0) as file:
        while outcome(lambda: bool(file.write(bytes(4096)))) != "ENOSPC":
            pass
    names = (point / str(number) for number in itertools.count())
    while outcome(next(names).touch) != "ENOSPC":
        pass
    before = (point / "empty").stat().st_mtime_ns
    with (point / "empty").open("wb"):
        pass
    assert (point / "empty").stat().st_mtime_ns > before
    os.truncate(point / "full", 5000)
    assert (point / "full").read_bytes() == b"x" * 5000


def zero_range(fd: int, offset: int, length: int, flags: int = 0) -> None:
    """Make a part of a file zeroes, as `os` cannot."""
    place = [ctypes.c_int64(number) for number in (offset, length)]
    if LIBC.fallocate(fd, ZERO_RANGE | flags, *place):
        raise OSError(ctypes.get_errno(), "fallocate")


LIBC = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, ZERO_RANGE = 0x01, 0x10


def test_a_range_of_zeroes(mounts: Mounts, scratch: Path) -> None:
    """Only daxfs: tmpfs makes none."""
    (scratch / "small").mkdir()
    point = mounts.mount(mounts.build(scratch / "small", "4M"), "rw")
    with (point / "file").open("w+b", buffering=0) as file:
        content = b"x" * 20_000
        file.write(content)
        # All or nothing.
        assert outcome(lambda: zero_range(file.fileno(), 0, 64 << 20)) == "ENOSPC"
        assert (point / "file").read_bytes() == content
        zero_range(file.fileno(), 5000, 10_000, KEEP_SIZE)
        content = content[:5000] + bytes(10_000) + content[15_000:]
        assert (point / "file").read_bytes() == content
        zero_range(file.fileno(), 19_000, 10_000, KEEP_SIZE)
        assert (point / "file").read_bytes() == content[:19_000] + bytes(1000)
        zero_range(file.fileno(), 19_000, 10_000)
        assert (point / "file").read_bytes() == content[:19_000] + bytes(10_000)
        zero_range(file.fileno(), LAST_PAGE, 4095, KEEP_SIZE)
        assert os.fstat(file.fileno()).st_size == 29_000
        zero_range(file.fileno(), LAST_PAGE, 4095)
        assert os.fstat(file.fileno()).st_size == LAST_PAGE + 4095


def test_names_have_at_most_128_bytes(mounts: Mounts, empty: Path) -> None:
    """Only daxfs: other file systems of Linux take 255."""
    point = mounts.mount(empty, "rw")
    long = point / ("n" * 129)
    (point / "file").touch()
    for call in (
        long.touch,
        long.mkdir,
        lambda: long.symlink_to("x"),
        lambda: os.mkfifo(long),
        lambda: os.link(point / "file", long),
        lambda: os.rename(point / "file", long),
    ):
        assert outcome(call) == "ENAMETOOLONG"
    assert os.pathconf(point, "PC_NAME_MAX") == 128


def as_user(call: Callable[[], object], groups: tuple[int, ...] = ()) -> str:
    """Give the outcome of a call that an ordinary user makes."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups(groups)
        os.setgid(USER)
        os.setuid(USER)
        os.write(write, outcome(call).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    answer = os.read(read, 100).decode()
    os.close(read)
    return answer


PERMISSIONS = {
    "write somebody's file": Case(open_("file", W), "EACCES"),
    "read what is for all": Case(open_("file", R), "OK"),
    "create in somebody's directory": Case(open_("dir/new", C | W), "EACCES"),
    "create in a directory for all": Case(open_("open/new", C | W), "OK"),
    "search a closed directory": Case(lambda: os.stat("closed/in"), "EACCES"),
    "list a closed directory": Case(lambda: os.listdir("closed"), "EACCES"),
    "unlink in somebody's directory": Case(lambda: os.unlink("full/inside"), "EACCES"),
    "unlink somebody's file where it sticks": Case(lambda: os.unlink("sticky/roots"), "EPERM"),
    "rename somebody's file where it sticks": Case(
        lambda: os.rename("sticky/roots", "sticky/x"), "EPERM"
    ),
    "rename from somebody's directory": Case(lambda: os.rename("mine", "open/mine"), "EACCES"),
    "chmod somebody's file": Case(lambda: os.chmod("file", 0o777), "EPERM"),
    "chmod one's own": Case(lambda: os.chmod("mine", 0o600), "OK"),
    "give a file away": Case(lambda: os.chown("mine", 0, -1), "EPERM"),
    "give a file to a strange group": Case(lambda: os.chown("mine", -1, 0), "EPERM"),
    "give a file to a group of one's own": Case(lambda: os.chown("mine", -1, GROUP), "OK"),
    "chown somebody's file": Case(lambda: os.chown("file", USER, -1), "EPERM"),
    "set times of somebody's file": Case(lambda: os.utime("file", (1, 1)), "EPERM"),
    "set times of somebody's file to now": Case(lambda: os.utime("file"), "EACCES"),
    "set times of one's own": Case(lambda: os.utime("mine", (1, 1)), "OK"),
    "truncate somebody's file": Case(lambda: os.truncate("file", 0), "EACCES"),
    "make a device": Case(lambda: os.mknod("open/d", stat.S_IFCHR | 0o600, 0x103), "EPERM"),
    "make a FIFO": Case(lambda: os.mkfifo("open/p"), "OK"),
    "set an attribute of somebody's": Case(lambda: os.setxattr("file", "user.a", b"x"), "EACCES"),
    "set a trusted attribute": Case(lambda: os.setxattr("mine", "trusted.a", b"x"), "EPERM"),
    "change the root": Case(lambda: os.chroot("."), "EPERM"),
}


@pytest.mark.parametrize("name", PERMISSIONS)
def test_permissions(world: Path, name: str) -> None:
    case = PERMISSIONS[name]
    assert as_user(case.call, (GROUP,)) == case.expected


def test_set_id_bits(world: Path) -> None:
    """They go when others change or get the file, and stay when the superuser writes."""
    os.chmod("mine", 0o6777)
    assert as_user(lambda: on("mine", W, lambda fd: os.write(fd, b"x"))()) == "OK"
    assert stat.S_IMODE(os.stat("mine").st_mode) == 0o777
    os.chmod("mine", 0o6755)
    os.chown("mine", USER, GROUP)
    assert stat.S_IMODE(os.stat("mine").st_mode) == 0o755
    # A superuser may be without the capability to leave them.
    for options, left in (((), 0o6755), (("--bounding-set=-fsetid",), 0o755)):
        os.chmod("mine", 0o6755)
        subprocess.run(["setpriv", *options, "truncate", "--size=1", "mine"], check=True)
        assert stat.S_IMODE(os.stat("mine").st_mode) == left
    # Where the group does not run the file, it is strangers to the group who take them.
    for work in (
        lambda: os.truncate("mine", 0),
        on("mine", W, lambda fd: os.write(fd, b"x")),
        on("mine", W, lambda fd: os.posix_fallocate(fd, 0, 10)),
    ):
        for groups, left in (((), 0o666), ((GROUP,), 0o2666)):
            os.chmod("mine", 0o6666)
            assert as_user(work, groups) == "OK"
            assert stat.S_IMODE(os.stat("mine").st_mode) == left
    os.chmod("mine", 0o2666)
    os.chown("mine", USER, GROUP)
    assert stat.S_IMODE(os.stat("mine").st_mode) == 0o2666
    # Nothing of the kind is a directory's.
    os.chmod("open", 0o6777)
    os.chown("open", 0, GROUP)
    assert stat.S_IMODE(os.stat("open").st_mode) == 0o6777
    # Who is not in the group of a file cannot make it one that runs as that group.
    assert as_user(lambda: os.chmod("mine", 0o2755)) == "OK"
    assert stat.S_IMODE(os.stat("mine").st_mode) == 0o755
    # What is made in a directory with the bit gets its group, a directory the bit too.
    os.chown("open", 0, GROUP)
    os.chmod("open", 0o2777)
    assert as_user(lambda: os.mkdir("open/below")) == "OK"
    assert as_user(open_("open/made", C | W)) == "OK"
    below, made = os.stat("open/below"), os.stat("open/made")
    assert (below.st_gid, below.st_mode & stat.S_ISGID) == (GROUP, stat.S_ISGID)
    assert (made.st_uid, made.st_gid, made.st_mode & stat.S_ISGID) == (USER, GROUP, 0)


def test_users_are_not_shown_trusted_attributes(world: Path) -> None:
    os.setxattr("mine", "trusted.a", b"x")
    assert os.listxattr("mine") == ["trusted.a"]
    assert as_user(lambda: [os.getxattr("mine", name) for name in os.listxattr("mine")]) == "OK"


def times(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_mtime_ns, status.st_ctime_ns


class Change(NamedTuple):
    """A call, and of which paths it changes mtime and ctime, or ctime alone."""

    call: Callable[[], object]
    both: tuple[str, ...] = ()
    ctime: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


WATCHED = (".", "file", "other", "dir", "full", "full/inside", "link", "fifo", "mine", "open")

TIMES = {
    "create": Change(open_("dir/new", C | W), both=("dir",)),
    "open what exists": Change(open_("file", C | W)),
    "write": Change(on("file", W, lambda fd: os.write(fd, b"x")), both=("file",)),
    "write nothing": Change(on("file", W, lambda fd: os.write(fd, b""))),
    "truncate": Change(lambda: os.truncate("file", 1), both=("file",)),
    "truncate to the same size": Change(lambda: os.truncate("file", 4), both=("file",)),
    "open to truncate": Change(open_("file", W | TRUNC), both=("file",)),
    "allocate": Change(on("file", W, lambda fd: os.posix_fallocate(fd, 0, 9000)), both=("file",)),
    "chmod": Change(lambda: os.chmod("file", 0o600), ctime=("file",)),
    "chmod through a link": Change(lambda: os.chmod("link", 0o600), ctime=("file",)),
    "chown": Change(lambda: os.chown("file", 1, 1), ctime=("file",)),
    "lchown": Change(lambda: os.lchown("link", 1, 1), ctime=("link",)),
    "utime": Change(lambda: os.utime("file", (1, 2)), both=("file",)),
    "set an attribute": Change(lambda: os.setxattr("file", "trusted.a", b"x"), ctime=("file",)),
    "link": Change(lambda: os.link("file", "dir/new"), both=("dir",), ctime=("file",)),
    "unlink": Change(lambda: os.unlink("full/inside"), both=("full",), gone=("full/inside",)),
    "mkdir": Change(lambda: os.mkdir("dir/new"), both=("dir",)),
    "rmdir": Change(lambda: os.rmdir("dir"), both=(".",), gone=("dir",)),
    "symlink": Change(lambda: os.symlink("x", "dir/new"), both=("dir",)),
    "mkfifo": Change(lambda: os.mkfifo("dir/new"), both=("dir",)),
    "rename": Change(lambda: os.rename("file", "dir/new"), both=(".", "dir"), gone=("file",)),
    "rename in a directory": Change(
        lambda: os.rename("full/inside", "full/new"), both=("full",), gone=("full/inside",)
    ),
    "rename to itself": Change(lambda: os.rename("file", "file")),
    "read": Change(on("file", R, lambda fd: os.read(fd, 4))),
    "stat": Change(lambda: os.stat("file")),
    "list": Change(lambda: os.listdir("full")),
    "read a link": Change(lambda: os.readlink("link")),
    "what fails": Change(lambda: outcome(lambda: os.mkdir("dir/."))),
}


@pytest.mark.parametrize("name", TIMES)
def test_times(world: Path, name: str) -> None:
    change = TIMES[name]
    before = {path: times(path) for path in WATCHED}
    # A clock that ticks coarsely ticks meanwhile.
    time.sleep(0.02)
    outcome(change.call)
    for path in WATCHED:
        if path in change.gone:
            continue
        changed = tuple(new != old for new, old in zip(times(path), before[path], strict=True))
        expected = (path in change.both, path in change.both + change.ctime)
        assert changed == expected, path


@pytest.mark.parametrize("end", [-(1 << 63), (1 << 63) - 1])
def test_times_out_of_range_are_the_nearest(mounts: Mounts, empty: Path, end: int) -> None:
    # The first of all seconds cannot be negated. A server of one thread that dies of it says so.
    file = mounts.mount(empty, "rw,threads=1") / "file"
    file.touch()
    os.utime(file, (end, end))
    status = file.stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (end, end)


def links(*paths: str) -> list[int]:
    return [os.lstat(path).st_nlink for path in paths]


def test_link_counts(world: Path) -> None:
    assert links("file", "dir", "full") == [1, 2, 2]
    top = links(".")[0]
    os.mkdir("dir/below")
    assert links("dir", "dir/below", ".") == [3, 2, top]
    os.rename("dir/below", "full/below")
    assert links("dir", "full", "full/below") == [2, 3, 2]
    os.mkdir("dir/target")
    os.rename("full/below", "dir/target")
    assert links("dir", "full", "dir/target") == [3, 2, 2]
    os.rmdir("dir/target")
    os.rmdir("dir")
    assert links(".")[0] == top - 1
    os.link("file", "second")
    os.link("second", "third")
    assert links("file", "third") == [3, 3]
    with open("third", "rb") as third:
        os.rename("other", "third")
        assert (links("file"), os.fstat(third.fileno()).st_nlink) == ([2], 2)
        os.unlink("file")
        os.unlink("second")
        assert os.fstat(third.fileno()).st_nlink == 0
        assert third.read() == b"file"
    assert links("third") == [1]


def test_public_suite(mounts: Mounts, empty: Path, scratch: Path, pjdfstest: Path) -> None:
    config = scratch / "suite.toml"
    config.write_text(
        "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutimensat = {}\nutime_now = {}\n"
        "stat_st_birthtime = {}\n[settings]\nnaptime = 0.01\nallow_remount = true\n"
        '[dummy_auth]\nentries = [["nobody", "nogroup"], ["daemon", "daemon"]]\n'
    )
    point = mounts.mount(empty, "rw,allow_other")
    point.chmod(0o755)
    suite = f"{pjdfstest} -c {config} -p {point} -s {scratch}"
    # By themselves, before the others: some of those leave files open for writing.
    remounting = mounts.with_helpers(f"{suite} erofs")
    assert "Summary: 0 failed, 0 skipped, 13 passed" in remounting.stdout, remounting.stdout
    config.write_text(config.read_text().replace("allow_remount = true", "allow_remount = false"))
    done = mounts.with_helpers(suite)
    assert "Summary: 0 failed" in done.stdout, done.stdout
    skipped = [
        name for name in re.findall(r"(\w+::\S+) +skipped", done.stdout) if "erofs" not in name
    ]
    # A file may have more links than the suite is willing to make.
    assert skipped == ["link::link_count_max"]


def test_open_files_outlive_their_names(world: Path) -> None:
    with open("file", "r+b") as file:
        os.unlink("file")
        file.write(b"x" * 10_000)
        file.seek(0)
        assert file.read() == b"x" * 10_000
        os.ftruncate(file.fileno(), 3)
        os.fchmod(file.fileno(), 0o640)
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_nlink, status.st_mode & 0o777) == (3, 0, 0o640)
    descriptor = os.open("dir", os.O_RDONLY)
    os.rmdir("dir")
    assert os.listdir(descriptor) == []
    assert outcome(lambda: os.open("new", C | W, dir_fd=descriptor)) == "ENOENT"
    assert outcome(lambda: os.mkdir("new", dir_fd=descriptor)) == "ENOENT"
    os.close(descriptor)


def handle_of(path: str) -> bytes:
    handle = ctypes.create_string_buffer(struct.pack("II", 128, 0), 136)
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    return handle.raw


def open_by_handle(handle: bytes) -> int:
    directory = os.open(".", R)
    file: int = LIBC.open_by_handle_at(directory, handle, R)
    error = ctypes.get_errno()
    os.close(directory)
    if file < 0:
        raise OSError(error, "open_by_handle_at")
    return file


def test_handles_lead_to_what_has_a_name(world: Path) -> None:
    handle, directory = handle_of("file"), handle_of("dir")
    file = open_by_handle(handle)
    assert os.read(file, 10) == b"file"
    os.close(file)
    os.unlink("file")
    os.rmdir("dir")
    assert outcome(lambda: open_by_handle(handle)) == "ESTALE"
    assert outcome(lambda: open_by_handle(directory)) == "ESTALE"
