# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Paths in an image, after `pathlib`."""

from __future__ import annotations

import io
import os
import stat as _stat
from functools import total_ordering
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from ._glob import as_text, matches
from .errors import LoopError
from .file import refuse_writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from _typeshed import ReadableBuffer, StrOrBytesPath

    from ._daxfs import Extent, Stat
    from .branch import Branch
    from .file import ImageFile
    from .tree import Tree

    Segment: TypeAlias = "str | os.PathLike[str] | DaxfsPath"

__all__ = ["DaxfsPath"]


@total_ordering
class DaxfsPath:
    """A path in an image or a branch, with those methods of `pathlib.Path` that make sense there.

    It has no user, home, working directory or mount, so ``absolute``, ``cwd``, ``expanduser``,
    ``group``, ``home``, ``is_mount``, ``owner`` and the like are missing, as is ``resolve``; it is
    no `os.PathLike`, for which the built-in `open` would take a file of the host. `readlink` gives
    text, and `rename` never replaces. `view` and `extents` are its own.

    Those that write need a branch, and raise `UnsupportedError` in an image.

    Parameters
    ----------
    image : Image or Branch
        The tree that the path is in.
    *segments : str, os.PathLike or DaxfsPath
        Joined from the root on; of a `DaxfsPath`, in whatever tree, the path alone counts.
    """

    __slots__ = ("_path", "image")

    def __init__(self, image: Tree, *segments: Segment) -> None:
        path = PurePosixPath(
            "/", *(str(one) if isinstance(one, DaxfsPath) else one for one in segments)
        )
        self.image = image
        # POSIX gives two leading slashes a meaning of their own; here they have none.
        self._path = PurePosixPath("/", *path.parts[1:]) if path.root == "//" else path

    def _with(self, path: PurePosixPath) -> DaxfsPath:
        return DaxfsPath(self.image, path)

    def __truediv__(self, name: Segment) -> DaxfsPath:
        return self.joinpath(name)

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

    def as_posix(self) -> str:
        """Return the path as text, as `str` does."""
        return str(self)

    def is_absolute(self) -> bool:
        """Return True."""
        return True

    def joinpath(self, *segments: Segment) -> DaxfsPath:
        """Return the path with segments appended."""
        return DaxfsPath(self.image, self._path, *segments)

    def with_name(self, name: str) -> DaxfsPath:
        """Return the path with another last component."""
        return self._with(self._path.with_name(name))

    def with_stem(self, stem: str) -> DaxfsPath:
        """Return the path with another last component before its suffix."""
        return self._with(self._path.with_stem(stem))

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

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether the path leads to something, or names a link that leads to nothing."""
        if follow_symlinks:
            return self.image.exists(str(self))
        return self._has_type(bool, follow_symlinks=False)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether the path leads to a directory."""
        if follow_symlinks:
            return self.image.is_dir(str(self))
        return self._has_type(_stat.S_ISDIR, follow_symlinks=False)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether the path leads to a regular file."""
        if follow_symlinks:
            return self.image.is_file(str(self))
        return self._has_type(_stat.S_ISREG, follow_symlinks=False)

    def is_symlink(self) -> bool:
        """Return whether the path names a symbolic link."""
        return self._has_type(_stat.S_ISLNK, follow_symlinks=False)

    def is_fifo(self) -> bool:
        """Return whether the path leads to a FIFO."""
        return self._has_type(_stat.S_ISFIFO)

    def is_socket(self) -> bool:
        """Return whether the path leads to a socket."""
        return self._has_type(_stat.S_ISSOCK)

    def is_char_device(self) -> bool:
        """Return whether the path leads to a character device."""
        return self._has_type(_stat.S_ISCHR)

    def is_block_device(self) -> bool:
        """Return whether the path leads to a block device."""
        return self._has_type(_stat.S_ISBLK)

    def _has_type(self, test: Callable[[int], bool], *, follow_symlinks: bool = True) -> bool:
        try:
            return test(self.stat(follow_symlinks=follow_symlinks).st_mode)
        except (FileNotFoundError, NotADirectoryError, LoopError, UnicodeEncodeError):
            return False

    def samefile(self, other: DaxfsPath | str) -> bool:
        """Return whether both lead to one file of one tree.

        Parameters
        ----------
        other : DaxfsPath or str
            The other path; text is one in this tree.

        Raises
        ------
        NotFoundError, NotDirectoryError, LoopError
            One of them leads to nothing.
        """
        if not isinstance(other, DaxfsPath):
            other = DaxfsPath(self.image, other)
        same = self.stat().st_ino == other.stat().st_ino
        return same and self.image is other.image

    def readlink(self) -> str:
        """Return a symbolic link's target."""
        return self.image.readlink(str(self))

    def iterdir(self) -> Iterator[DaxfsPath]:
        """Go through a directory's entries, in byte order of names."""
        for name in self.image.listdir(str(self)):
            yield self / name

    def walk(
        self, top_down: bool = True, on_error: Callable[[OSError], object] | None = None
    ) -> Iterator[tuple[DaxfsPath, list[str], list[str]]]:
        """Go through a tree, as `pathlib.Path.walk`: links to directories are no directories.

        Parameters
        ----------
        top_down : bool, optional
            Directories before what is in them; names removed from their list are left out then.
        on_error : callable, optional
            Called with what keeps a directory from being read; raised when left out.

        Yields
        ------
        tuple of DaxfsPath, list of str, list of str
            A directory, the names of directories in it, and its other names.
        """
        steps = self.image._walk(str(self), top_down, on_error, links_as_directories=False)
        for path, directories, others in steps:
            yield DaxfsPath(self.image, path), directories, others

    def glob(self, pattern: StrOrBytesPath) -> Iterator[DaxfsPath]:
        """Find what matches a pattern below this path; see `Image.glob`."""
        # The path itself is no pattern, whatever characters are in it.
        for path in matches(self.image, str(self), as_text(pattern)):
            yield self._with(PurePosixPath(path))

    def rglob(self, pattern: StrOrBytesPath) -> Iterator[DaxfsPath]:
        """Find what matches a pattern at any depth."""
        return self.glob(f"**/{as_text(pattern)}")

    @property
    def _branch(self) -> Branch:
        from .branch import Branch

        if isinstance(self.image, Branch):
            return self.image
        raise refuse_writing(str(self))

    @overload
    def open(  # type: ignore[overload-overlap]
        self, mode: str, buffering: Literal[0]
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
    @overload
    def open(
        self,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]: ...
    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> ImageFile | IO[Any]:
        """Open the file, as `pathlib.Path.open`; text is UTF-8 unless told otherwise.

        Parameters
        ----------
        mode : str, optional
            As for the built-in `open`; modes that write need a branch.
        buffering : int, optional
            Bytes to buffer; 0 for none, in binary mode.
        encoding, errors, newline : str, optional
            As for the built-in `open`.

        Returns
        -------
        io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom or ImageFile
        """
        if buffering == -1:
            buffering = io.DEFAULT_BUFFER_SIZE
        return self.image.open(str(self), mode, buffering, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        """Return the file's contents."""
        return self.image.read_bytes(str(self))

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the file's contents as text; see `Image.read_text`."""
        return self.image.read_text(str(self), encoding, errors)

    def view(self) -> memoryview:
        """Return the file's contents without a copy; see `Image.view`."""
        return self.image.view(str(self))

    def extents(self) -> list[Extent]:
        """Return where the file's bytes lie in the image."""
        return self.image.extents(str(self))

    def write_bytes(self, data: ReadableBuffer) -> int:
        """Make the file's contents these; return their bytes."""
        return self._branch.write_bytes(str(self), data)

    def write_text(
        self,
        data: str,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | None = None,
    ) -> int:
        """Make the file's contents this text; see `Branch.write_text`."""
        return self._branch.write_text(str(self), data, encoding, errors, newline)

    def touch(self, mode: int = 0o644, exist_ok: bool = True) -> None:
        """Make an empty file, or give the one that is there the time of now."""
        self._branch.touch(str(self), mode, exist_ok=exist_ok)

    def mkdir(self, mode: int = 0o755, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory, and with `parents` those above it that are missing."""
        make = self._branch.makedirs if parents else self._branch.mkdir
        make(str(self), mode, exist_ok=exist_ok)

    def symlink_to(self, target: StrOrBytesPath, target_is_directory: bool = False) -> None:
        """Make a symbolic link to `target` here; what that is does not matter."""
        self._branch.symlink(target, str(self))

    def hardlink_to(self, target: DaxfsPath | str) -> None:
        """Make this one more name of `target`."""
        self._branch.link(str(target), str(self))

    def rename(self, target: DaxfsPath | str) -> DaxfsPath:
        """Move to a name that is free; return it as a path."""
        self._branch.rename(str(self), str(target))
        return DaxfsPath(self.image, str(target))

    def replace(self, target: DaxfsPath | str) -> DaxfsPath:
        """Move to a name, over a file or an empty directory of that name; return it as a path."""
        self._branch.replace(str(self), str(target))
        return DaxfsPath(self.image, str(target))

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        try:
            self._branch.unlink(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        """Remove the directory, which must be empty."""
        self._branch.rmdir(str(self))

    def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change permissions."""
        self._branch.chmod(str(self), mode, follow_symlinks=follow_symlinks)
