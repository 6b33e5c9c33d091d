# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The fsspec filesystem ``daxfs``, by which pandas, pyarrow, dask and others use images.

Either the image is a link of a chain, ``daxfs://path/in/image::/where/it/lies.daxfs``, or a
parameter of the URL, ``daxfs:///path/in/image?image=/where/it/lies.daxfs``. What is written goes
into a branch, ``daxfs:///new.csv?image=/where/it/lies.daxfs&branch=feature``, and stays there
until somebody commits it.

The parameters are ``image``, ``branch``, ``parent`` and ``trusted``, after the last question mark
of a URL. In their values ``%xx`` is a byte, as ``%26`` for ``&`` and ``%3F`` for ``?``, and a plus
sign is itself. The path is taken as it is. Other text after a question mark belongs to the path,
or is an error if ``image`` is among it.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from weakref import WeakValueDictionary

try:
    import fsspec
except ModuleNotFoundError as error:
    if error.name != "fsspec":
        raise
    why = "daxfs.fsspec needs fsspec: pip install 'daxfs[fsspec]'"
    raise ModuleNotFoundError(why, name="fsspec") from None
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.core import has_magic
from fsspec.implementations.local import make_path_posix
from fsspec.spec import make_instance
from fsspec.utils import other_paths

from . import image as _image
from ._fsspec_files import Reader, Updater, Writer, Written
from .errors import BranchStaleError, InvalidError, NoBranchError
from .file import parse_mode
from .tree import Reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .branch import Branch
    from .tree import Tree

__all__ = ["DaxfsFileSystem"]

_SCHEME = "daxfs://"
_PARAMETERS = ("branch", "image", "parent", "trusted")
# Bytes copied at once.
_PIECE = 4 << 20


class DaxfsFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The files of an image, and of a branch also for writing.

    The branch is taken from other writers only while something is changed, a file is open for
    writing, or a transaction lasts. Threads may share one. Other processes that get one pickled,
    or by being forked, open the image again, in whatever directory they are; not if it is a
    descriptor's.

    Parameters
    ----------
    image : str, os.PathLike or int, optional
        Where the image lies, as for `daxfs.open`.
    branch : str, optional
        The branch to look at and to write to; ``main`` when left out, and then only to look at.
    parent : str, optional
        Make the branch of this one when it is first written to, if it is not there, or not any
        more.
    auto_mkdir : bool, optional
        Make the directories that are missing above what is written, copied or moved.
    trusted : bool, optional
        Do not prove the image first.
    fo : str, optional
        The image, as chained URLs hand it over.
    target_protocol : str, optional
        Where `fo` lies; memory is mapped, so it must be a local file.
    **kwargs
        For the base class.
    """

    protocol = "daxfs"
    root_marker = ""
    # The image at a path may be replaced, and an open one is cheap to have twice.
    cachable = False

    def __init__(
        self,
        image: Any = None,
        *,
        branch: str | None = None,
        parent: str | None = None,
        auto_mkdir: bool = False,
        trusted: bool = False,
        fo: str | None = None,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        source = fo if image is None else image
        if source is None or source == "":
            raise InvalidError(
                errno.EINVAL,
                "no image: chain one, daxfs://PATH::IMAGE, or say daxfs:///PATH?image=IMAGE, "
                "with %3F for every question mark in IMAGE",
            )
        if target_protocol not in (None, "file", "local"):
            raise InvalidError(
                errno.EINVAL,
                f"an image must be local to be mapped, not behind {target_protocol!r}: copy it",
            )
        self._name, self._made_of, self._auto_mkdir = branch, parent, auto_mkdir
        self._begin()
        self._open_image(source, trusted)
        _all[id(self)] = self
        # Neither another directory nor another process changes what it leads to.
        self._source = self.image._origin or source

    def __reduce__(self) -> Any:
        # It tells what to do where another process cannot open it.
        self.image.__reduce__()
        options = {**self.storage_options, "fo": None, "image": self._source}
        return make_instance, (type(self), (), options)

    def _begin(self, *, forked: bool = False) -> None:
        """Begin as a process does that nobody has changed anything in."""
        self._forked = forked
        self._uses: set[object] = set()
        # A file that nobody closed may be deleted, and so closed, by a thread that is in here.
        self._lock = threading.RLock()

    def _open_image(self, source: Any, trusted: bool) -> None:
        self._branch: Branch | None = None
        try:
            self.image = _image.open(source, branch=self._name, trusted=trusted)
        except NoBranchError:
            if self._made_of is None:
                raise
            # Until it is made it looks as its parent does.
            self.image = _image.open(source, branch=self._made_of, trusted=trusted)

    def _follow(self) -> None:
        """Open the image anew in a fork, and where the branch has ended and may be made again."""
        if self._forked:
            with self._lock:
                # What writes is registered for the process that it was forked from. It was proved.
                if self._forked and self._branch is not None:
                    self._open_image(self._source, trusted=True)
                self._forked = False
        if self._made_of is not None and self._has_ended():
            with self._lock:
                # Another thread may have done it, and who has the branch is to be told.
                if not self._uses and self._has_ended():
                    self._open_image(self._source, trusted=True)

    def _has_ended(self) -> bool:
        try:
            (self._branch or self.image).lstat("")
        except BranchStaleError:
            return True
        return False

    @property
    def _tree(self) -> Tree:
        """What is read from: the branch as it is now, once something was written."""
        self._follow()
        return self.image if self._branch is None else self._branch

    def _writable(self) -> Branch:
        """Return the branch to change."""
        self._follow()
        if self._branch is None:
            if self._name is None:
                raise io.UnsupportedOperation("images are read-only; say which branch to write to")
            # It was proved when it was opened for reading.
            image = _image.open(self._source, writable=True, trusted=True)
            create = None if self._made_of is not None else False
            parent = self._made_of or "main"
            self._branch = image.branch(self._name, parent=parent, create=create, keep=True)
        return self._branch

    @contextmanager
    def _changing(self) -> Iterator[Branch]:
        """Have the branch for a change; others can have it when the last change ends."""
        use = object()
        with self._lock:
            branch = self._writable()
            self._uses.add(use)
        try:
            yield branch
        finally:
            with self._lock:
                # Not there if it began before a fork.
                self._uses.discard(use)
                if not self._uses:
                    branch.release()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        path = fsspec.utils.stringify_path(path)
        if path.startswith(_SCHEME):
            path = _split(path.removeprefix(_SCHEME))[0]
        return path.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        if not path.startswith(_SCHEME):
            return {}
        return _split(path.removeprefix(_SCHEME))[1]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return what is known of a file; of the file that a link leads to.

        Links to directories stay links, so that a walk ends.
        """
        path = self._strip_protocol(path)
        info = self._tree.lstat(path)
        about: dict[str, Any] = {"name": path, "islink": info.is_symlink()}
        if info.is_symlink():
            about["destination"] = self._tree.readlink(path)
            if self._tree.is_file(path):
                info = self._tree.stat(path)
        kind = "directory" if info.is_dir() else "file" if info.is_file() else "other"
        return {
            **about,
            "type": "link" if info.is_symlink() else kind,
            "size": 0 if info.is_dir() else info.st_size,
            "ino": info.st_ino,
            "mode": info.st_mode,
            "uid": info.st_uid,
            "gid": info.st_gid,
            "nlink": info.st_nlink,
            "mtime": info.st_mtime,
        }

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a directory, or the file itself."""
        path = self._strip_protocol(path)
        if self._tree.is_dir(path):
            names = [f"{path}/{name}".lstrip("/") for name in self._tree.listdir(path)]
        else:
            self._tree.lstat(path)
            names = [path]
        return [self.info(name) for name in names] if detail else names

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = "omit",
        **kwargs: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """Go through a tree as every file system of fsspec does, however deep it is.

        Parameters
        ----------
        path : str
            Where to begin.
        maxdepth : int, optional
            How many levels to go through.
        topdown : bool, optional
            Directories before what is in them; names removed from the first list are left out.
        on_error : {"omit", "raise"} or callable, optional
            What becomes of a directory that cannot be listed: it is left out, the error is raised,
            or given to this.
        **kwargs
            With ``detail=True`` names are in dictionaries, with what `info` says of them; others
            are for `ls`.

        Yields
        ------
        tuple of str, list of str, list of str
            A directory's path, the names of directories in it, and its other names, links among
            them.

        Raises
        ------
        UnsoundImageError
            A directory is reached twice, so the walk would not end.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        detail = kwargs.pop("detail", False)
        reached = Reached()
        # Directories that are still to be listed, how deep they are, and for those that come
        # after what is in them what was found.
        pending: list[tuple[str, int, Any]] = [(self._strip_protocol(path), 1, None)]
        while pending:
            path, depth, found = pending.pop()
            if found is not None:
                yield path, *found
                continue
            try:
                directories, others = self._divided(path, **kwargs)
            except OSError as error:
                if on_error == "raise":
                    raise
                if callable(on_error):
                    on_error(error)
                continue
            if "" not in others:
                reached.add(path, self._tree.stat(path).st_ino)
            found = (directories, others) if detail else (list(directories), list(others))
            if topdown:
                yield path, *found
            else:
                pending.append((path, depth, found))
            if maxdepth is None or depth < maxdepth:
                below = [f"{path}/{name}".lstrip("/") for name in found[0]]
                pending += [(one, depth + 1, None) for one in reversed(below)]

    def _divided(self, path: str, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """List a directory: what is known of the directories in it, and of all else, by names."""
        directories: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for info in self.ls(path, detail=True, **kwargs):
            # What is no directory lists itself, without a name.
            name = "" if info["name"] == path else info["name"].rpartition("/")[2]
            (directories if info["type"] == "directory" else others)[name] = info
        return directories, others

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether a path leads to something."""
        return self._tree.exists(self._strip_protocol(path))

    def lexists(self, path: str, **kwargs: Any) -> bool:
        """Return whether there is a path, even of a link that leads nowhere."""
        try:
            self._tree.lstat(self._strip_protocol(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def isdir(self, path: str) -> bool:
        """Return whether a path leads to a directory."""
        return self._tree.is_dir(self._strip_protocol(path))

    def isfile(self, path: str) -> bool:
        """Return whether a path leads to a regular file."""
        return self._tree.is_file(self._strip_protocol(path))

    def modified(self, path: str) -> Any:
        """Return a file's modification time."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self._tree.stat(self._strip_protocol(path)).st_mtime, UTC)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return a file's bytes, or a range of them; negative positions count from the end."""
        with self._tree.open(self._strip_protocol(path)) as file:
            first, last, _ = slice(start, end).indices(file.size)
            file.seek(first)
            return file.read(max(0, last - first))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        **kwargs: Any,
    ) -> Reader | Writer | Updater:
        path, modes = self._strip_protocol(path), parse_mode(mode)
        if not modes.writes:
            return Reader(self._tree.open(path))
        if modes.kind != "r":
            self._make_above(path)
        raw = Written(self._changing(), path, mode, autocommit=autocommit)
        return Updater(raw) if modes.reads else Writer(raw)

    def _make_above(self, path: str) -> None:
        """Make the directories that are missing above a path, if that was asked for."""
        above = path.rpartition("/")[0]
        if self._auto_mkdir and above:
            with self._changing() as branch:
                branch.makedirs(above, exist_ok=True)

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a directory in the branch."""
        with self._changing() as branch:
            make = branch.makedirs if create_parents else branch.mkdir
            make(self._strip_protocol(path))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory in the branch, and those above it that are missing."""
        with self._changing() as branch:
            branch.makedirs(self._strip_protocol(path), exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory of the branch."""
        with self._changing() as branch:
            branch.rmdir(self._strip_protocol(path))

    def _rm(self, path: str) -> None:
        path = self._strip_protocol(path)
        with self._changing() as branch:
            if branch.lstat(path).is_dir():
                branch.rmdir(path)
            else:
                branch.unlink(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with `recursive` directories; of links only the links."""
        with self._changing():
            for name in reversed(self._expand(path, recursive, maxdepth)):
                # Of the root all goes but itself.
                if name or not recursive:
                    self._rm(name)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy files to the host, and with `recursive` directories; where to is as for `copy`.

        A link to a directory that is asked for is copied as the directory; one below is not
        entered.
        """
        if not (isinstance(rpath, list) and isinstance(lpath, list)):
            lpath = make_path_posix(lpath)
            sources = self._sources(rpath, recursive, maxdepth, follow=True)
            targets = self._placed(sources, rpath, lpath, os.path.isdir)
            if not isinstance(lpath, list):
                _check_inside(lpath, targets)
            rpath, lpath = sources, targets
        super().get(rpath, lpath, callback=callback, **kwargs)

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy files, and with `recursive` directories and links as such."""
        with self._changing():
            if not (isinstance(path1, list) and isinstance(path2, list)):
                sources = self._sources(path1, recursive, maxdepth)
                path1, path2 = sources, self._targets(sources, path1, path2)
            kwargs.setdefault("follow_symlinks", not recursive)
            super().copy(path1, path2, recursive, on_error=on_error, **kwargs)

    def cp_file(self, path1: str, path2: str, follow_symlinks: bool = True, **kwargs: Any) -> None:
        """Copy a file, make a directory like one, or a link like one that is not followed."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        self._make_above(target)
        with self._changing() as branch:
            info = branch.stat(source, follow_symlinks=follow_symlinks)
            if info.is_dir():
                branch.makedirs(target, exist_ok=True)
                return
            with suppress(FileNotFoundError):
                # What is opened for writing is what a link leads to.
                there = branch.stat(target, follow_symlinks=not info.is_symlink())
                if there.st_ino == info.st_ino:
                    raise shutil.SameFileError(f"{source!r} and {target!r} are the same file")
                if info.is_symlink():
                    branch.unlink(target)
            if info.is_symlink():
                branch.symlink(branch.readlink(source), target)
                return
            with branch.open(source) as file, branch.open(target, "wb", 0) as copy:
                while piece := file.read(_PIECE):
                    copy.write(piece)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Move files and directories of the branch, each in one step and with all that is in it.

        Where to is as for `copy`. What a glob matches is moved if it is no directory, or
        `recursive` is given; `maxdepth` means nothing.
        """
        if path1 == path2:
            return
        with self._changing() as branch:
            if isinstance(path1, list) and isinstance(path2, list):
                sources, targets = self._strip_protocol(path1), self._strip_protocol(path2)
            else:
                sources = self._expand(path1)
                if self._is_glob(path1) and not recursive:
                    sources = [name for name in sources if not self._is_real_dir(name)]
                targets = self._targets(sources, path1, path2)
            for source, target in zip(sources, targets, strict=True):
                self._make_above(target)
                branch.replace(source, target)

    def _is_real_dir(self, path: str) -> bool:
        return self._tree.lstat(path).is_dir()

    def _is_glob(self, path: Any) -> bool:
        if isinstance(path, list):
            return False
        # A name that is there means itself, whatever characters are in it.
        return has_magic(self._strip_protocol(path)) and not self.lexists(path)

    def _expand(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        *,
        follow: bool = False,
    ) -> list[str]:
        """Return the names that a path, or a list, stands for.

        Links are not entered, but for those that are named, with `follow`.
        """
        names: set[str] = set()
        named = {self._strip_protocol(one) for one in (path if isinstance(path, list) else [path])}
        for one in path if isinstance(path, list) else [path]:
            if self._is_glob(one):
                names.update(self.expand_path([one], recursive, maxdepth))
                continue
            names.add(self._strip_protocol(one))
            if recursive:
                names.update(self.find(one, maxdepth, withdirs=True))
        if not recursive:
            return sorted(names)
        links = {name for name in names if self._tree.lstat(name).is_symlink()}
        if follow:
            links -= named
        return sorted(
            name for name in names if links.isdisjoint(map(str, PurePosixPath(name).parents))
        )

    def _sources(
        self, path: Any, recursive: bool, maxdepth: int | None, *, follow: bool = False
    ) -> list[str]:
        """Return the names to copy, without the directories that are not copied whole."""
        names = self._expand(path, recursive, maxdepth, follow=follow)
        if isinstance(path, list) or (recursive and maxdepth is None):
            return names
        is_dir = self._is_real_dir if recursive else self.isdir
        return [name for name in names if not is_dir(name)]

    def _targets(self, sources: list[str], path1: Any, path2: Any) -> Any:
        """Return what `sources`, found at `path1`, become at `path2` in the branch."""
        if not isinstance(path2, list):
            # A slash at the end says that it is a directory.
            end = "/" if str(path2).endswith("/") else ""
            path2 = f"/{self._strip_protocol(path2)}{end}"
        return self._strip_protocol(self._placed(sources, path1, path2, self.isdir))

    def _placed(
        self, sources: list[str], path1: Any, path2: Any, is_dir: Callable[[str], bool]
    ) -> Any:
        """Return what `sources`, found at `path1`, become at `path2`, by the rules of fsspec."""
        if isinstance(path2, list):
            return path2
        if not sources:
            return []
        flatten = isinstance(path1, list)
        if self._is_glob(path1):
            inside = len(sources) == 1
        else:
            into = path2.endswith("/") or is_dir(path2)
            inside = into and not flatten and not str(path1).endswith("/")
        # Without slashes in front the names at the root would have no directory.
        absolute = [f"/{name}" for name in sources]
        return other_paths(absolute, path2, exists=inside, flatten=flatten)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file, or empty the one that is there; without `truncate` renew its time."""
        path = self._strip_protocol(path)
        self._make_above(path)
        with self._changing() as branch:
            if truncate:
                branch.write_bytes(path, b"")
            else:
                branch.touch(path)

    def created(self, path: str) -> Any:
        """Fail: images keep no times of creation."""
        raise NotImplementedError("images keep no times of creation")


# Of this process, by their identities: those of one image are equal.
_all: WeakValueDictionary[int, DaxfsFileSystem] = WeakValueDictionary()


def _after_fork() -> None:
    # The threads that had their locks, or used their branches, are not here.
    for filesystem in list(_all.values()):
        filesystem._begin(forked=True)


os.register_at_fork(after_in_child=_after_fork)


def _check_inside(directory: str, paths: list[str]) -> None:
    """Refuse what names with dots, in an image that nobody proved, would put elsewhere."""
    top = os.path.abspath(directory)
    for path in paths:
        if os.path.commonpath([top, os.path.abspath(path)]) != top:
            raise InvalidError(errno.EINVAL, f"{path!r} is not in {directory!r}")


def _split(url: str) -> tuple[str, dict[str, Any]]:
    """Divide a URL without its scheme into path and parameters; other question marks are names'."""
    path, mark, query = url.rpartition("?")
    if not mark:
        return url, {}
    parameters: dict[str, Any] = {}
    unknown = []
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if equals and key in _PARAMETERS:
            # As text of names; a plus sign is no space here.
            parameters[key] = unquote(value, errors="surrogateescape")
        else:
            unknown.append(key)
    if unknown and "image" in parameters:
        known = ", ".join(_PARAMETERS)
        raise InvalidError(
            errno.EINVAL, f"unknown parameter {unknown[0]!r} in {url!r}: there are {known}"
        )
    if unknown or not parameters:
        return url, {}
    if "trusted" in parameters:
        parameters["trusted"] = parameters["trusted"].lower() in ("1", "true", "yes")
    return path, parameters
