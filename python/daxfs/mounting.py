# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Mounts: an image as a directory, for every program."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from . import _daxfs
from .errors import UnsupportedError

if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

__all__ = ["mount", "unmount"]


def mount(
    source: StrOrBytesPath | int,
    mountpoint: StrOrBytesPath,
    /,
    options: str = "",
    *,
    foreground: bool = False,
) -> None:
    """Mount an image.

    A process of its own serves the mount in the background; it is forked from this one, so call
    this from small programs, before threads are started, or run the command `daxfs mount`.

    Parameters
    ----------
    source : str, bytes, os.PathLike or int
        Where the image lies, as in `open`.
    mountpoint : str, bytes or os.PathLike
        The directory to mount on.
    options : str, optional
        Mount options, separated by commas: `ro`, `rw`, `branch=NAME`, `parent=NAME`, `validate`,
        `invalidate`, `allow_other`, `noallow_other`, `nocontrol`, `threads=N`, `fuse`, `kernel`,
        and those of mount(8).
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
    words = options.split(",")
    if "kernel" in words:
        raise UnsupportedError(
            errno.EOPNOTSUPP,
            "unsupported: -o kernel, as no module of the kernel serves this source",
        )
    rest = ",".join(word for word in words if word != "fuse")
    _daxfs.mount_fuse(source, mountpoint, rest, foreground=foreground)


def unmount(mountpoint: StrOrBytesPath, /, *, lazy: bool = False) -> None:
    """Take a mount away.

    Parameters
    ----------
    mountpoint : str, bytes or os.PathLike
        The directory that is mounted on.
    lazy : bool, optional
        Take its name away now, and the rest once nobody uses it any more.

    Raises
    ------
    DaxfsError
        Nothing is mounted there, or it is in use.
    """
    _daxfs.unmount(mountpoint, lazy=lazy)
