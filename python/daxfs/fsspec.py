# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The fsspec filesystem ``daxfs``, by which pandas, pyarrow, dask and others read from images.

Either the image is a link of a chain, ``daxfs://path/in/image::/where/it/lies.daxfs``, or a
parameter of the URL, ``daxfs:///path/in/image?image=/where/it/lies.daxfs``.
"""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import parse_qsl

import fsspec

from . import image as _image
from .errors import InvalidError
from .file import ImageFile

__all__ = ["DaxfsFileSystem"]

_SCHEME = "daxfs://"
_PARAMETERS = ("branch", "image", "trusted")
# Readers of lines and columns ask for little at a time.
_BUFFER_SIZE = 128 << 10


class DaxfsFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The files of an image, for reading.

    Parameters
    ----------
    image : str, os.PathLike or int, optional
        Where the image lies, as for `daxfs.open`.
    branch : str, optional
        The branch to look at; ``main`` when left out.
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
                22, "no image: chain one, daxfs://PATH::IMAGE, or say daxfs:///PATH?image=IMAGE"
            )
        if target_protocol not in (None, "file", "local"):
            raise InvalidError(
                22, f"an image must be local to be mapped, not behind {target_protocol!r}: copy it"
            )
        self.image = _image.open(source, branch=branch, trusted=trusted)

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
        info = self.image.lstat(path)
        about: dict[str, Any] = {"name": path, "islink": info.is_symlink()}
        if info.is_symlink():
            about["destination"] = self.image.readlink(path)
            if self.image.is_file(path):
                info = self.image.stat(path)
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
        if self.image.is_dir(path):
            names = [f"{path}/{name}".lstrip("/") for name in self.image.listdir(path)]
        else:
            self.image.lstat(path)
            names = [path]
        return [self.info(name) for name in names] if detail else names

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether a path leads to something."""
        return self.image.exists(self._strip_protocol(path))

    def isdir(self, path: str) -> bool:
        """Return whether a path leads to a directory."""
        return self.image.is_dir(self._strip_protocol(path))

    def isfile(self, path: str) -> bool:
        """Return whether a path leads to a regular file."""
        return self.image.is_file(self._strip_protocol(path))

    def modified(self, path: str) -> Any:
        """Return a file's modification time."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.image.stat(self._strip_protocol(path)).st_mtime, UTC)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return a file's bytes, or a range of them; negative positions count from the end."""
        with self.image.open(self._strip_protocol(path)) as file:
            first, last, _ = slice(start, end).indices(file.size)
            file.seek(first)
            return file.read(max(0, last - first))

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any
    ) -> io.BufferedReader[ImageFile]:
        if mode != "rb":
            raise io.UnsupportedOperation("images are read-only")
        return io.BufferedReader(self.image.open(self._strip_protocol(path)), _BUFFER_SIZE)

    def created(self, path: str) -> Any:
        """Fail: images keep no times of creation."""
        raise NotImplementedError("images keep no times of creation")


def _split(url: str) -> tuple[str, dict[str, Any]]:
    """Divide a URL without its scheme into path and parameters; other question marks are names'."""
    path, mark, query = url.rpartition("?")
    parameters: dict[str, Any] = dict(parse_qsl(query)) if mark else {}
    if not parameters or any(key not in _PARAMETERS for key in parameters):
        return url, {}
    if "trusted" in parameters:
        parameters["trusted"] = parameters["trusted"].lower() in ("1", "true", "yes")
    return path, parameters
