# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel's module: mounting with it, and building it from the sources in this package."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import _daxfs
from .errors import DaxfsError, InvalidError, from_engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "OPTIONS",
    "PLACES",
    "beyond_it",
    "build",
    "can_serve",
    "for_fuse",
    "install",
    "is_available",
    "leaves_it_to_fuse",
    "load",
    "mount",
    "settings_of",
]

Settings = list[tuple[str, str | None]]
"""What the file system is told: keys, with values or without."""

OPTIONS = frozenset(("dax", "dmabuf", "phys", "size", "validate"))
"""What the file system itself understands."""
PLACES = frozenset(("dax", "dmabuf", "phys"))
"""Those that say where the image lies."""

_BLOCK_DEVICES = Path("/sys/dev/block")
# The kernel's words for memory that FUSE reads all the same.
_ELSEWISE = re.compile(r"can be addressed|does not tell where its memory is|in several pieces")


def is_available() -> bool:
    """Tell whether the running kernel has the file system, or can load it.

    Returns
    -------
    bool
        True if it is registered, or a module of this name lies where modprobe looks.
    """
    if _is_loaded():
        return True
    if shutil.which("modprobe") is None:
        return False
    found = subprocess.run(
        ["modprobe", "--quiet", "--dry-run", "daxfs"], capture_output=True, check=False
    )
    return found.returncode == 0


def _is_loaded() -> bool:
    try:
        text = Path("/proc/filesystems").read_text()
    except OSError:
        return False
    return any(line.split()[-1:] == ["daxfs"] for line in text.splitlines())


def settings_of(source: str, options: Iterable[str] = ()) -> Settings | None:
    """Return what the kernel is to be told of a source.

    Parameters
    ----------
    source : str
        A DAX or block device, ``phys:ADDRESS[+SIZE]``, ``dmabuf:FD``, or ``none`` if the options
        say where the image lies.
    options : iterable of str, optional
        As given to mount with ``-o``: words, and ``key=value``.

    Returns
    -------
    list of tuple or None
        None if the kernel cannot mount such a source: ordinary files are for FUSE.
    """
    settings: Settings = []
    for option in options:
        key, equals, value = option.partition("=")
        if not _daxfs.is_passed_over(option):
            settings.append((key, value if equals else None))
    if any(key in PLACES for key, _ in settings):
        return [("source", source or "none"), *settings]
    if source.startswith("phys:"):
        address, plus, size = source.removeprefix("phys:").partition("+")
        where: Settings = [("phys", hex(_daxfs.parse_size(address)))]
        if plus:
            where.append(("size", str(_daxfs.parse_size(size))))
        return [("source", source), *where, *settings]
    if source.startswith("dmabuf:"):
        return [("source", source), ("dmabuf", source.removeprefix("dmabuf:")), *settings]
    try:
        found = os.stat(source)
    except OSError:
        # A device in another mode has no node; the kernel says so.
        is_device = re.match(r"/dev/(dax|pmem)\d", source) is not None
    else:
        is_device = stat.S_ISCHR(found.st_mode) or (
            stat.S_ISBLK(found.st_mode) and _has_memory(found.st_rdev)
        )
    return [("source", source), *settings] if is_device else None


def _has_memory(device: int) -> bool:
    """Tell whether a block device is memory that can be addressed."""
    node = (_BLOCK_DEVICES / f"{os.major(device)}:{os.minor(device)}").resolve()
    if (node / "partition").exists():
        node = node.parent
    try:
        return (node / "queue" / "dax").read_text().strip() == "1"
    except OSError:
        return False


def for_fuse(source: str, options: Iterable[str]) -> tuple[str, list[str]]:
    """Return what FUSE is to be told where options say where the image lies.

    Parameters
    ----------
    source : str
        As for `settings_of`.
    options : iterable of str
        As for `settings_of`.

    Returns
    -------
    tuple
        The source and the options, those of `PLACES` taken into the source.
    """
    places: dict[str, str] = {}
    rest: list[str] = []
    for option in options:
        key, _, value = option.partition("=")
        if value and (key in PLACES or key == "size"):
            places[key] = value
        else:
            rest.append(option)
    if set(places) == {"dax"}:
        return places["dax"], rest
    if set(places) == {"dmabuf"}:
        return f"dmabuf:{places['dmabuf']}", rest
    if set(places) == {"phys"}:
        return f"phys:{places['phys']}", rest
    if set(places) == {"phys", "size"}:
        return f"phys:{places['phys']}+{places['size']}", rest
    return source, list(options)


def beyond_it(options: Iterable[str]) -> str | None:
    """Return the option that asks for what the module does not do, as it shows main, read-only.

    Parameters
    ----------
    options : iterable of str
        As for `settings_of`.

    Returns
    -------
    str or None
        Such as ``rw``, or None if there is none.
    """
    access = None
    for option in options:
        if option in ("ro", "rw"):
            access = option
        elif option.partition("=")[0] in ("branch", "parent"):
            return option
    return "rw" if access == "rw" else None


def leaves_it_to_fuse(error: OSError) -> bool:
    """Tell whether FUSE may mount what the kernel refused.

    Parameters
    ----------
    error : OSError
        Of `mount`.

    Returns
    -------
    bool
        True for images that have changed, users who may not mount, memory that cannot be
        addressed, and a module that could not be loaded.
    """
    if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
        return True
    if error.errno == errno.ENODEV:
        return not _is_loaded()
    return error.errno == errno.EINVAL and _ELSEWISE.search(str(error)) is not None


