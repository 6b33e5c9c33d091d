# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Trees that can be read: what images and branches have in common."""

from __future__ import annotations

import errno
import io
import os
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from . import _daxfs
from ._glob import as_text, join, matches
from .errors import UnsoundImageError
from .file import ImageFile, check_options, open_stream, parse_mode, refuse_writing
from .path import DaxfsPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import StrOrBytesPath

    from ._daxfs import Difference, ExtractResult, PathChange, Progress
    from .path import Segment

__all__ = ["Tree"]


class Tree(_daxfs.Tree):
    """A tree of files: what `Image` and `Branch` have in common.

    Paths are taken from the root of the image, with or without a slash in front. Names are bytes;
    as text they are UTF-8 with ``surrogateescape``. Symbolic links are followed inside the image.
    """

    def __truediv__(self, name: Segment) -> DaxfsPath:
        return DaxfsPath(self, name)

    @property
    def root(self) -> DaxfsPath:
        """The root directory."""
        return DaxfsPath(self)

    @overload
    def open(  # type: ignore[overload-overlap]
        self, path: StrOrBytesPath, mode: Literal["rb"] = "rb", buffering: Literal[-1, 0] = -1
    ) -> ImageFile: ...
    @overload
    def open(  # type: ignore[overload-overlap]
        self, path: StrOrBytesPath, mode: str, buffering: Literal[0]
    ) -> ImageFile: ...
    @overload
    def open(
        self, path: StrOrBytesPath, mode: Literal["rb"] = "rb", buffering: int = -1
    ) -> io.BufferedReader[ImageFile]: ...
    @overload
    def open(
        self,
        path: StrOrBytesPath,
        mode: Literal["r", "rt", "w", "wt", "a", "at", "x", "xt", "r+", "w+", "a+", "x+"],
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(
        self,
        path: StrOrBytesPath,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]: ...
    def open(
        self,
        path: StrOrBytesPath,
        mode: str = "rb",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> ImageFile | IO[Any]:
        """Open a regular file, as the built-in `open`; text is UTF-8 unless told otherwise.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file.
        mode : str, optional
            As for the built-in. Only a branch that is open for writing takes modes that write.
        buffering : int, optional
            Bytes to buffer, or 0 for none. When left out, reading bytes is not buffered, as
            memory needs no buffer; everything else is.
        encoding, errors, newline : str, optional
            As for the built-in.

        Returns
        -------
        ImageFile, io.BufferedIOBase or io.TextIOWrapper
            A stream, which stays usable after the image is closed. ``"rb"`` gives the raw
            `ImageFile`. One that writes is to be closed before its branch is committed: what it
            still buffers is not in the branch, and cannot get there later.

        Raises
        ------
        NotFoundError, NotDirectoryError, IsDirectoryError, LoopError
            The path does not lead to a regular file.
        FileExistsError
            The mode says that the file must be new.
        UnsupportedError
            The mode writes, and the image is only read.
        ValueError
            There is no such mode, or what else is given does not go with it.
        """
        parsed = parse_mode(mode)
        check_options(parsed, buffering, encoding, errors, newline)
        raw = ImageFile(self._open_raw(path, mode), os.fsdecode(path), mode)
        if mode == "rb" and buffering in (-1, 0):
            return raw
        return open_stream(raw, parsed, buffering, encoding, errors, newline)

    def _open_raw(self, path: StrOrBytesPath, mode: str) -> _daxfs.File:
        if parse_mode(mode).writes:
            raise refuse_writing(as_text(path))
        return self.open_file(path)

    def read_text(
        self, path: StrOrBytesPath, encoding: str = "utf-8", errors: str = "strict"
    ) -> str:
        """Return a file's contents as text, with the ends of lines that `open` gives them.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file.
        encoding, errors : str, optional
            As for `bytes.decode`.

        Returns
        -------
        str
        """
        text = self.read_bytes(path).decode(encoding, errors)
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def walk(
        self,
        top: StrOrBytesPath = "/",
        topdown: bool = True,
        onerror: Callable[[OSError], object] | None = None,
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """Go through a tree, as `os.walk`.

        Parameters
        ----------
        top : str, bytes or os.PathLike, optional
            Where to begin.
        topdown : bool, optional
            Directories before what is in them; names removed from their list are left out then.
        onerror : callable, optional
            Called with what keeps a directory from being read; raised when left out.

        Yields
        ------
        tuple of str, list of str, list of str
            A directory's path, the names of directories in it (and of links to directories, which
            are not entered), and its other names.

        Raises
        ------
        UnsoundImageError
            A directory is reached twice, so the walk would not end.
        """
        return self._walk(as_text(top), topdown, onerror, links_as_directories=True)

    def _walk(
        self,
        top: str,
        top_down: bool,
        on_error: Callable[[OSError], object] | None,
        *,
        links_as_directories: bool,
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        reached = Reached()
        # What is in it has been gone through where there are names beside the directory.
        pending: list[tuple[Step, tuple[list[str], list[str]] | None]] = [((None, top), None)]
        while pending:
            step, found = pending.pop()
            path = path_of(step)
            if found is not None:
                yield (path, *found)
                continue
            directories: list[str] = []
            links: set[str] = set()
            others: list[str] = []
            try:
                reached.add(path, self.stat(path).st_ino)
                for entry in self.scandir(path):
                    if not entry.is_dir(follow_symlinks=links_as_directories):
                        others.append(entry.name)
                        continue
                    directories.append(entry.name)
                    if entry.is_symlink():
                        links.add(entry.name)
            except OSError as error:
                if on_error is None:
                    raise
                on_error(error)
                continue
            if top_down:
                yield path, directories, others
            else:
                pending.append((step, (directories, others)))
            below = (name for name in reversed(directories) if name not in links)
            pending += [((step, name), None) for name in below]

    def glob(self, pattern: StrOrBytesPath) -> Iterator[str]:
        """Find the paths that match a pattern.

        Parameters
        ----------
        pattern : str, bytes or os.PathLike
            ``*``, ``?`` and ``[…]`` match within a name, a leading dot included; ``**`` matches
            any number of directories, without following links. With a slash at its end it
            matches directories only.

        Yields
        ------
        str
            Absolute paths, sorted within each directory.

        Raises
        ------
        ValueError
            The pattern is empty.
        """
        yield from matches(self, "/", as_text(pattern))

    def extract(
        self,
        destination: StrOrBytesPath,
        path: StrOrBytesPath = "/",
        *,
        force: bool = False,
        progress: Callable[[Progress], object] | None = None,
    ) -> ExtractResult:
        """Extract a directory and what is below it, or one file.

        Root restores everything; others get what they may make.

        Parameters
        ----------
        destination : str, bytes or os.PathLike
            The directory to extract into, which is made if need be; for a file, its new path.
        path : str, bytes or os.PathLike, optional
            What to extract.
        force : bool, optional
            Extract into a directory that is not empty, and replace the files there.
        progress : callable, optional
            As for `daxfs.build`.

        Returns
        -------
        ExtractResult
            Entries made, their bytes, and how many of them miss what only root may restore.

        Raises
        ------
        ExistsError
            The destination is not empty, and `force` was not given.
        SystemCallError, AccessError, NoSpaceError
            Something could not be made.
        """
        return _daxfs.extract(self, path, destination, force=force, watcher=progress)

    def extract_tar(
        self,
        archive: StrOrBytesPath | None,
        path: StrOrBytesPath = "/",
        *,
        force: bool = False,
        progress: Callable[[Progress], object] | None = None,
    ) -> ExtractResult:
        """Write a directory and what is below it as a tar archive.

        Parameters
        ----------
        archive : str, bytes, os.PathLike or None
            The file to write, which appears when it is whole, or a device or pipe; None for
            standard output.
        path : str, bytes or os.PathLike, optional
            The directory.
        force : bool, optional
            Replace a file that is there.
        progress : callable, optional
            As for `daxfs.build`.

        Returns
        -------
        ExtractResult
            Entries written, their bytes, and how many sockets were left out, which tar has no
            entry for.

        Raises
        ------
        ExistsError
            The file is there, and `force` was not given.
        SystemCallError, AccessError, NoSpaceError
            It could not be written.
        """
        return _daxfs.extract_tar(self, path, archive, force=force, watcher=progress)

    def compare(
        self,
        directory: StrOrBytesPath,
        path: StrOrBytesPath = "/",
        *,
        ignore_mtime: bool = False,
        ignore_owner: bool = False,
        ignore_xattrs: bool = False,
        progress: Callable[[Progress], object] | None = None,
    ) -> list[Difference]:
        """Compare a directory of the image with one of the host: contents and attributes.

        Parameters
        ----------
        directory : str, bytes or os.PathLike
            The host's directory.
        path : str, bytes or os.PathLike, optional
            The image's directory.
        ignore_mtime, ignore_owner, ignore_xattrs : bool, optional
            What not to compare. Times are not compared with an image that keeps none.
        progress : callable, optional
            As for `daxfs.build`.

        Returns
        -------
        list of Difference
            In order of paths; empty when all is the same.
        """
        return _daxfs.compare(
            self,
            path,
            directory,
            ignore_mtime=ignore_mtime,
            ignore_owner=ignore_owner,
            ignore_xattrs=ignore_xattrs,
            watcher=progress,
        )

    def changes_since(
        self,
        before: _daxfs.Tree,
        *,
        ignore_mtime: bool = False,
        ignore_owner: bool = False,
        ignore_xattrs: bool = False,
        progress: Callable[[Progress], object] | None = None,
    ) -> list[PathChange]:
        """Find what differs from another tree, fastest from one of the same image.

        Parameters
        ----------
        before : Image or Branch
            The tree to compare with.
        ignore_mtime, ignore_owner, ignore_xattrs : bool, optional
            What not to compare.
        progress : callable, optional
            As for `daxfs.build`.

        Returns
        -------
        list of PathChange
            Paths that were added, changed or removed, in order. What is below an added or removed
            directory is listed, too. A directory's time is not reported where its names changed.
        """
        return _daxfs.changes(
            before,
            self,
            ignore_mtime=ignore_mtime,
            ignore_owner=ignore_owner,
            ignore_xattrs=ignore_xattrs,
            watcher=progress,
        )


# A directory that a walk has still to enter: the one that it lies in, and its name; of the top, its
# path. The paths of all of them would take far more memory than a deep tree has bytes.
Step = tuple["Step | None", str]


def path_of(step: Step) -> str:
    """Return the path of a directory."""
    names: list[str] = []
    above, name = step
    while above is not None:
        names.append(name)
        above, name = above
    return join(name, "/".join(reversed(names))) if names else name


class Reached:
    """The directories that a walk has reached; in an image that nobody proved it may not end."""

    def __init__(self) -> None:
        self._inodes: set[int] = set()

    def add(self, path: str, inode: int) -> None:
        """Take note of a directory that is reached.

        Parameters
        ----------
        path : str
            Where it was reached.
        inode : int
            Its number.

        Raises
        ------
        UnsoundImageError
            It was reached before.
        """
        if inode in self._inodes:
            first = f"directory {path!a} is reached twice"
            error = UnsoundImageError(errno.EUCLEAN, f"image is not sound: {first}")
            error.count, error.first = 1, first
            raise error
        self._inodes.add(inode)
