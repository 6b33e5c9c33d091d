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
    "BranchBusyError",
    "BranchExistsError",
    "BranchStaleError",
    "CancelledError",
    "CorruptImageError",
    "DaxfsError",
    "ExistsError",
    "FileTooBigError",
    "InputError",
    "InputProblem",
    "InvalidError",
    "IsDirectoryError",
    "LoopError",
    "NameTakenError",
    "NameTooLongError",
    "NoAttributeError",
    "NoBranchError",
    "NoSpaceError",
    "NotDirectoryError",
    "NotEmptyError",
    "NotFoundError",
    "NotPermittedError",
    "ReadOnlyBranchError",
    "SystemCallError",
    "TooManyLinksError",
    "UnsoundImageError",
    "UnsupportedError",
]


class InputProblem(NamedTuple):
    """One part of a builder's input that could not be taken into the image.

    Attributes
    ----------
    path : str
        Relative to the root of the tree; with a slash behind if it is about what is in a
        directory, which itself is taken.
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


class BranchStaleError(DaxfsError):
    """The branch is no longer: it was committed or aborted, or another was committed.

    Attributes
    ----------
    branch : str or None
        Its name; None when it is about several, or the message alone names it.
    """

    branch: str | None = None


class BranchBusyError(DaxfsError):
    """Somebody else is at work on the branch, or branches that were made of it live.

    Attributes
    ----------
    branch : str or None
        Its name; None when it is about several, or the message alone names it.
    """

    branch: str | None = None


class ReadOnlyBranchError(DaxfsError):
    """The branch cannot be written: others were made of it, or it was opened for reading.

    Attributes
    ----------
    branch : str or None
        Its name; None when it is about several, or the message alone names it.
    """

    branch: str | None = None


class BranchExistsError(DaxfsError, FileExistsError):
    """There is a branch of that name.

    Attributes
    ----------
    branch : str or None
        Its name; None when it is about several, or the message alone names it.
    """

    branch: str | None = None


class NameTakenError(DaxfsError, FileExistsError):
    """There is a file of that name in the branch."""


class NotEmptyError(DaxfsError):
    """A directory that is to go has names in it."""


class NotPermittedError(DaxfsError, PermissionError):
    """Nobody may do so to a file of that kind."""


class NoAttributeError(DaxfsError):
    """The file has no extended attribute of that name."""


class FileTooBigError(DaxfsError):
    """A file cannot grow so far."""


class TooManyLinksError(DaxfsError):
    """A file cannot have more names."""


class NoSpaceError(DaxfsError):
    """The image does not fit, or has no room left for changes.

    Attributes
    ----------
    needed, available : int or None
        Bytes; None when the operating system did not say, or records of branches ran out.
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
    """The machine lacks what the memory behind the image needs, or starts no threads.

    Attributes
    ----------
    advice : str or None
        What to do about it; None when the message alone says it.
    """

    advice: str | None = None


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
    "WrongType": InvalidError,
    "Loop": LoopError,
    "TooLong": NameTooLongError,
    "NoBranch": NoBranchError,
    "NoSpace": NoSpaceError,
    "Exists": ExistsError,
    "Invalid": InvalidError,
    "Input": InputError,
    "Backing": BackingError,
    "Interrupted": CancelledError,
    "Stale": BranchStaleError,
    "Busy": BranchBusyError,
    "ReadOnly": ReadOnlyBranchError,
    "BranchExists": BranchExistsError,
    "FileExists": NameTakenError,
    "NotEmpty": NotEmptyError,
    "NotPermitted": NotPermittedError,
    "NoAttribute": NoAttributeError,
    "FileTooBig": FileTooBigError,
    "TooManyLinks": TooManyLinksError,
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