def can_serve(source: str, options: Iterable[str] = ()) -> bool:
    """Tell whether the kernel's module is there and takes such a source with such options.

    Parameters
    ----------
    source : str
        As for `settings_of`.
    options : iterable of str, optional
        As for `settings_of`.
    """
    options = list(options)
    settings = settings_of(source, options)
    if settings is None or beyond_it(options) is not None:
        return False
    known = OPTIONS | {"source"}
    if not all(key in known or _daxfs.is_general_option(key) for key, _ in settings):
        return False
    return is_available()


def mount(source: str, target: str | os.PathLike[str], options: Iterable[str] = ()) -> None:
    """Mount an image with the kernel's module, read-only.

    Parameters
    ----------
    source : str
        As for `settings_of`.
    target : str or os.PathLike
        The directory to mount on.
    options : iterable of str, optional
        As for `settings_of`.

    Raises
    ------
    InvalidError
        The kernel cannot mount such a source, or not so.
    BackingError
        The kernel refused; the message is its own.
    """
    options = list(options)
    beyond = beyond_it(options)
    if beyond is not None:
        message = f"{beyond}: the kernel's module reads main only; without kernel, FUSE does it"
        raise InvalidError(errno.EINVAL, message)
    settings = settings_of(source, options)
    if settings is None:
        message = "the kernel mounts devices that are memory, phys: and dmabuf: only"
        raise InvalidError(errno.EINVAL, f"{source}: {message}")
    if not _is_loaded():
        _modprobe()
    _daxfs.mount_kernel(target, settings)


def _modprobe() -> None:
    # What it says is of no use to those who never installed the module; the mount says it better.
    if shutil.which("modprobe") is not None:
        subprocess.run(["modprobe", "--quiet", "daxfs"], capture_output=True, check=False)


def load() -> None:
    """Load the installed module.

    Raises
    ------
    BackingError
        It is not installed, or the kernel refused it.
    """
    _run(["modprobe", "daxfs"], "`daxfs module install` builds and installs it")


def build(
    target: str | os.PathLike[str], *, release: str | None = None, headers: str | None = None
) -> Path:
    """Build the module from the sources in this package.

    Parameters
    ----------
    target : str or os.PathLike
        The directory that ``daxfs.ko`` goes to.
    release : str, optional
        The kernel to build for, as ``uname -r`` prints it; if left out, that of `headers`, or the
        running one.
    headers : str, optional
        The kernel's build directory; that of `release` if left out.

    Returns
    -------
    pathlib.Path
        The module.

    Raises
    ------
    BackingError
        Compiler, make or the kernel's headers are missing, or it does not build.
    FileNotFoundError, NotADirectoryError
        `target` is no directory.
    """
    # Nobody shall hear of it after a build. A slash behind asks for a directory.
    os.stat(os.path.join(target, ""))
    with _built(release, headers) as (directory, _, _):
        module = Path(target) / "daxfs.ko"
        shutil.copy(directory / "daxfs.ko", module)
    return module


def install(*, release: str | None = None, headers: str | None = None) -> str:
    """Build the module and install it where modprobe finds it.

    Parameters
    ----------
    release, headers : str, optional
        As for `build`.

    Returns
    -------
    str
        The kernel it is for, as ``uname -r`` prints it.

    Raises
    ------
    BackingError
        As for `build`, or the modules' directory cannot be written.
    """
    with _built(release, headers) as (directory, variables, release):
        _run(["make", "-s", "-C", str(directory), *variables, "install"], "run it as root")
    return release


@contextmanager
def _built(release: str | None, headers: str | None) -> Iterator[tuple[Path, list[str], str]]:
    """Build the module; give its directory, what make is told of the kernel, and its release."""
    if headers is not None:
        headers = os.path.abspath(headers)
        release = _release_of(headers, release)
    release = release or os.uname().release
    headers = headers or f"/lib/modules/{release}/build"
    if not Path(headers, "Makefile").exists():
        raise _lacks(
            f"{headers}: no headers of this kernel",
            f"install them, on Debian with apt install linux-headers-{release}",
        )
    for place, advice in (
        (tempfile.gettempdir(), "set TMPDIR to another one"),
        (headers, "give another path to it"),
    ):
        if re.search(r"[\s:%]", place):
            what = f"{place}: kernels do not build in directories whose names have blanks, : or %"
            raise _lacks(what, advice, errno.EINVAL)
    if shutil.which("make") is None or shutil.which("gcc") is None:
        raise _lacks("make or gcc is missing", "install them, on Debian with apt install gcc make")
    with tempfile.TemporaryDirectory(prefix="daxfs-") as scratch:
        for name, text in _daxfs.module_sources():
            Path(scratch, name).write_text(text)
        variables = [f"KVER={release}", f"KDIR={headers}"]
        _run(["make", "-s", "-C", scratch, *variables], "the messages above say why")
        yield Path(scratch), variables, release


def _release_of(headers: str, wanted: str | None) -> str | None:
    """Return the kernel that a build directory is of, as far as it says so."""
    # Not include/config/kernel.release: Debian's 6.1 has a name there that uname does not print.
    try:
        text = Path(headers, "include/generated/utsrelease.h").read_text()
    except OSError:
        return wanted
    said = re.search(r'UTS_RELEASE "(.+)"', text)
    if said is None:
        return wanted
    found = said[1]
    if wanted not in (None, found):
        what = f"{headers}: the headers of {found}, not of {wanted}"
        raise _lacks(what, f"give --release {found}, or other headers", errno.EINVAL)
    return found


def _lacks(what: str, advice: str, number: int = errno.ENOENT) -> DaxfsError:
    return from_engine("Backing", number, f"{what}; {advice}", None, {"advice": advice})


def _run(command: list[str], advice: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _lacks(f"{command[0]} is missing", "install it") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise _lacks(said or " ".join(command), advice, errno.EIO)
