# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Building images."""

from __future__ import annotations

import errno
import operator
import os
import stat
from typing import TYPE_CHECKING, TypedDict

from . import _daxfs
from ._replace import expect_free, expect_nothing_lost, expect_unused, is_memory, is_same, shown
from .errors import InvalidError, from_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from _typeshed import StrOrBytesPath

    from ._daxfs import BuildResult, Progress

__all__ = ["build", "compact"]

_LABEL_MAX = 63


class BuildOptions(TypedDict):
    """What the extension module is to build."""

    directory: StrOrBytesPath | None
    archive: StrOrBytesPath | None
    tree: _daxfs.Tree | None
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
    uuid: str | UUID | None = None,
    exclude: StrOrBytesPath | Iterable[StrOrBytesPath] = (),
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
        The image's name, at most 63 bytes, none of them NUL.
    uuid : str or uuid.UUID, optional
        The image's identity; made from what is in it when left out.
    exclude : str, bytes or os.PathLike, or iterable of them, optional
        A shell pattern of what to leave out, or several, in UTF-8. One without a slash is compared
        with names, one with a slash with paths; one that ends in a slash is for directories only.
    owner, group : int, optional
        Numbers of the owner and group of everything.
    clamp_mtime : int, optional
        Later modification times become this one; nanoseconds since 1970.
    data_checksums : bool, optional
        Keep checksums of the contents of files, too.
    skip_errors : bool, optional
        Go on without the files that cannot be taken; the result lists them.
    force : bool, optional
        Replace what is there, but no image that is in use.
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
        There is a file, an image, or on a device something else, and `force` was not given.
    NoSpaceError
        The image does not fit.
    BackingError
        The machine lacks the memory asked for.
    BranchBusyError
        A process has the image that would be replaced open for writing, or it is in memory and
        mounted.
    InvalidError
        The arguments contradict each other, or one has a value that it cannot have.
    CancelledError
        `progress` cancelled the build.
    """
    options: BuildOptions = {
        "directory": None if tar else source,
        "archive": source if tar else None,
        "tree": None,
        "file": None,
        "memory": None,
        "heap": None,
        "branches": branches,
        "delta_size": _bytes("delta_size", delta_size),
        "size": _bytes("size", size),
        "label": as_label(label),
        "uuid": as_uuid(uuid),
        "exclude": as_patterns(exclude),
        "uid": _number("owner", owner, _IDS),
        "gid": _number("group", group, _IDS),
        "latest": as_time(clamp_mtime),
        "data_checksums": data_checksums,
        "skip_errors": skip_errors,
        "force": force,
    }
    _place(options, output)
    if not dry_run:
        if tar and options["memory"] is not None and is_same(source, options["memory"]):
            raise _invalid(f"{shown(options['memory'])}: is the archive itself")
        _expect_replaceable(options)
    return _build(options, progress, dry_run=dry_run)


def compact(
    source: StrOrBytesPath | int,
    output: StrOrBytesPath | int | None = None,
    *,
    branch: str = "main",
    branches: bool | None = None,
    delta_size: int | str | None = None,
    trusted: bool = False,
    force: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> BuildResult:
    """Make what a branch shows the base of a new image, so that nothing is left of its history.

    Everything is kept: contents, permissions, owners, times, links, devices, extended attributes,
    and the label. The image should not be in use meanwhile: what is written to it then is lost.

    Parameters
    ----------
    source : str, bytes, os.PathLike or int
        Where the image lies, as for `daxfs.open`.
    output : str, bytes, os.PathLike or int, optional
        Where the new one goes, as for `build`. When left out, or the same, it takes the place of
        the old one, which must be a file, once it is whole; it keeps its identity, too.
    branch : str, optional
        Whose tree to take.
    branches : bool, optional
        Whether the new image has room for branches; when left out, if the old one has.
    delta_size : int or str, optional
        Bytes of that room; as large as it was, when left out.
    trusted : bool, optional
        Do not prove the image first.
    force : bool, optional
        Replace an image at `output`; in place, go on although other branches would be lost.
    progress : callable, optional
        As for `build`.

    Returns
    -------
    BuildResult

    Raises
    ------
    BranchBusyError
        In place: there are branches that would be lost. Or somebody has the image that would be
        replaced open for writing, or mounted.
    InvalidError
        In place: the image is no file, or `output` is the memory that it lies in, as a loop
        device of it is.
    ExistsError
        There is something at `output`, and `force` was not given.
    NoBranchError, NoSpaceError, UnsoundImageError
        As for `daxfs.open` and `build`.
    """
    from .image import open as open_image

    with open_image(source, branch=branch, trusted=trusted) as image:
        if "data-checksums" in image.features and not trusted:
            _expect_sound_contents(source, progress)
        room = [span.size for span in image.spans if span.name == "delta region"]
        if branches is None:
            branches = bool(room) or delta_size is not None
        # That of a plain image has another layout, and says nothing of the room that ours needs.
        if delta_size is None and branches and "branches" in image.features:
            delta_size = room[0]
        options: BuildOptions = {
            "directory": None,
            "archive": None,
            "tree": image,
            "file": None,
            "memory": None,
            "heap": None,
            "branches": branches,
            "delta_size": _bytes("delta_size", delta_size),
            "size": None,
            "label": image.label,
            "uuid": None,
            "exclude": [],
            "uid": None,
            "gid": None,
            "latest": None,
            "data_checksums": "data-checksums" in image.features,
            "skip_errors": False,
            "force": force,
        }
        if output is None or is_same(source, output):
            path = _file_of(source)
            if output is not None:
                _file_of(output)
            if not force:
                expect_nothing_lost(path, image, branch)
            options["file"], options["uuid"], options["force"] = path, image.uuid, True
        else:
            _place(options, output)
        _expect_replaceable(options)
        return _build(options, progress)


def _expect_sound_contents(
    source: StrOrBytesPath | int, progress: Callable[[Progress], object] | None
) -> None:
    """Make sure that nothing wrong gets a checksum that says it is right."""
    report = _daxfs.validate(source, data=True, progress=progress)
    for finding in report.findings:
        if finding.severity == "error":
            details = {"count": report.errors, "first": str(finding)}
            message = f"image is not sound: {finding}; `fsck.daxfs --data` lists what is wrong"
            raise from_engine("Unsound", errno.EUCLEAN, message, None, details)


def _file_of(source: StrOrBytesPath | int) -> StrOrBytesPath:
    """Return the path of an image that another can take the place of."""
    if not isinstance(source, int) and not is_memory(source):
        # The file itself, not a link to it.
        path = os.path.realpath(source)
        if stat.S_ISREG(os.stat(path).st_mode):
            return path
    raise _invalid(
        f"{shown(source)}: only an image in a file can be compacted in place, since the old one "
        "must stay until the new one is whole; give another place for the new one"
    )


def _expect_replaceable(options: BuildOptions) -> None:
    if options["memory"] is not None:
        expect_free(options["memory"], force=options["force"])
    elif options["file"] is not None and options["force"]:
        expect_unused(options["file"])


def _place(options: BuildOptions, output: StrOrBytesPath | int | None) -> None:
    """Say where an image goes."""
    if isinstance(output, str) and output.startswith("heap:"):
        options["heap"] = output.removeprefix("heap:")
    elif isinstance(output, int) or (output is not None and is_memory(output)):
        options["memory"] = output
    else:
        options["file"] = output


def _build(
    options: BuildOptions, watcher: Callable[[Progress], object] | None, *, dry_run: bool = False
) -> BuildResult:
    try:
        return _daxfs.build(options, dry_run=dry_run, watcher=watcher)
    except TypeError as error:
        # Of an option that cannot be taken it says the name only, and its cause the reason.
        if error.__cause__ is None or "extract field" not in str(error):
            raise
        raise error.__cause__ from None


def as_label(label: str) -> str:
    """Return what can be an image's label."""
    if not isinstance(label, str):
        raise TypeError(f"label must be str, not {type(label).__name__}")
    length = len(label.encode("utf-8", "surrogateescape"))
    if length > _LABEL_MAX:
        raise _invalid(f"label of {length} bytes, at most {_LABEL_MAX} are possible")
    if "\0" in label:
        raise _invalid("a label has no NUL in it")
    return label


