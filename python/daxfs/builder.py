# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Building images."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, TypedDict

from . import _daxfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import StrOrBytesPath

    from ._daxfs import BuildResult, Progress

__all__ = ["build"]


class BuildOptions(TypedDict):
    """What the extension module is to build."""

    directory: StrOrBytesPath | None
    archive: StrOrBytesPath | None
    file: StrOrBytesPath | None
    memory: StrOrBytesPath | int | None
    heap: str | None
    branches: bool
    delta_size: int | None
    size: int | None
    label: str
    uuid: str | None
    exclude: list[str]
    uid: int | None
    gid: int | None
    latest: int | None
    data_checksums: bool
    skip_errors: bool
    force: bool


def build(
    source: StrOrBytesPath,
    output: StrOrBytesPath | int | None,
    *,
    tar: bool = False,
    branches: bool = False,
    delta_size: int | str | None = None,
    size: int | str | None = None,
    label: str = "",
    uuid: str | None = None,
    exclude: Iterable[str] = (),
    owner: int | None = None,
    group: int | None = None,
    clamp_mtime: int | None = None,
    data_checksums: bool = False,
    skip_errors: bool = False,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> BuildResult:
    """Build an image.

    The same tree gives the same bytes. Whatever stops a build, no half-made image is left.

    Parameters
    ----------
    source : str, bytes or os.PathLike
        A directory, or with `tar` an archive.
    output : str, bytes, os.PathLike, int or None
        Where the image goes: the path of a file, which appears when it is whole, or of a DAX or
        block device; a descriptor of memory; or as `str` one of ``phys:ADDRESS[+SIZE]``,
        ``fd:FD``, ``dmabuf:FD`` and ``heap:NAME``, a new buffer from a DMA heap. None is possible
        in a dry run.
    tar : bool, optional
        The source is a tar archive, compressed or not; ``"-"`` is standard input.
    branches : bool, optional
        Make room for branches: a branch table and a delta region.
    delta_size : int or str, optional
        Bytes of the delta region; text may have a suffix, as in ``"64M"``, which is the default.
    size : int or str, optional
        Bytes of the whole image; as many as are needed when left out.
    label : str, optional
        The image's name, at most 63 bytes.
    uuid : str, optional
        The image's identity; made from what is in it when left out.
    exclude : iterable of str, optional
        Shell patterns of what to leave out. One without a slash is compared with names, one with
        a slash with paths.
    owner, group : int, optional
        Numbers of the owner and group of everything.
    clamp_mtime : int, optional
        Later modification times become this one; nanoseconds since 1970.
    data_checksums : bool, optional
        Keep checksums of the contents of files, too.
    skip_errors : bool, optional
        Go on without the files that cannot be taken; the result lists them.
    force : bool, optional
        Replace an image that is there.
    dry_run : bool, optional
        Write nothing, only say what would be built.
    progress : callable, optional
        Called some times a second with a `Progress`. What it raises stops the build, as
        `KeyboardInterrupt` does.

    Returns
    -------
    BuildResult
        Counts, sizes, regions, and what was left out.

    Raises
    ------
    InputError
        Files cannot be taken; ``problems`` lists all of them.
    ExistsError
        There is a file or an image, and `force` was not given.
    NoSpaceError
        The image does not fit.
    BackingError
        The machine lacks the memory asked for.
    InvalidError
        The arguments contradict each other.
    CancelledError
        `progress` cancelled the build.
    """
    options: BuildOptions = {
        "directory": None if tar else source,
        "archive": source if tar else None,
        "file": None,
        "memory": None,
        "heap": None,
        "branches": branches,
        "delta_size": _bytes(delta_size),
        "size": _bytes(size),
        "label": label,
        "uuid": uuid,
        "exclude": list(exclude),
        "uid": owner,
        "gid": group,
        "latest": clamp_mtime,
        "data_checksums": data_checksums,
        "skip_errors": skip_errors,
        "force": force,
    }
    if isinstance(output, str) and output.startswith("heap:"):
        options["heap"] = output.removeprefix("heap:")
    elif isinstance(output, int) or (output is not None and _is_memory(output)):
        options["memory"] = output
    else:
        options["file"] = output
    return _daxfs.build(options, dry_run=dry_run, watcher=progress)


def _bytes(size: int | str | None) -> int | None:
    return _daxfs.parse_size(size) if isinstance(size, str) else size


def _is_memory(output: StrOrBytesPath) -> bool:
    """Whether the output is memory to write into, not a file to make."""
    if isinstance(output, str) and re.match(r"(phys|fd|dmabuf):", output):
        return True
    try:
        mode = os.stat(output).st_mode
    except OSError:
        # A device that is missing: opening it says what to do.
        return re.match(r"/dev/(dax|pmem)\d", os.fsdecode(output)) is not None
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
