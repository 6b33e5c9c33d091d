# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Mounts: an image as a directory, for every program."""

from __future__ import annotations

import errno
import os
import re
import select
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from . import _daxfs
from ._mountinfo import mounts
from .errors import BranchBusyError, DaxfsError, InvalidError, UnsupportedError, from_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import StrOrBytesPath

    from .control import MountInfo

__all__ = ["mount", "unmount"]

# Longest wait for a server to end, in seconds; it may have a disk to wait for.
_PATIENCE = 10.0

# Longest wait for a server to say who it is, in seconds.
_ANSWER = 5.0

# Asks it. That is another process's work: nothing ends one that waits for a server in vain.
_ASK = """
import os, sys
from fcntl import ioctl
answer = bytearray(int(sys.argv[3]))
ioctl(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), int(sys.argv[2]), answer)
sys.stdout.buffer.write(answer)
"""


def mount(
    source: StrOrBytesPath | int,
    mountpoint: StrOrBytesPath,
    /,
    options: str = "",
    *,
    foreground: bool = False,
) -> None:
    """Mount an image: by the kernel's module where it is there and takes the source, else by FUSE.

    A process of its own serves the mount in the background; it is forked from this one, so call
    this from small programs, before threads are started, or run the command `daxfs mount`.

    Parameters
    ----------
    source : str, bytes, os.PathLike or int
        Where the image lies, as in `open`.
    mountpoint : str, bytes or os.PathLike
        The directory to mount on.
    options : str, optional
        Mount options, separated by commas (a backslash before one keeps it): `ro`, `rw`,
        `branch=NAME`, `parent=NAME`, `validate`, `invalidate`, `allow_other`, `noallow_other`,
        `nocontrol`, `idmap`, `actimeo=SECONDS`, `threads=N`, `fuse`, `kernel`, labels of SELinux
        (`context="LABEL"` and its kin) and those of mount(8); of several that contradict each
        other, the last counts.
        The module reads main only: with `rw`, `branch` or `parent` it is FUSE, as where the kernel
        refuses an image that has changed, memory that it cannot address, or this user; with
        `kernel` all these are errors. With `remount`, only what `ro`, `rw` and mount(8)'s own say
        is changed, of a mount that is there; one that was made for reading cannot become `rw`, and
        another `branch` than the one that is shown is an error.
    foreground : bool, optional
        Serve in this process until the mount is taken away.

    Raises
    ------
    InvalidError
        An option is not known.
    BackingError
        The machine lacks what a mount needs.
    DaxfsError
        The image cannot be opened or mounted.
    """
    words = _daxfs.split_options(options)
    rest = [word for word in words if word not in ("fuse", "kernel")]
    if "remount" in rest:
        _remount(os.fsdecode(os.fspath(mountpoint)), rest)
        return
    expect_answer(os.fsdecode(os.fspath(mountpoint)))
    chosen = driver(words)
    forced = chosen == "kernel"
    if forced and (foreground or isinstance(source, int)):
        raise InvalidError(errno.EINVAL, "the kernel mounts by name, without a server to run here")
    if not (isinstance(source, int) or foreground or chosen == "fuse"):
        from . import kmod

        name, target = os.fsdecode(os.fspath(source)), os.fsdecode(os.fspath(mountpoint))
        if forced or kmod.can_serve(name, rest):
            try:
                kmod.mount(name, target, rest)
            except DaxfsError as error:
                if forced or not kmod.leaves_it_to_fuse(error):
                    raise
            else:
                return
    if not isinstance(source, int):
        source, rest = _for_fuse(source, rest)
    _daxfs.mount_fuse(source, mountpoint, ",".join(rest), foreground=foreground)


def driver(options: Sequence[str]) -> str | None:
    """Return which of `fuse` and `kernel` is asked for; the last of them is."""
    return next((word for word in reversed(options) if word in ("fuse", "kernel")), None)


def _for_fuse(source: StrOrBytesPath, options: list[str]) -> tuple[StrOrBytesPath, list[str]]:
    from . import kmod

    name = os.fsdecode(os.fspath(source))
    found, rest = kmod.for_fuse(name, options)
    return (source, options) if found == name else (found, rest)


def _remount(mountpoint: str, options: list[str]) -> None:
    from . import kmod

    # mount(8) hands back what /etc/fstab or the kernel says of a mount by the module.
    options = [word for word in options if word.partition("=")[0] not in kmod.OPTIONS]
    access = [word for word in options if word in ("ro", "rw")]
    if access[-1:] == ["rw"] and not _may_write(mountpoint):
        message = f"{mountpoint}: mounted for reading; unmount it, and mount it with rw"
        raise from_engine("ReadOnly", errno.EROFS, message, None, {})
    _check_branch(mountpoint, options)
    _daxfs.remount(mountpoint, ",".join(options))