def as_uuid(uuid: str | UUID | None) -> str | None:
    """Return an identity as text."""
    if uuid is None:
        return None
    from uuid import UUID

    if not isinstance(uuid, str | UUID):
        raise TypeError(f"uuid must be str or uuid.UUID, not {type(uuid).__name__}")
    try:
        return str(UUID(str(uuid)))
    except ValueError:
        raise _invalid(f"{uuid!r} is not a UUID") from None


def as_patterns(exclude: StrOrBytesPath | Iterable[StrOrBytesPath]) -> list[str]:
    """Return the patterns of what to leave out; text is one of them, not letters."""
    if isinstance(exclude, str | bytes | os.PathLike):
        exclude = (exclude,)
    patterns = [os.fspath(pattern) for pattern in exclude]
    return [_as_text(pattern) for pattern in patterns]


def _as_text(pattern: str | bytes) -> str:
    # Where the locale is not UTF-8, text from a command line may be in escaped bytes.
    raw = pattern if isinstance(pattern, bytes) else pattern.encode(errors="surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _invalid(f"pattern {raw!r} is not UTF-8") from None


def as_time(clamp_mtime: int | None) -> int | None:
    """Return what can be a time of modification, in nanoseconds."""
    return _number("clamp_mtime", clamp_mtime, range(-(1 << 63), 1 << 63))


# The largest number means "leave it" to the kernel.
_IDS = range((1 << 32) - 1)


def _number(name: str, value: int | None, possible: range) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be int, not {type(value).__name__}") from None
    if number not in possible:
        raise _invalid(f"{name}: {number} is not from {possible[0]} to {possible[-1]}")
    return number


def _bytes(name: str, size: int | str | None) -> int | None:
    number = _daxfs.parse_size(size) if isinstance(size, str) else size
    return _number(name, number, range(1 << 64))


def _invalid(message: str) -> InvalidError:
    return InvalidError(errno.EINVAL, message)
