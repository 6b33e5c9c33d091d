# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Open images, their paths and their files."""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import re
from functools import total_ordering
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, overload

from . import _daxfs
from .errors import UnsoundImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from _typeshed import ReadableBuffer, StrOrBytesPath, WriteableBuffer

    from ._daxfs import Difference, Extent, ExtractResult, Progress, Stat

__all__ = ["DaxfsPath", "Image", "ImageFile", "open"]


def open(
    source: StrOrBytesPath | int,
    *,
    branch: str | None = None,
    trusted: bool = False,
    invalidate: bool = False,
) -> Image:
    """Open an image for reading.

    Parameters
    ----------
    source : str, bytes, os.PathLike or int
        Where the image lies: a path of a file or device, a descriptor (also of a memfd or a DMA
        buffer), or as `str` one of ``phys:ADDRESS[+SIZE]``, ``dmabuf:FD`` and ``fd:FD``.
    branch : str, optional
        The branch to look at; ``main`` when left out.
    trusted : bool, optional
        Take the caller's word that the image is sound, instead of proving it. Every access is
        checked in either case.
    invalidate : bool, optional
        First drop what this processor has cached of the memory, to see what a host without cache
        coherence has published.

    Returns
    -------
    Image
        To be used as a context manager, or closed.

    Raises
    ------
    CorruptImageError
        It is not an image, or its superblock is damaged.
    UnsoundImageError
        It does not pass the proof.
    UnsupportedError
        It needs a feature that this version does not know.
    NoBranchError
        It has no such branch.
    NotFoundError, AccessError, BackingError
        The file or the memory cannot be opened.
    """
    return Image(source, branch=branch, trusted=trusted, invalidate=invalidate)


class Image(_daxfs.Image):
    """An image open for reading; `daxfs.open` makes one.

    Paths are taken from the root of the image, with or without a slash in front. Names are bytes;
    as text they are UTF-8 with ``surrogateescape``. Symbolic links are followed inside the image.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else repr(self.name)
        return f"<daxfs.Image {state}>"

    def __truediv__(self, name: str) -> DaxfsPath:
        return DaxfsPath(self, name)

    @property
    def root(self) -> DaxfsPath:
        """The root directory."""
        return DaxfsPath(self)

    def open(self, path: StrOrBytesPath) -> ImageFile:
        """Open a regular file.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            The file.

        Returns
        -------
        ImageFile
            A raw binary stream, which stays usable after the image is closed.

        Raises
        ------
        NotFoundError, NotDirectoryError, IsDirectoryError, LoopError
            The path does not lead to a regular file.
        """
        return ImageFile(self.open_file(path), os.fsdecode(path))

    def read_text(
        self, path: StrOrBytesPath, encoding: str = "utf-8", errors: str = "strict"
    ) -> str:
        """Return a file's contents as text.

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
        return self.read_bytes(path).decode(encoding, errors)

    def walk(self, top: str = "/") -> Iterator[tuple[str, list[str], list[str]]]:
        """Go through a tree, directories before what is in them, as `os.walk`.

        Parameters
        ----------
        top : str, optional
            Where to begin.

        Yields
        ------
        tuple of str, list of str, list of str
            A directory's path, the names of directories in it (and of links to directories, which
            are not entered), and its other names. Names removed from the first list are left out.

        Raises
        ------
        UnsoundImageError
            A directory is reached twice, so the walk would not end.
        """
        seen: set[int] = set()
        pending = [top]
        while pending:
            path = pending.pop()
            inode = self.stat(path).st_ino
            if inode in seen:
                raise _reached_twice(path)
            seen.add(inode)
            directories: list[str] = []
            links: set[str] = set()
            others: list[str] = []
            for entry in self.scandir(path):
                if entry.is_dir():
                    directories.append(entry.name)
                    if entry.is_symlink():
                        links.add(entry.name)
                else:
                    others.append(entry.name)
            yield path, directories, others
            pending += [_join(path, name) for name in reversed(directories) if name not in links]

    def glob(self, pattern: str) -> Iterator[str]:
        """Find the paths that match a pattern.

        Parameters
        ----------
        pattern : str
            ``*``, ``?`` and ``[…]`` match within a name, a leading dot included; ``**`` matches
            any number of directories, without following links.

        Yields
        ------
        str
            Absolute paths, sorted within each directory.
        """
        yield from _matches(self, "/", pattern)

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
        progress: Callable[[Progress], object] | None = None,
    ) -> ExtractResult:
        """Write a directory and what is below it as a tar archive.

        Parameters
        ----------
        archive : str, bytes, os.PathLike or None
            The file to write; None for standard output.
        path : str, bytes or os.PathLike, optional
            The directory.
        progress : callable, optional
            As for `daxfs.build`.

        Returns
        -------
        ExtractResult
            Entries written, their bytes, and how many sockets were left out, which tar has no
            entry for.
        """
        return _daxfs.extract_tar(self, path, archive, watcher=progress)

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


