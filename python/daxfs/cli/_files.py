# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How files and numbers read, for people and for machines."""

from __future__ import annotations

import os
import stat
import time
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._daxfs import Maintained, Stat
    from ..image import Image

# coreutils shows the year instead of the time beyond this age.
_HALF_A_YEAR = 31556952 // 2

_KINDS = {
    stat.S_IFREG: "regular file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def kind_of(mode: int) -> str:
    """Return the name of a file's type."""
    return _KINDS.get(stat.S_IFMT(mode), "unknown")


@cache
def user_name(uid: int) -> str:
    """Return this machine's name of a user, or the number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


@cache
def group_name(gid: int) -> str:
    """Return this machine's name of a group, or the number."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return str(gid)


def list_time(mtime_ns: int) -> str:
    """Return a time as `ls -l` shows it."""
    seconds = mtime_ns // 10**9
    recent = -_HALF_A_YEAR < seconds - time.time() <= 0
    return time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", time.localtime(seconds))


def full_time(mtime_ns: int) -> str:
    """Return a time as `stat` shows it, to the nanosecond."""
    seconds, fraction = divmod(mtime_ns, 10**9)
    local = time.localtime(seconds)
    return (
        f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{fraction:09d} {time.strftime('%z', local)}"
    )


def byte_count(count: int) -> str:
    """Return a number of bytes with a suitable unit."""
    if count < 1024:
        return f"{count} bytes"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1023.95 or unit == "TiB":
            break
    return f"{value:.1f} {unit}"


def count_of(count: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def maintained(done: Maintained) -> dict[str, int]:
    """Return what was done to an image's branches, for JSON."""
    return {
        "dead_processes": done.dead_openers,
        "released_branches": done.broken_holds,
        "freed_records": done.records,
        "freed_bytes": done.bytes,
        "leaked_bytes": done.leaked_bytes,
        "folded_layers": done.folded_layers,
    }


def describe(image: Image, path: str, info: Stat) -> dict[str, Any]:
    """Return what is known of a file, for JSON."""
    mode = info.st_mode
    about: dict[str, Any] = {
        "path": path,
        "type": kind_of(mode),
        "mode": f"{stat.S_IMODE(mode):04o}",
        "ino": info.st_ino,
        "nlink": info.st_nlink,
        "uid": info.st_uid,
        "gid": info.st_gid,
        "size": info.st_size,
        "mtime_ns": info.st_mtime_ns,
    }
    if info.is_symlink():
        about["target"] = image.readlink(path)
    if is_device(mode):
        about["device"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
    return about


def is_device(mode: int) -> bool:
    """Return whether a mode is a device node's."""
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
