# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Subcommands of `daxfs-branch` that change files: for scripts, where nothing is mounted."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import click

from ._branch_target import image_option, open_branch
from ._common import FILE, Attempts, Decorated, naming

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from ..branch import Branch

# Bytes copied at once.
_PIECE = 4 << 20


def _path(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse a path that is empty, as of a shell's variable that is not set."""
    if "" in ((value,) if isinstance(value, str) else value):
        raise click.BadParameter("an empty path", context, parameter)
    return value


def _branch_option(command: Decorated) -> Decorated:
    return click.option(
        "-b", "--branch", "name", required=True, metavar="NAME", help="The branch."
    )(command)


@click.command()
@click.argument("sources", metavar="SOURCE...", type=FILE, nargs=-1, required=True)
@click.argument("target", callback=_path)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Copy directories, too.")
@click.option("-a", "--archive", is_flag=True, help="As -r, with owners, times and attributes.")
@_branch_option
@image_option
def put(
    source: str, name: str, sources: tuple[str, ...], target: str, recursive: bool, archive: bool
) -> int:
    """Copy files of the host into a branch, as cp does; - is standard input.

    TARGET is the new path, or a directory to copy into. Of pipes and devices the contents are
    copied, with -r they themselves. Without -a, what is new has the permissions of what it is made
    of but set-ID bits, less the umask, and what is there keeps its own.
    """
    attempts = Attempts(host=True)
    with open_branch(source, name) as branch:
        into = branch.is_dir(target)
        # Files with several names that were copied, and as what.
        linked: dict[tuple[int, int], str] = {}
        if len(sources) > 1 and not into:
            raise click.UsageError(f"{target} is no directory, and there are several sources")
        for path in sources:
            with attempts.one():
                if path == "-":
                    with naming(target), _open_new(branch, target, 0o666 & ~_umask()) as file:
                        shutil.copyfileobj(sys.stdin.buffer, file, _PIECE)
                    continue
                base = os.path.basename(path.rstrip("/"))
                # What has no name of its own is copied as what is in it.
                place = target
                if into and base not in ("", ".", ".."):
                    place = f"{target.rstrip('/')}/{base}"
                kept = linked if archive else None
                _copy(branch, path, place, recursive or archive, kept, attempts)
    return attempts.status


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _copy(
    branch: Branch,
    source: str,
    target: str,
    recursive: bool,
    linked: dict[tuple[int, int], str] | None,
    attempts: Attempts,
) -> None:
    from ..errors import BranchBusyError, BranchStaleError, NoSpaceError, ReadOnlyBranchError

    # What keeps one file from being copied keeps no other, but for what is wrong with the branch.
    of_all = (BranchBusyError, BranchStaleError, NoSpaceError, ReadOnlyBranchError)
    archive = linked is not None
    # Links that a user names are followed, those below a directory are copied.
    info = os.lstat(source) if archive else os.stat(source)
    if stat.S_ISDIR(info.st_mode) and not recursive:
        raise IsADirectoryError(errno.EISDIR, "is a directory; -r copies it", source)
    pending = [(source, target, info)]
    # What is kept of directories is set last: filling them would change it.
    directories: list[tuple[str, str, os.stat_result]] = []
    # What is to be somebody else's is nobody's business until it is.
    allowed = 0o1700 if archive else 0o1777 & ~_umask()
    while pending:
        source, target, info = pending.pop()
        mode = info.st_mode & allowed
        with attempts.one(but=of_all):
            if stat.S_ISDIR(info.st_mode):
                _make_directory(branch, target, mode)
                directories.append((source, target, info))
                directory = _open_examined(source, info)
                try:
                    for name in sorted(os.listdir(directory), reverse=True):
                        below = os.path.join(source, name), f"{target.rstrip('/')}/{name}"
                        with attempts.one():
                            pending.append((*below, os.lstat(name, dir_fd=directory)))
                finally:
                    os.close(directory)
                continue
            file = (info.st_dev, info.st_ino)
            first = linked.get(file, target) if linked and info.st_nlink > 1 else target
            if first != target:
                _make_room(branch, target)
                branch.link(first, target, follow_symlinks=False)
                continue
            if recursive or stat.S_ISREG(info.st_mode):
                _copy_file(branch, source, target, info, mode & 0o777)
                if linked is not None:
                    if info.st_nlink > 1:
                        linked[file] = target
                    _keep(branch, source, target, info)
            else:
                _copy_contents(branch, source, source, target, mode & 0o777)
    if archive:
        for source, target, info in reversed(directories):
            with attempts.one(but=of_all):
                _keep(branch, source, target, info)


def _make_directory(branch: Branch, path: str, mode: int) -> None:
    """Make a directory, or take the one that is there; not the one that a link leads to."""
    try:
        branch.mkdir(path, mode)
    except FileExistsError:
        if not branch.lstat(path).is_dir():
            raise


def _open_new(branch: Branch, path: str, mode: int) -> IO[bytes]:
    """Open a file for new contents; if it is new itself it has these permissions."""
    with suppress(FileExistsError):
        branch.touch(path, mode, exist_ok=False)
    return branch.open(path, "wb")


def _open_examined(path: str, info: os.stat_result) -> int:
    """Open a file or directory, unless somebody has put something else in its place meanwhile."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if os.path.samestat(os.fstat(opened), info):
        return opened
    os.close(opened)
    raise OSError(errno.EBUSY, "was replaced while it was copied", path)


def _copy_contents(
    branch: Branch,
    source: str,
    opened: str | int,
    target: str,
    mode: int,
    sparse: bool = False,
) -> None:
    from ..errors import DaxfsError

    with (
        naming(target),
        open(opened, "rb", buffering=0) as file,
        _open_new(branch, target, mode) as copy,
    ):
        try:
            if sparse:
                _copy_sparse(file, copy)
            else:
                shutil.copyfileobj(file, copy, _PIECE)
        except DaxfsError:
            raise
        except OSError as error:
            # Calls that read do not know of what.
            error.filename = source
            raise


def _copy_file(branch: Branch, source: str, target: str, info: os.stat_result, mode: int) -> None:
    if stat.S_ISREG(info.st_mode):
        sparse = info.st_blocks * 512 < info.st_size
        _copy_contents(branch, source, _open_examined(source, info), target, mode, sparse=sparse)
        return
    _make_room(branch, target)
    if stat.S_ISLNK(info.st_mode):
        branch.symlink(os.readlink(source), target)
    else:
        branch.mknod(target, stat.S_IFMT(info.st_mode) | mode, info.st_rdev)


def _copy_sparse(file: FileIO, copy: IO[bytes]) -> None:
    """Copy a file without its holes."""
    for start, end in _runs_of_data(file):
        file.seek(start)
        copy.seek(start)
        while copy.tell() < end and (piece := file.read(min(_PIECE, end - copy.tell()))):
            copy.write(piece)
    copy.truncate(file.seek(0, os.SEEK_END))


def _runs_of_data(file: FileIO) -> Iterator[tuple[int, int]]:
    end = 0
    while True:
        try:
            start = file.seek(end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = file.seek(start, os.SEEK_HOLE)
        yield start, end


def _make_room(branch: Branch, path: str) -> None:
    with suppress(FileNotFoundError):
        branch.unlink(path)


def _keep(branch: Branch, source: str, target: str, info: os.stat_result) -> None:
    """Give a copy the attributes of what it was made of."""
    from ..errors import UnsupportedError

    branch.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    for name in os.listxattr(source, follow_symlinks=False):
        value = os.getxattr(source, name, follow_symlinks=False)
        # Such as other file systems list of their own; cp passes over them, too.
        with suppress(UnsupportedError):
            branch.setxattr(target, name, value, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        branch.chmod(target, info.st_mode)
    times = (info.st_atime_ns, info.st_mtime_ns)
    branch.utime(target, ns=times, follow_symlinks=False)


@click.command("rm")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, callback=_path)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Remove directories, too.")
@click.option("-f", "--force", is_flag=True, help="Say nothing of what is not there.")
@_branch_option
@image_option
def remove(source: str, name: str, paths: tuple[str, ...], recursive: bool, force: bool) -> int:
    """Remove files in a branch."""
    attempts = Attempts()
    with open_branch(source, name) as branch:
        for path in paths:
            with attempts.one():
                _remove(branch, path, recursive, force)
    return attempts.status


def _remove(branch: Branch, path: str, recursive: bool, force: bool) -> None:
    try:
        directory = branch.lstat(path).is_dir()
    except FileNotFoundError:
        if not force:
            raise
        return
    if recursive and directory:
        branch.rmtree(path)
    else:
        branch.unlink(path)


@click.command("mkdir")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, callback=_path)
@click.option("-p", "--parents", is_flag=True, help="Make what is missing, take what is there.")
@_branch_option
@image_option
def make_directory(source: str, name: str, paths: tuple[str, ...], parents: bool) -> int:
    """Make directories in a branch."""
    attempts = Attempts()
    with open_branch(source, name) as branch:
        for path in paths:
            with attempts.one():
                if parents:
                    branch.makedirs(path, exist_ok=True)
                else:
                    branch.mkdir(path)
    return attempts.status


@click.command("mv")
@click.argument("old", callback=_path)
@click.argument("new", callback=_path)
@_branch_option
@image_option
def move(source: str, name: str, old: str, new: str) -> None:
    """Move a file or directory in a branch: to a new path, or into a directory."""
    with open_branch(source, name) as branch:
        if branch.is_dir(new):
            new = f"{new.rstrip('/')}/{os.path.basename(old.rstrip('/'))}"
        branch.replace(old, new)
