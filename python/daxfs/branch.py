# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Branches: changes beside an image's main tree, until they are committed or aborted."""

from __future__ import annotations

import errno
import math
import os
import stat as _stat
from contextlib import suppress
from typing import TYPE_CHECKING

from . import _daxfs
from ._glob import as_text
from .errors import BranchStaleError, DaxfsError, InvalidError, NotDirectoryError
from .file import check_size, parse_mode
from .tree import Step, Tree, path_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from _typeshed import ReadableBuffer, StrOrBytesPath

    from ._daxfs import PathChange, Progress
    from .image import Image

__all__ = ["Branch"]


class Branch(Tree, _daxfs.Branch):
    """An open branch; `Image.branch` opens one.

    It reads as an image does, as it is at each moment. Every change is made at once and whole,
    and belongs to the branch alone until `commit` makes the branch main. As a context manager it
    is committed at the end of the block, or aborted if an exception ends it.

    New files belong to the user and group of this process, and have the permissions given;
    nobody's permissions are asked. Symbolic links are followed as in reading, inside the image.

    Parameters
    ----------
    image : Image
        An image that is open for writing.
    name : str
        The branch.
    parent : str, optional
        What to make it of; it is opened if this is left out.
    writable : bool, optional
        Whether to open it for writing.
    keep : bool, optional
        Neither commit nor abort at the end of a block.
    """

    def __new__(
        cls,
        image: Image,
        name: str,
        *,
        parent: str | None = None,
        writable: bool = True,
        keep: bool = False,
    ) -> Self:
        """Open the branch."""
        return super().__new__(cls, image, name, parent=parent, writable=writable)

    def __init__(
        self,
        image: Image,
        name: str,
        *,
        parent: str | None = None,
        writable: bool = True,
        keep: bool = False,
    ) -> None:
        self.image = image
        self._keep = keep or not writable or name == "main"
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if not self._keep and not self._ended and not self.closed:
                if kind is None:
                    self.commit()
                else:
                    self._abort_quietly()
        finally:
            self.close()

    def _abort_quietly(self) -> None:
        # It may have ended by another's commit: then nothing is left to abort.
        with suppress(BranchStaleError):
            self.abort()

    def __repr__(self) -> str:
        return f"<daxfs.Branch {self.name!r}{' closed' if self.closed else ''}>"

    def commit(self) -> None:
        """Make the branch main, and with it the branches that it was made of.

        One atomic step decides: every other branch made of the same main, and every branch made
        of those, is stale from then on. Close files first: what their streams still buffer is not
        committed, and closing them later raises `BranchStaleError`.

        Raises
        ------
        BranchStaleError
            Another branch was committed first; the changes of this one are void.
        BranchBusyError
            Branches were made of this one and live, or views that `map` gave are in use.
        """
        super().commit()
        self._ended = True

    def abort(self) -> None:
        """End the branch and drop its changes.

        Raises
        ------
        BranchStaleError
            It has ended.
        BranchBusyError
            Branches were made of this one and live.
        ReadOnlyBranchError
            It was opened for reading.
        InvalidError
            It is main, or closed.
        """
        super().abort()
        self._ended = True

    def diff(
        self,
        other: _daxfs.Tree | str | None = None,
        *,
        ignore_mtime: bool = False,
        ignore_owner: bool = False,
        ignore_xattrs: bool = False,
        progress: Callable[[Progress], object] | None = None,
    ) -> list[PathChange]:
        """Find what this branch changed.

        Parameters
        ----------
        other : Tree or str, optional
            What to compare with, or the name of a branch; the branch that this one was made of
            when left out.
        ignore_mtime, ignore_owner, ignore_xattrs, progress : optional
            As for `Tree.changes_since`.

        Returns
        -------
        list of PathChange
            Paths that were added, changed or removed, in order.
        """
        options = {
            "ignore_mtime": ignore_mtime,
            "ignore_owner": ignore_owner,
            "ignore_xattrs": ignore_xattrs,
        }
        if other is None:
            other = self.image.branches[self.name].parent or "main"
        if isinstance(other, str):
            other = self.image.tree(other)
        return self.changes_since(other, progress=progress, **options)

    def _open_raw(self, path: StrOrBytesPath, mode: str) -> _daxfs.File:
        parsed = parse_mode(mode)
        if not parsed.writes:
            return self.open_file(path)
        return self.open_for_writing(
            path,
            0o644,
            os.geteuid(),
            os.getegid(),
            create=parsed.kind != "r",
            exclusive=parsed.kind == "x",
            truncate=parsed.kind == "w",
        )

    def write_bytes(self, path: StrOrBytesPath, data: ReadableBuffer) -> int:
        """Make a file's contents these; the file is made if need be.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file.
        data : bytes-like
            Its contents.

        Returns
        -------
        int
            Bytes written.

        Raises
        ------
        TypeError
            `data` is not bytes in one piece; the file is as it was.
        """
        # First, since opening the file empties it.
        content = memoryview(data)
        if not content.c_contiguous:
            raise TypeError("data must be bytes in one piece, not strided")
        return self._open_raw(path, "wb").write(content, 0)

    def write_text(
        self,
        path: StrOrBytesPath,
        data: str,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | None = None,
    ) -> int:
        """Make a file's contents this text; return its characters.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file.
        data : str
            Its contents.
        encoding, errors : str, optional
            As for `str.encode`.
        newline : str, optional
            What lines end in instead of a line feed, as for the built-in `open`.

        Returns
        -------
        int
            Characters of the text.

        Raises
        ------
        TypeError, ValueError
            It is no text, or cannot be written so; the file is as it was.
        """
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        if newline not in (None, "", "\n", "\r", "\r\n"):
            raise ValueError(f"illegal newline value: {newline}")
        text = data.replace("\n", newline) if newline else data
        self.write_bytes(path, text.encode(encoding, errors))
        return len(data)

    def map(self, path: StrOrBytesPath, offset: int = 0, length: int | None = None) -> memoryview:
        """Map a part of a file for writing: what is stored in the view is stored in the image.

        The bytes lie in one piece, in blocks that the branch owns; what does not yet is copied
        there once. Others who read the branch see each store as it is made.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            A regular file, which must be as long as the range reaches; `truncate` extends it.
        offset : int, optional
            First byte.
        length : int, optional
            Bytes; as a rule all up to the file's end.

        Returns
        -------
        memoryview
            Writable bytes, shape ``(length,)``; numpy and others take it without a copy. While it
            or a view made of it is in use, the branch cannot be committed, closed or branched
            from. If the file is cut or removed meanwhile, or gets a hole there, the view keeps
            the bytes that it had.

        Raises
        ------
        NotFoundError
            There is no such file.
        InvalidError
            The file has not all of these bytes.
        BranchBusyError
            A part of these bytes is mapped, and the whole does not lie in one piece.
        NoSpaceError
            There is no run of free blocks that is long enough.

        Notes
        -----
        Stores are durable after `sync`, and when the view is gone; after a loss of power each
        eight bytes that were being changed are as before or as after.
        """
        return self.map_file(path, offset, length)

    def truncate(self, path: StrOrBytesPath, size: int) -> None:
        """Cut a file, or extend it by zeroes.

        Raises
        ------
        InvalidError
            `size` is below 0.
        FileTooBigError
            It is more than a file can have.
        """
        self.set_attributes(path, size=check_size(size))

    def touch(self, path: StrOrBytesPath, mode: int = 0o644, *, exist_ok: bool = True) -> None:
        """Make an empty file, or give the one that is there the time of now."""
        uid, gid = os.geteuid(), os.getegid()
        if exist_ok and self.exists(path):
            self.utime(path)
        else:
            self.open_for_writing(path, _stat.S_IMODE(mode), uid, gid, exclusive=not exist_ok)

    def mkdir(self, path: StrOrBytesPath, mode: int = 0o755, *, exist_ok: bool = False) -> None:
        """Make a directory.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Its path.
        mode : int, optional
            Its permissions.
        exist_ok : bool, optional
            Take a directory that is there instead.

        Raises
        ------
        FileExistsError
            The name is taken.
        NotFoundError, NotDirectoryError
            There is no directory to make it in.
        """
        try:
            self.make(path, _stat.S_IFDIR | _stat.S_IMODE(mode), os.geteuid(), os.getegid())
        except DaxfsError:
            # Paths that end in ".." lead to a directory, and name none that could be made.
            if not (exist_ok and self.is_dir(path)):
                raise

    def makedirs(self, path: StrOrBytesPath, mode: int = 0o755, *, exist_ok: bool = False) -> None:
        """Make a directory and those above it that are missing, as `os.makedirs`.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Its path; a ``..`` in it is taken after what is before it is made.
        mode : int, optional
            Its permissions; those above get 0o755.
        exist_ok : bool, optional
            Take a directory that is there instead.

        Raises
        ------
        FileExistsError
            The name is taken.
        NotDirectoryError
            Something on the way is no directory.
        """
        parts = [part for part in as_text(path).split("/") if part not in ("", ".")]
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if parts[depth - 1] != ".." and not self.exists(above):
                self.mkdir(above, exist_ok=True)
        self.mkdir("/".join(parts), mode, exist_ok=exist_ok)

    def mknod(self, path: StrOrBytesPath, mode: int = 0o600, device: int = 0) -> None:
        """Make a file of any type, as `os.mknod`: ``stat.S_IFIFO | 0o644``, for instance.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Its path.
        mode : int, optional
            Its type and permissions; a regular file if no type is given.
        device : int, optional
            What `os.makedev` gives, for a device.

        Raises
        ------
        FileExistsError
            The name is taken.
        InvalidError
            No file of that type can be made, or the device's number has more than 12 bits for
            the major and 20 for the minor one.
        """
        if _stat.S_IFMT(mode) == 0:
            mode |= _stat.S_IFREG
        # Within these limits `os.makedev` encodes as the kernel does.
        if not 0 <= device < 1 << 32:
            shown = as_text(path)
            number = f"{os.major(device)}:{os.minor(device)}"
            why = f"{shown}: device {number}, at most 4095:1048575 are possible"
            raise InvalidError(errno.EINVAL, why, shown)
        self.make(path, mode, os.geteuid(), os.getegid(), device)

    def symlink(self, target: StrOrBytesPath, path: StrOrBytesPath) -> None:
        """Make a symbolic link at `path` to `target`, as `os.symlink`."""
        self.make_symlink(target, path, os.geteuid(), os.getegid())

    def rename(self, source: StrOrBytesPath, target: StrOrBytesPath) -> None:
        """Move a file or directory; the new name must be free.

        Raises
        ------
        FileExistsError
            The new name is taken; `replace` takes it over.
        InvalidError
            A directory would be moved to below itself.
        """
        self.move_name(source, target, "noreplace")

    def replace(self, source: StrOrBytesPath, target: StrOrBytesPath) -> None:
        """Move a file or directory, over a file or an empty directory if one is there."""
        self.move_name(source, target, "replace")

    def exchange(self, first: StrOrBytesPath, second: StrOrBytesPath) -> None:
        """Swap what two names stand for, in one step."""
        self.move_name(first, second, "exchange")

    def remove(self, path: StrOrBytesPath) -> None:
        """Remove a file; the same as `unlink`."""
        self.unlink(path)

    def rmtree(self, path: StrOrBytesPath) -> None:
        """Remove a directory and everything below it. Links are removed, not followed.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The directory.

        Raises
        ------
        NotFoundError, NotDirectoryError
            It is not there, or is a link or another file.
        InvalidError
            It is the root, or ends in ``.`` or ``..``, and so would not go itself.
        """
        top = as_text(path).rstrip("/")
        if top.rpartition("/")[2] in ("", ".", ".."):
            shown = as_text(path)
            raise InvalidError(errno.EINVAL, f'"{shown}" names no entry of a directory', shown)
        if self.lstat(top).is_symlink():
            raise NotDirectoryError(errno.ENOTDIR, f"not a directory, but a link: {top}", top)
        pending: list[tuple[Step, bool]] = [((None, top), False)]
        while pending:
            step, emptied = pending.pop()
            directory = path_of(step)
            if emptied:
                self.rmdir(directory)
                continue
            pending.append((step, True))
            for entry in self.scandir(directory):
                if entry.is_dir(follow_symlinks=False):
                    pending.append(((step, entry.name), False))
                else:
                    self.unlink(entry.path)

    def chmod(self, path: StrOrBytesPath, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change permissions."""
        self.set_attributes(path, mode=_stat.S_IMODE(mode), follow_symlinks=follow_symlinks)

    def chown(
        self, path: StrOrBytesPath, uid: int = -1, gid: int = -1, *, follow_symlinks: bool = True
    ) -> None:
        """Change owner and group; -1 leaves one as it is, as does 2**32 - 1, its unsigned form.

        Raises
        ------
        InvalidError
            A number is none of 32 bits.
        """
        self.set_attributes(
            path,
            uid=_owner("uid", uid),
            gid=_owner("gid", gid),
            follow_symlinks=follow_symlinks,
        )

    def utime(
        self,
        path: StrOrBytesPath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Change the times of access and modification, as `os.utime`.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file.
        times : tuple of float, optional
            Both, in seconds since 1970; now when left out.
        ns : tuple of int, optional
            Both, in nanoseconds since 1970.
        follow_symlinks : bool, optional
            Whether a link stands for what it leads to.

        Raises
        ------
        ValueError
            `times` and `ns` are both given, or are no two numbers.
        OverflowError
            A time does not fit into 64 bits of nanoseconds.
        """
        import time

        if times is not None and ns is not None:
            raise ValueError("give times or ns, not both")
        if times is not None:
            access, modification = (_nanoseconds(seconds) for seconds in times)
        elif ns is not None:
            access, modification = ns
        else:
            access = modification = time.time_ns()
        self.set_attributes(
            path, atime_ns=access, mtime_ns=modification, follow_symlinks=follow_symlinks
        )

    def setxattr(
        self,
        path: StrOrBytesPath,
        name: StrOrBytesPath,
        value: ReadableBuffer,
        flags: int = 0,
        *,
        follow_symlinks: bool = True,
    ) -> None:
        """Set an extended attribute, as `os.setxattr`.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file.
        name : str or bytes
            The attribute, ``user.comment`` for instance.
        value : bytes-like
            Its value.
        flags : int, optional
            `os.XATTR_CREATE`: it must be new; `os.XATTR_REPLACE`: it must be there.
        follow_symlinks : bool, optional
            Whether a link stands for what it leads to.

        Raises
        ------
        FileExistsError, NoAttributeError
            It is there, or is not there, against `flags`.
        NotPermittedError
            One of ``user.`` for what is neither a file nor a directory.
        UnsupportedError
            No file has attributes of that name: it begins with none of ``user.``, ``trusted.``
            and ``security.``, and is no access control list's.
        InvalidError
            Nothing follows that.
        NameTooLongError, NoSpaceError
            Name or value are too long, or all that the file has together.
        """
        how = {0: "either", os.XATTR_CREATE: "create", os.XATTR_REPLACE: "replace"}.get(flags)
        if how is None:
            raise ValueError(f"flags {flags:#x} are neither XATTR_CREATE nor XATTR_REPLACE")
        self.set_xattr(path, name, value, how, follow_symlinks=follow_symlinks)

    def removexattr(
        self, path: StrOrBytesPath, name: StrOrBytesPath, *, follow_symlinks: bool = True
    ) -> None:
        """Remove an extended attribute, as `os.removexattr`."""
        self.remove_xattr(path, name, follow_symlinks=follow_symlinks)


def _nanoseconds(seconds: float) -> int:
    # Apart, as their product would have too few digits for both.
    fraction, whole = math.modf(seconds)
    return int(whole) * 10**9 + math.floor(fraction * 1e9)


def _owner(what: str, number: int) -> int | None:
    """Return the owner or group to set, or None to leave it as it is."""
    if number in (-1, 0xFFFF_FFFF):
        return None
    if not 0 <= number < 0xFFFF_FFFF:
        raise InvalidError(errno.EINVAL, f"{what} {number}: neither -1 nor from 0 to 4294967294")
    return number