class ImageFile(io.RawIOBase):
    """A file of an image as a raw binary stream.

    Wrap it in an `io.BufferedReader` to read it line by line.
    """

    mode = "rb"

    def __init__(self, file: _daxfs.File, name: str) -> None:
        super().__init__()
        self._file = file
        self._position = 0
        self.name = name

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._file.size

    def stat(self) -> Stat:
        """Return the file's attributes."""
        return self._file.stat()

    def readable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, from the start, the current one or the end; return it."""
        self._check_open()
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
        if whence not in origins:
            raise ValueError(f"invalid whence ({whence})")
        position = origins[whence] + offset
        if position < 0:
            raise ValueError(f"negative position ({position})")
        self._position = position
        return position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer with what comes next; return how many bytes there were."""
        self._check_open()
        count = self._file.readinto(buffer, self._position)
        self._position += count
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, or all that are left."""
        self._check_open()
        left = max(0, self.size - self._position)
        data = self._file.read(self._position, left if size is None or size < 0 else size)
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """Return all bytes that are left."""
        return self.read()

    def write(self, data: ReadableBuffer, /) -> int:
        """Fail: images are read-only."""
        raise io.UnsupportedOperation("not writable")

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


@total_ordering
class DaxfsPath:
    """A path in an image, with the methods of `pathlib.Path` that read.

    Parameters
    ----------
    image : Image
        The image.
    *segments : str
        Joined from the root on.
    """

    __slots__ = ("_path", "image")

    def __init__(self, image: Image, *segments: str | PurePosixPath) -> None:
        path = PurePosixPath("/", *segments)
        self.image = image
        # POSIX gives two leading slashes a meaning of their own; here they have none.
        self._path = PurePosixPath("/", *path.parts[1:]) if path.root == "//" else path

    def _with(self, path: PurePosixPath) -> DaxfsPath:
        return DaxfsPath(self.image, path)

    def __truediv__(self, name: str | PurePosixPath) -> DaxfsPath:
        return self._with(self._path / name)

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"DaxfsPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DaxfsPath):
            return NotImplemented
        return self.image is other.image and self._path == other._path

    def __lt__(self, other: DaxfsPath) -> bool:
        if not isinstance(other, DaxfsPath) or self.image is not other.image:
            return NotImplemented
        return self._path < other._path

    def __hash__(self) -> int:
        return hash((id(self.image), self._path))

    @property
    def name(self) -> str:
        """Last component; empty for the root."""
        return self._path.name

    @property
    def stem(self) -> str:
        """Last component without its suffix."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """Suffix of the last component, with its dot."""
        return self._path.suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes of the last component."""
        return self._path.suffixes

    @property
    def parts(self) -> tuple[str, ...]:
        """The components."""
        return self._path.parts

    @property
    def parent(self) -> DaxfsPath:
        """The path without its last component."""
        return self._with(self._path.parent)

    @property
    def parents(self) -> tuple[DaxfsPath, ...]:
        """The directories above, nearest first."""
        return tuple(self._with(parent) for parent in self._path.parents)

    def joinpath(self, *segments: str) -> DaxfsPath:
        """Return the path with segments appended."""
        return self._with(self._path.joinpath(*segments))

    def with_name(self, name: str) -> DaxfsPath:
        """Return the path with another last component."""
        return self._with(self._path.with_name(name))

    def with_suffix(self, suffix: str) -> DaxfsPath:
        """Return the path with another suffix."""
        return self._with(self._path.with_suffix(suffix))

    def relative_to(self, other: DaxfsPath | str) -> PurePosixPath:
        """Return the path relative to one above it."""
        return self._path.relative_to(str(other))

    def is_relative_to(self, other: DaxfsPath | str) -> bool:
        """Return whether the path is `other` or below it."""
        return self._path.is_relative_to(str(other))

    def match(self, pattern: str) -> bool:
        """Return whether the path matches a pattern, as `pathlib.PurePath.match`."""
        return self._path.match(pattern)

    def stat(self, *, follow_symlinks: bool = True) -> Stat:
        """Return the file's attributes."""
        return self.image.stat(str(self), follow_symlinks=follow_symlinks)

    def lstat(self) -> Stat:
        """Return the file's attributes, of a symbolic link itself."""
        return self.image.lstat(str(self))

    def exists(self) -> bool:
        """Return whether the path leads to something."""
        return self.image.exists(str(self))

    def is_dir(self) -> bool:
        """Return whether the path leads to a directory."""
        return self.image.is_dir(str(self))

    def is_file(self) -> bool:
        """Return whether the path leads to a regular file."""
        return self.image.is_file(str(self))

    def is_symlink(self) -> bool:
        """Return whether the path names a symbolic link."""
        try:
            return self.lstat().is_symlink()
        except (FileNotFoundError, NotADirectoryError):
            return False

    def readlink(self) -> str:
        """Return a symbolic link's target."""
        return self.image.readlink(str(self))

    def iterdir(self) -> Iterator[DaxfsPath]:
        """Go through a directory's entries, in byte order of names."""
        for name in self.image.listdir(str(self)):
            yield self / name

    def glob(self, pattern: str) -> Iterator[DaxfsPath]:
        """Find what matches a pattern below this path; see `Image.glob`."""
        # The path itself is no pattern, whatever characters are in it.
        for path in _matches(self.image, str(self), pattern):
            yield self._with(PurePosixPath(path))

    def rglob(self, pattern: str) -> Iterator[DaxfsPath]:
        """Find what matches a pattern at any depth."""
        return self.glob(f"**/{pattern}")

    @overload
    def open(  # type: ignore[overload-overlap]
        self, mode: Literal["rb"], buffering: Literal[0]
    ) -> ImageFile: ...
    @overload
    def open(self, mode: Literal["rb"], buffering: int = -1) -> io.BufferedReader[ImageFile]: ...
    @overload
    def open(
        self,
        mode: Literal["r", "rt"] = "r",
        buffering: int = -1,
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
    ) -> io.TextIOWrapper: ...
    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
    ) -> ImageFile | io.BufferedReader[ImageFile] | io.TextIOWrapper:
        """Open the file for reading, as `pathlib.Path.open`; text is UTF-8 unless told otherwise.

        Parameters
        ----------
        mode : {"r", "rt", "rb"}
            Text or bytes.
        buffering : int, optional
            Bytes to buffer; 0 for none, in binary mode.
        encoding, errors, newline : str, optional
            As for the built-in `open`.

        Returns
        -------
        io.TextIOWrapper, io.BufferedReader or ImageFile
        """
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"invalid mode {mode!r}: images are read-only")
        raw = self.image.open(str(self))
        if buffering == 0:
            if mode != "rb":
                raise ValueError("text cannot be unbuffered")
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffered = io.BufferedReader(raw, size)
        if mode == "rb":
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        """Return the file's contents."""
        return self.image.read_bytes(str(self))

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the file's contents as text."""
        return self.image.read_text(str(self), encoding, errors)

    def view(self) -> memoryview:
        """Return the file's contents without a copy; see `Image.view`."""
        return self.image.view(str(self))

    def extents(self) -> list[Extent]:
        """Return where the file's bytes lie in the image."""
        return self.image.extents(str(self))


