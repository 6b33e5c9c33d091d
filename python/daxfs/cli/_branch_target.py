# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the subcommands of `daxfs-branch` work on."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from ..errors import InvalidError
from ._common import DIRECTORY, FILE, ended_by_signals, is_for_reading_alone, naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..branch import Branch
    from ..image import Image

Decorated = TypeVar("Decorated", bound="Callable[..., object]")


def image_option(command: Decorated) -> Decorated:
    """Add `-i`, for what programs do on a mount themselves."""
    return click.option(
        "-i", "--image", "source", required=True, metavar="IMAGE", type=FILE, help="The image."
    )(command)


def image_or_mount(command: Decorated) -> Decorated:
    """Add `-i` and `-m`, of which one is needed."""

    def choose(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
        mount = context.params.get("mount")
        if (value is None) == (mount is None) and not context.resilient_parsing:
            raise click.UsageError("say where, once: -i IMAGE or -m DIRECTORY", context)
        return value

    for decorate in (
        click.option(
            "-i",
            "--image",
            "source",
            metavar="IMAGE",
            type=FILE,
            callback=choose,
            help="The image.",
        ),
        click.option(
            "-m",
            "--mount",
            metavar="DIRECTORY",
            type=DIRECTORY,
            is_eager=True,
            help="Where it is mounted.",
        ),
    ):
        command = decorate(command)
    return command


def branch_argument(command: Decorated) -> Decorated:
    """Add a branch's name, as an argument or with `-b`; a mount has one that it shows."""

    def choose(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
        option = context.params.pop("_branch", None)
        if value is not None and option is not None:
            raise click.UsageError("give a branch once: NAME or -b NAME", context)
        name = value if value is not None else option
        shown = context.params.get("mount") is not None
        if name is None and not shown and not context.resilient_parsing:
            raise click.UsageError("say which branch: NAME or -b NAME", context)
        return name

    for decorate in (
        click.argument("name", metavar="[NAME]", required=False, callback=choose),
        click.option("-b", "--branch", "_branch", metavar="NAME", is_eager=True, help="As NAME."),
    ):
        command = decorate(command)
    return command


class Place(NamedTuple):
    """Where an image lies, and which of its branches is meant if none is named.

    Of an image that is mounted `uuid` is its identity: another may have its name by now.
    """

    source: str
    shown: str | None = None
    uuid: str | None = None


@contextmanager
def reached(mount: str | None) -> Iterator[str]:
    """Give a mount point for what is asked of its server, once that has answered at all."""
    from ..mounting import expect_answer

    point = mount or ""
    expect_answer(point)
    with ended_by_signals():
        yield point


def place_of(source: str | None, mount: str | None) -> Place:
    """Find the image that is mounted, for what is asked of it directly."""
    if source is not None:
        return Place(source)
    from .. import control

    with reached(mount) as point:
        shown = next((branch for branch in control.branches(point) if branch.mounted), None)
        server = control.info(point)
        if shown is not None and shown.owner_pid == server.server_pid:
            # What was changed through mappings is written out first, if the user may ask for that.
            # Where the mount does not write, to ask would let it.
            with suppress(PermissionError):
                control.switch(point, shown.name)
        # On a disk, changes wait to be published; an image that is opened apart shows them then.
        root = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(root)
        finally:
            os.close(root)
        name = None if shown is None else shown.name
        return Place(_source_of(os.path.realpath(point)), name, server.uuid)


def _source_of(mountpoint: str) -> str:
    """Return what is mounted on a directory, from the kernel's table of mounts."""
    source = ""
    with open("/proc/self/mounts", "rb") as table:
        for line in table:
            what, where = (_unescape(field) for field in line.split(b" ")[:2])
            if where == os.fsencode(mountpoint):
                source = os.fsdecode(what)
    if not os.path.isabs(source):
        message = "what is mounted here has no name; say -i IMAGE"
        raise FileNotFoundError(errno.ENOENT, message, mountpoint)
    return source


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field)


@contextmanager
def open_for_change(source: str, uuid: str | None = None) -> Iterator[Image]:
    """Open an image to work on its branches."""
    from ..image import open

    with naming(source):
        image = open(source, writable=True, trusted=True)
    with image:
        _check(image, source, uuid)
        yield image


@contextmanager
def open_to_look(source: str, uuid: str | None = None) -> Iterator[Image]:
    """Open an image to look at its branches: for writing if that is possible, as it tells more."""
    from ..errors import UnsupportedError
    from ..image import open

    with naming(source):
        try:
            image = open(source, writable=True, trusted=True)
        except OSError as error:
            if not (is_for_reading_alone(error) or isinstance(error, UnsupportedError)):
                raise
            image = open(source, trusted=True)
    with image:
        _check(image, source, uuid)
        yield image


def _check(image: Image, source: str, uuid: str | None) -> None:
    if uuid not in (None, image.uuid):
        message = f"{source}: another image lies there now than the one that is mounted"
        raise InvalidError(errno.EINVAL, message)


@contextmanager
def open_branch(source: str, name: str) -> Iterator[Branch]:
    """Open a branch to change it; it stays as it is then, for whoever goes on."""
    with open_for_change(source) as image, image.branch(name, create=False, keep=True) as branch:
        yield branch
