# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What an image is about to take the place of, and who would miss it."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from . import _daxfs
from ._mountinfo import mounts
from .errors import BranchBusyError, DaxfsError, from_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import StrOrBytesPath

    from .image import Image


def expect_free(output: StrOrBytesPath | int, *, force: bool) -> None:
    """Make sure that nobody misses what memory holds: it cannot be had back.

    Raises
    ------
    BranchBusyError
        A process has an image there open for writing, or one is mounted.
    ExistsError
        Something else is there that has a name, and `force` was not given.
    """
    if not force:
        kind = _kind_of_other(output)
        if kind:
            message = f"{shown(output)}: holds something else ({kind}); `force` replaces it"
            raise from_engine("Exists", errno.EEXIST, message, None, {})
        return
    there = _identity(output)
    for source, mountpoint in _mounts():
        if there is not None and _identity(source) == there:
            raise _busy(output, f"the image there is mounted on {mountpoint}")
    expect_unused(output)


def expect_unused(output: StrOrBytesPath | int) -> None:
    """Make sure that nobody goes on writing to an image that is about to be replaced."""
    from .image import open as open_image

    try:
        with open_image(output, writable=True, trusted=True) as image:
            for opener in image.openers:
                raise _busy(output, f"process {opener.pid} has the image open for writing")
    except BranchBusyError:
        raise
    except DaxfsError:
        pass  # no image, or one that nobody can write to


def expect_nothing_lost(path: StrOrBytesPath, image: Image, branch: str) -> None:
    """Make sure that no branch is lost when an image gives way to one of another's tree."""
    others = [name for name in image.branches.names if name != branch]
    if others:
        raise _busy(
            path,
            f"would lose {', '.join(others)}; commit or delete branches first, give another "
            "place for the new image, or let them go (force)",
        )


def is_same(source: StrOrBytesPath | int, output: StrOrBytesPath | int) -> bool:
    """Whether two names are of one file, device or place in memory."""
    found = _identity(source)
    return found is not None and found == _identity(output)


def is_memory(output: StrOrBytesPath | int) -> bool:
    """Whether the output is memory to write into, not a file to make."""
    if isinstance(output, int):
        return True
    if isinstance(output, str) and re.match(r"(phys|fd|dmabuf):", output):
        return True
    try:
        mode = os.stat(output).st_mode
    except OSError:
        # A device that is missing: opening it says what to do.
        return re.match(r"/dev/(dax|pmem)\d", os.fsdecode(output)) is not None
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


def shown(place: StrOrBytesPath | int) -> str:
    """Name a place for people."""
    return f"fd:{place}" if isinstance(place, int) else os.fsdecode(place)


def _busy(place: StrOrBytesPath | int, why: str) -> BranchBusyError:
    return BranchBusyError(errno.EBUSY, f"{shown(place)}: {why}")


def _opened(place: StrOrBytesPath | int) -> StrOrBytesPath | int:
    """Return the descriptor that a name says, or what was given."""
    named = re.fullmatch(r"(?:fd|dmabuf):(\d+)", place) if isinstance(place, str) else None
    return int(named[1]) if named else place


def _identity(place: StrOrBytesPath | int) -> tuple[object, ...] | None:
    """Return what is the same of all names of one thing."""
    if isinstance(place, str) and place.startswith("phys:"):
        try:
            return ("phys", _daxfs.parse_size(place.removeprefix("phys:").partition("+")[0]))
        except DaxfsError:
            return None
    try:
        status = os.stat(_opened(place))
    except (OSError, ValueError, OverflowError):
        return None
    if stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode):
        device = (stat.S_IFMT(status.st_mode), status.st_rdev)
        return _behind_loop(status) or device
    return (status.st_dev, status.st_ino)


def _behind_loop(device: os.stat_result) -> tuple[object, ...] | None:
    """Return the identity of the file that a loop device shows."""
    if not stat.S_ISBLK(device.st_mode):
        return None
    number = f"{os.major(device.st_rdev)}:{os.minor(device.st_rdev)}"
    try:
        with open(f"/sys/dev/block/{number}/loop/backing_file", "rb") as name:
            return _identity(name.read().removesuffix(b"\n"))
    except OSError:
        return None


def _mounts() -> Iterator[tuple[str, str]]:
    """Go through mounted images: where they lie, as far as that has a name, and the directories."""
    for mount in mounts():
        if mount.kind in ("fuse.daxfs", "daxfs"):
            yield mount.source, mount.point
            for key, _, value in (option.partition("=") for option in mount.options):
                if key == "phys":
                    yield f"phys:{value}", mount.point
                elif key == "dax":
                    yield value, mount.point


def _kind_of_other(output: StrOrBytesPath | int) -> str:
    """Name what another program keeps there, such as a file system, as blkid(8) knows it."""
    place = _opened(output)
    try:
        mode = os.stat(place).st_mode
    except (OSError, ValueError, OverflowError):
        return ""
    # Reading other devices may have consequences.
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        return ""
    # For what few outputs are; to import it takes as long as building a small image.
    import subprocess

    path = f"/proc/self/fd/{place}" if isinstance(place, int) else os.fsdecode(place)
    command = ["blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "value", path]
    keep = (place,) if isinstance(place, int) else ()
    # Programs for administrators are not on everybody's search path.
    known = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, pass_fds=keep, env={"PATH": known}
        )
    except OSError:
        return ""
    return ", ".join(done.stdout.decode(errors="replace").split())