def _join(directory: str, name: str) -> str:
    return directory + name if directory.endswith("/") else f"{directory}/{name}"


def _reached_twice(path: str) -> UnsoundImageError:
    first = f"directory {path!a} is reached twice"
    error = UnsoundImageError(errno.EUCLEAN, f"image is not sound: {first}")
    error.count, error.first = 1, first
    return error


def _matches(image: Image, path: str, pattern: str) -> Iterator[str]:
    """Paths below `path` that match a pattern, each once."""
    parts = [part for part in pattern.split("/") if part]
    found = _glob(image, path, parts)
    # Only one stretch of directories after another can lead to a path in two ways.
    return iter(dict.fromkeys(found)) if parts.count("**") > 1 else found


def _glob(image: Image, path: str, parts: list[str]) -> Iterator[str]:
    """Paths below `path` that match a pattern's components."""
    if not parts:
        yield path
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _glob(image, path, rest)
        for directory, names, others in image.walk(path) if image.is_dir(path) else ():
            for name in names:
                below = _join(directory, name)
                if not image.lstat(below).is_symlink():
                    yield from _glob(image, below, rest)
                elif not rest:
                    yield below
            if not rest:
                yield from (_join(directory, name) for name in others)
    elif re.search(r"[*?[]", part) is None:
        below = _join(path, part)
        if _is_there(image, below) if not rest else image.is_dir(below):
            yield from _glob(image, below, rest)
    elif image.is_dir(path):
        matches = _matcher(part)
        for entry in image.scandir(path):
            if matches(entry.name) and (not rest or entry.is_dir()):
                yield from _glob(image, entry.path, rest)


def _is_there(image: Image, path: str) -> bool:
    try:
        image.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern)).match
