# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The errors of daxfs.

Every one is a `DaxfsError` and, where Python has a built-in error of the same meaning, that one
too: ``except FileNotFoundError`` catches a `NotFoundError`. As in every `OSError`, ``errno`` and
``filename`` say what the system would have said; ``str()`` gives the whole message.
"""

from __future__ import annotations

import errno as _errno
import io
from typing import Any, NamedTuple

__all__ = [
    "AccessError",
    "BackingError",
    "CancelledError",
    "CorruptImageError",
    "DaxfsError",
    "ExistsError",
    "InputError",
    "InputProblem",
    "InvalidError",
    "IsDirectoryError",
    "LoopError",
    "NameTooLongError",
    "NoBranchError",
    "NoSpaceError",
    "NotDirectoryError",
    "NotFoundError",
    "SystemCallError",
    "UnsoundImageError",
    "UnsupportedError",
]


class InputProblem(NamedTuple):
    """One part of a builder's input that could not be taken into the image.

    Attributes
    ----------
    path : str
        Relative to the root of the tree.
    reason : str
    """

    path: str
    reason: str


class DaxfsError(OSError):
    """Base of all errors of daxfs.

    Attributes
    ----------
    errno : int
        The system's number for this kind of error.
    strerror : str
        The whole message.
    filename : str or None
        The path concerned: of the host, or in the image.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class SystemCallError(DaxfsError):
    """The operating system refused, for a reason that has no class of its own here."""


class AccessError(DaxfsError, PermissionError):
    """The operating system denied access."""


class CorruptImageError(DaxfsError):
    """The image contradicts the format.

    Attributes
    ----------
    what : str
        Field or structure.
    offset : int
        Where it lies in the image, in bytes.
    expected, found : str
        What the format demands, and what is there.
    """

    what: str
    offset: int
    expected: str
    found: str


class UnsoundImageError(DaxfsError):
    """The proof of the whole image found errors.

    Attributes
    ----------
    count : int
        Number of errors.
    first : str
        The first of them.
    """

    count: int
    first: str


class UnsupportedError(DaxfsError, io.UnsupportedOperation):
    """The image or the request needs something that this version does not have."""


class NotFoundError(DaxfsError, FileNotFoundError):
    """No such file."""


class NotDirectoryError(DaxfsError, NotADirectoryError):
    """A directory was needed."""


class IsDirectoryError(DaxfsError, IsADirectoryError):
    """A file was needed, and a directory found."""


class LoopError(DaxfsError):
    """Too many symbolic links on the way."""


class NameTooLongError(DaxfsError):
    """A name or a link's target is longer than the format can hold."""


class NoBranchError(DaxfsError, LookupError):
    """The image has no branch of that name."""


class NoSpaceError(DaxfsError):
    """The image does not fit.

    Attributes
    ----------
    needed, available : int or None
        Bytes; None when the operating system did not say.
    """

    needed: int | None = None
    available: int | None = None


class ExistsError(DaxfsError, FileExistsError):
    """The output exists."""


class InvalidError(DaxfsError, ValueError):
    """The request makes no sense."""


class InputError(DaxfsError):
    """Parts of the input could not be taken.

    Attributes
    ----------
    problems : tuple of InputProblem
        Every one that was found.
    """

    problems: tuple[InputProblem, ...] = ()


class BackingError(DaxfsError):
    """The machine lacks what the memory behind the image needs.

    Attributes
    ----------
    advice : str
        What to do about it.
    """

    advice: str


class CancelledError(DaxfsError, InterruptedError):
    """The work was cancelled."""


# The class of each of the engine's errors; a test keeps the two together.
CLASSES: dict[str, type[DaxfsError]] = {
    "Io": SystemCallError,
    "Corrupt": CorruptImageError,
    "Unsound": UnsoundImageError,
    "Unsupported": UnsupportedError,
    "NotFound": NotFoundError,
    "NotDirectory": NotDirectoryError,
    "IsDirectory": IsDirectoryError,
    "Loop": LoopError,
    "TooLong": NameTooLongError,
    "NoBranch": NoBranchError,
    "NoSpace": NoSpaceError,
    "Exists": ExistsError,
    "Invalid": InvalidError,
    "Input": InputError,
    "Backing": BackingError,
    "Interrupted": CancelledError,
}

# What the operating system refuses has the class of its reason.
_SYSTEM_CLASSES: dict[int, type[DaxfsError]] = {
    _errno.EACCES: AccessError,
    _errno.EPERM: AccessError,
    _errno.EEXIST: ExistsError,
    _errno.EISDIR: IsDirectoryError,
    _errno.ELOOP: LoopError,
    _errno.ENAMETOOLONG: NameTooLongError,
    _errno.ENOENT: NotFoundError,
    _errno.ENOSPC: NoSpaceError,
    _errno.ENOTDIR: NotDirectoryError,
}


def from_engine(
    name: str, errno: int, message: str, filename: str | None, details: dict[str, Any]
) -> DaxfsError:
    """Make the exception for an error of the engine; called by the extension module."""
    kind = CLASSES[name]
    if kind is SystemCallError:
        kind = _SYSTEM_CLASSES.get(errno, kind)
    error = kind(errno, message) if filename is None else kind(errno, message, filename)
    if "problems" in details:
        details["problems"] = tuple(InputProblem(*problem) for problem in details["problems"])
    error.__dict__.update(details)
    return error
