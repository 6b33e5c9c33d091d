# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Control of branches through a FUSE mount.

The numbers and structures are those of ``kernel/daxfs_ioctl.h``.

Beside what each function says, all raise `InvalidError` where the directory is not the root of a
daxfs mount with branches, and `UnsupportedError` where the mount cannot control those of its image.
Those that change something raise `AccessError` but for root, for who mounted, and for who may write
to the root directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from .errors import DaxfsError, from_engine

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = [
    "MountInfo",
    "MountedBranch",
    "abort",
    "branches",
    "commit",
    "create",
    "info",
    "switch",
]

_BLOCK = 4096
_NAME = 32
_LIST_MAX = 32
_BRANCH = struct.Struct(f"=QQQQII{_NAME}s{_NAME}s")
_LIST = struct.Struct("=QQII")
_LIST_SIZE = _LIST.size + _LIST_MAX * _BRANCH.size
_INFO = struct.Struct("=16sII")


def _number(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 0xDA << 8 | number


_CREATE = _number(1, 1, 2 * _NAME)
_SWITCH = _number(1, 2, _NAME)
_COMMIT = _number(1, 3, _NAME)
_ABORT = _number(1, 4, _NAME)
_LIST_BRANCHES = _number(3, 5, _LIST_SIZE)
# For who asks without waiting for ever; `told` reads the answer.
INFO_SIZE = _INFO.size
TELL = _number(2, 6, INFO_SIZE)

_MOUNTED, _FROZEN, _OWNED, _OWNER_DEAD, _QUARANTINED = 0x01, 0x02, 0x04, 0x08, 0x10
_WRITES = 0x01

# What an errno means here, as the engine's name for it and in words.
_MEANINGS = {
    errno.ENOENT: ("NoBranch", "no such branch: {name}"),
    errno.EEXIST: ("BranchExists", "{name}: there is a branch of that name"),
    errno.EBUSY: ("Busy", "{name}: in use; another party holds it, or branches were made from it"),
    errno.EACCES: (
        "Io",
        "its branches are for root, for who mounted it, and for who may write to its root "
        "directory",
    ),
    errno.EROFS: ("ReadOnly", "{name}: the mount is for reading, or branches were made from it"),
    errno.ESTALE: ("Stale", "{name}: it has ended; another branch was committed meanwhile"),
    errno.ENOSPC: (
        "NoSpace",
        "no space left; if some was wanting for pages that were changed through a mapping, these "
        "are lost: call again to go on without them",
    ),
    errno.EOPNOTSUPP: ("Unsupported", "the image has no branches that this mount could control"),
    errno.ENOTTY: ("Invalid", "not the root of a daxfs mount with branches"),
    errno.EINVAL: ("Invalid", "{name}: cannot be done to this branch, or cannot name one"),
}


class MountedBranch(NamedTuple):
    """A branch as a mount tells of it.

    Attributes
    ----------
    name : str
    parent : str or None
        Name of the branch it was made from.
    id : int
        Identity of its record.
    log_size, size : int
        Bytes of its log, and of all blocks that it owns.
    created_ns : int or None
        When it was made, ns since 1970; None for with the image.
    mounted, frozen, quarantined : bool
        Whether the mount shows it, it was branched from, it was taken by force.
    owner_pid : int or None
        The process that may write to it.
    owner_dead : bool
        Whether that one is proved dead.
    """

    name: str
    parent: str | None
    id: int
    log_size: int
    size: int
    created_ns: int | None
    mounted: bool
    frozen: bool
    quarantined: bool
    owner_pid: int | None
    owner_dead: bool


class MountInfo(NamedTuple):
    """What is mounted, and how.

    Attributes
    ----------
    uuid : str
        The image's identity.
    writes : bool
        Whether branches may be written through the mount.
    server_pid : int or None
        The process that serves it, by its own number for itself; None for the kernel.
    """

    uuid: str
    writes: bool
    server_pid: int | None


def create(mountpoint: StrPath, name: str, parent: str | None = None) -> None:
    """Make a branch, and show it in the place of what the mount shows.

    Parameters
    ----------
    mountpoint : str or os.PathLike
        Root of the mount.
    name : str
        The new branch.
    parent : str, optional
        What it is made from; if not given, what the mount shows.

    Raises
    ------
    NoBranchError
        There is no such parent, or it has ended.
    BranchStaleError
        No parent is given, and the branch that the mount shows has ended.
    BranchExistsError
        There is a branch of that name.
    BranchBusyError
        Somebody else writes to the parent, or something is mounted below.
    ReadOnlyBranchError
        The mount is for reading.
    InvalidError
        The name cannot name a branch.
    NoSpaceError
        The image has no room for one more, or for what was changed through mappings.
    """
    _call(mountpoint, _CREATE, _field(name) + _field(parent), parent, new=name)


def switch(mountpoint: StrPath, name: str) -> None:
    """Show another branch.

    Parameters
    ----------
    mountpoint : str or os.PathLike
        Root of the mount.
    name : str
        The branch.

    Raises
    ------
    NoBranchError
        There is no such branch.
    BranchBusyError
        Somebody else writes to it, and the mount would, too; or something is mounted below.
    InvalidError
        The name cannot name a branch.
    NoSpaceError
        The image has no room for what was changed through mappings.
    """
    _call(mountpoint, _SWITCH, _field(name), name)


def commit(mountpoint: StrPath, name: str | None = None) -> None:
    """Commit a branch; if the mount shows it, it shows main then.

    Parameters
    ----------
    mountpoint : str or os.PathLike
        Root of the mount.
    name : str, optional
        The branch; if not given, the one that the mount shows.

    Raises
    ------
    BranchStaleError
        Another branch was committed first.
    NoBranchError
        There is no such branch.
    BranchBusyError
        Somebody else writes to it, or something is mounted below.
    ReadOnlyBranchError
        The mount is for reading, or branches were made from this one.
    InvalidError
        It is main, or the name cannot name a branch.
    NoSpaceError
        The image has no room for what was changed through mappings.
    """
    _call(mountpoint, _COMMIT, _field(name), name)


def abort(mountpoint: StrPath, name: str | None = None) -> None:
    """Abort a branch; if the mount shows it, it shows its parent then.

    Parameters
    ----------
    mountpoint : str or os.PathLike
        Root of the mount.
    name : str, optional
        The branch; if not given, the one that the mount shows.

    Raises
    ------
    NoBranchError
        There is no such branch.
    BranchBusyError
        Somebody else writes to it, or something is mounted below.
    ReadOnlyBranchError
        The mount is for reading, or branches were made from this one.
    BranchStaleError
        It has ended.
    InvalidError
        It is main, or the name cannot name a branch.
    """
    _call(mountpoint, _ABORT, _field(name), name)


def branches(mountpoint: StrPath) -> list[MountedBranch]:
    """Tell which branches live, main first.

    Parameters
    ----------
    mountpoint : str or os.PathLike
        Root of the mount.

    Returns
    -------
    list of MountedBranch
    """
    found: list[MountedBranch] = []
    while True:
        after = found[-1].id if found else 0
        request = _LIST.pack(after, 0, 0, 0).ljust(_LIST_SIZE, b"\0")
        answer = _call(mountpoint, _LIST_BRANCHES, request, None)
        _, main, count, _ = _LIST.unpack_from(answer)
        if found and main != found[0].id:
            # All that was found has ended, or main was written anew.
            found.clear()
            continue
        for index in range(count):
            found.append(_decode(answer, _LIST.size + index * _BRANCH.size))
        if count < _LIST_MAX:
            return found


def info(mountpoint: StrPath) -> MountInfo:
    """Tell what is mounted.

    Parameters
    ----------
    mountpoint : str or os.PathLike
        Root of the mount.

    Returns
    -------
    MountInfo
    """
    return told(_call(mountpoint, TELL, bytes(INFO_SIZE), None))


def told(answer: bytes) -> MountInfo:
    """Read the answer to `TELL`.

    Parameters
    ----------
    answer : bytes
        All `INFO_SIZE` of them.

    Returns
    -------
    MountInfo
    """
    from uuid import UUID

    identity, flags, pid = _INFO.unpack(answer)
    return MountInfo(str(UUID(bytes=identity)), bool(flags & _WRITES), pid or None)


def _decode(answer: bytes, at: int) -> MountedBranch:
    identity, log, blocks, created, flags, pid, name, parent = _BRANCH.unpack_from(answer, at)
    return MountedBranch(
        name=_text(name),
        parent=_text(parent) or None,
        id=identity,
        log_size=log,
        size=blocks * _BLOCK,
        created_ns=created or None,
        mounted=bool(flags & _MOUNTED),
        frozen=bool(flags & _FROZEN),
        quarantined=bool(flags & _QUARANTINED),
        owner_pid=pid if flags & _OWNED else None,
        owner_dead=bool(flags & _OWNER_DEAD),
    )


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _field(name: str | None) -> bytes:
    if name is None:
        # Empty stands for what the mount shows, so it must not come of a name.
        return bytes(_NAME)
    encoded = name.encode("utf-8", "surrogateescape")
    if not 0 < len(encoded) < _NAME or b"\0" in encoded:
        message = f"{name!r} cannot name a branch: 1 to {_NAME - 1} bytes"
        raise from_engine("Invalid", errno.EINVAL, message, None, {})
    return encoded.ljust(_NAME, b"\0")


def _call(
    mountpoint: StrPath, number: int, request: bytes, name: str | None, new: str | None = None
) -> bytes:
    buffer = bytearray(request)
    try:
        root = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(root, number, buffer)
        finally:
            os.close(root)
    except OSError as error:
        # Of a new branch only the name can be wrong, all else is about what it is made from.
        subject = new if new and error.errno in (errno.EEXIST, errno.EINVAL) else name
        raise _explained(error, mountpoint, subject) from None
    return bytes(buffer)


def _mounted_below(mountpoint: StrPath) -> list[str]:
    from . import _mountinfo

    try:
        return _mountinfo.below(os.stat(mountpoint).st_dev)
    except OSError:
        return []


def _explained(error: OSError, mountpoint: StrPath, name: str | None) -> DaxfsError:
    number = error.errno or errno.EIO
    filename = os.fsdecode(mountpoint)
    where = filename or "''"
    # What opening the mount point failed with has a file name; what the request did has none.
    kind, words = _MEANINGS.get(number, ("Io", os.strerror(number)))
    if error.filename is not None:
        return from_engine("Io", number, f"{where}: {os.strerror(number)}", filename, {})
    if number == errno.EBUSY and (below := _mounted_below(mountpoint)):
        words = f"{below[0]} is mounted below, and would be lost; unmount it first"
    words = words.format(name=name or "the branch that is mounted")
    about = {} if name is None else {"branch": name}
    return from_engine(kind, number, f"{where}: {words}", None, about)