def _check_branch(mountpoint: str, options: list[str]) -> None:
    """Refuse another branch than the one that is shown, which lines of /etc/fstab name, too."""
    named = [word.removeprefix("branch=") for word in options if word.startswith("branch=")]
    if not named:
        return
    name = re.sub(r"\\(.)", r"\1", named[-1], flags=re.DOTALL)
    expect_answer(mountpoint)
    if name != _shown(mountpoint):
        message = (
            f"{mountpoint}: a remount shows no other branch; "
            f"`daxfs-branch switch {name} -m {mountpoint}` does"
        )
        raise InvalidError(errno.EINVAL, message)


def _shown(mountpoint: str) -> str | None:
    from . import control

    try:
        return next((one.name for one in control.branches(mountpoint) if one.mounted), None)
    except UnsupportedError:
        # An image without branches is all main.
        return "main"


def _may_write(mountpoint: str) -> bool:
    """Ask the server; where none of ours is, what is there is told or refused by the kernel."""
    told = _ask(mountpoint)
    return told is None or told.writes


def _ask(mountpoint: str, advice: str = "") -> MountInfo | None:
    """Return what a mount tells of itself, if it is one of ours."""
    from . import control

    arguments = (mountpoint, str(control.TELL), str(control.INFO_SIZE))
    null = subprocess.DEVNULL
    asker = subprocess.Popen(
        [sys.executable, "-ISc", _ASK, *arguments], stdin=null, stdout=subprocess.PIPE, stderr=null
    )
    try:
        answer = asker.communicate(timeout=_ANSWER)[0]
    except subprocess.TimeoutExpired:
        message = f"{mountpoint}: the server does not answer{advice}"
        raise from_engine("Busy", errno.EBUSY, message, None, {}) from None
    finally:
        # Also where a signal ends the wait.
        asker.kill()
    return control.told(answer) if answer else None


def expect_answer(mountpoint: str) -> None:
    """Fail where a server is that does not answer: who asks it would wait for it for ever.

    Parameters
    ----------
    mountpoint : str
        A directory, on a mount or not.

    Raises
    ------
    BranchBusyError
        There is one.
    """
    # By names alone: looking at it is what could wait.
    path = os.path.join(os.path.abspath(mountpoint), "")
    above = (one.point for one in mounts() if one.kind.startswith("fuse"))
    if any(path.startswith(os.path.join(point, "")) for point in above):
        _ask(mountpoint, "; `daxfs umount -l` takes the mount away")


def unmount(mountpoint: StrOrBytesPath, /, *, lazy: bool = False) -> None:
    """Take a mount away, and wait until what was written to it is let go of.

    Parameters
    ----------
    mountpoint : str, bytes or os.PathLike
        The directory that is mounted on.
    lazy : bool, optional
        Take its name away now, and the rest once nobody uses it any more; wait for nothing.

    Raises
    ------
    DaxfsError
        Nothing is mounted there, or it is in use.
    BranchBusyError
        It is taken away, and the server goes on: the file system is mounted elsewhere, too. Or
        nothing is done, as the server does not answer.
    """
    name = os.fsdecode(os.fspath(mountpoint))
    # Where something is mounted, the kernel finds it by itself; for other names it asks the server.
    if lazy and os.path.abspath(name) not in (one.point for one in mounts()):
        expect_answer(name)
    with ExitStack() as stack:
        server = None if lazy else _server(name, stack)
        try:
            _daxfs.unmount(mountpoint, lazy=lazy)
        except DaxfsError as error:
            if error.errno == errno.EBUSY:
                error.strerror = (
                    f"{error}: programs or mounts below use it; -l takes its name away all the same"
                )
            raise
        if server is not None and not select.select([server], [], [], _PATIENCE)[0]:
            message = (
                f"{name}: unmounted here, but the server goes on: "
                "it is mounted at another place or in another mount namespace, or slow to write"
            )
            raise BranchBusyError(errno.EBUSY, message)


def _server(mountpoint: str, stack: ExitStack) -> int | None:
    """Get a handle on the process that serves a mount, if it is one that we can see."""
    told = _ask(mountpoint, "; -l takes the mount away all the same")
    pid = told and told.server_pid
    if pid in (None, os.getpid()):
        return None
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    stack.callback(os.close, handle)
    return handle
