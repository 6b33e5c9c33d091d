# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs mount`, and `mount.daxfs` for mount(8)."""

from __future__ import annotations

import click

from ._common import (
    DIRECTORY,
    FILE,
    Terminated,
    fail,
    is_for_reading_alone,
    naming,
    version_option,
)


@click.command()
@click.argument("source", metavar="SOURCE", type=FILE)
@click.argument("mountpoint", metavar="MOUNTPOINT", type=DIRECTORY)
@click.option(
    "-o",
    "options",
    metavar="OPTIONS",
    multiple=True,
    help="Mount options, separated by commas; a comma in a name is written \\,.",
)
@click.option("-f", "--foreground", is_flag=True, help="Serve in this process, until Ctrl-C.")
def command(source: str, mountpoint: str, options: tuple[str, ...], foreground: bool) -> None:
    """Mount an image on a directory.

    \b
    Options:
      ro, rw            read only; write (to main, if no branch is named)
      branch=NAME       show this branch, for writing unless ro is given
      parent=NAME       make the branch from this one if it is not there
      validate          prove the image first
      invalidate        drop what this processor's caches hold of the memory first
      allow_other       let other users look, too; root does unless noallow_other is given
      nocontrol         no control directory
      idmap             let containers show it with owners of their own
      actimeo=SECONDS   let the kernel go on with names and attributes while others write
      threads=N         threads that serve
      fuse, kernel      by FUSE, by the kernel's module
      context="LABEL"   a label of SELinux for all files; also fscontext, defcontext, rootcontext
      remount           change a mount that is there: ro, rw (again), nosuid and the like

    Those of mount(8), such as nosuid, nodev and noexec, do what they always do. Where neither
    fuse nor kernel is given, the module is taken for what it can serve, FUSE for writing,
    branches and everything else.
    """  # noqa: D301
    _mount(source, mountpoint, ",".join(options), foreground)


@click.command()
@click.argument("source", metavar="SOURCE", type=FILE)
@click.argument("mountpoint", metavar="MOUNTPOINT", type=DIRECTORY)
@click.option(
    "-o", "options", metavar="OPTIONS", multiple=True, help="Mount options, separated by commas."
)
@click.option("-s", "sloppy", is_flag=True, help="Accepted, without effect.")
@click.option("-v", "verbose", is_flag=True, help="Accepted, without effect.")
@click.option("-n", "no_mtab", is_flag=True, help="Accepted, without effect.")
@click.option("-f", "fake", is_flag=True, help="Do everything but mount.")
@click.option("-t", "kind", metavar="TYPE", help="Accepted, without effect.")
@version_option
def helper(
    source: str,
    mountpoint: str,
    options: tuple[str, ...],
    sloppy: bool,
    verbose: bool,
    no_mtab: bool,
    fake: bool,
    kind: str | None,
) -> None:
    """Mount an image for mount(8); `daxfs mount --help` tells the options."""
    if fake:
        return
    from .. import _daxfs
    from ..errors import BranchBusyError, UnsupportedError

    words = _daxfs.split_options(",".join(options))
    if "remount" not in words and _is_for_the_module(words):
        # mount(8) says rw where nobody said anything; these are for the module, which only reads.
        words = _reading(words)
    try:
        _mount(source, mountpoint, ",".join(words), foreground=False)
    except OSError as error:
        # mount(8) says rw where nobody said anything; what cannot be written, or not now, is
        # mounted all the same, as it does with every read-only medium.
        for_reading = is_for_reading_alone(error) or isinstance(
            error, (UnsupportedError, BranchBusyError)
        )
        for_writing = any(word.startswith("branch=") for word in words)
        if "rw" not in words or "remount" in words or for_writing or not for_reading:
            raise
        _mount(source, mountpoint, ",".join(_reading(words)), foreground=False)
        fail("mount.daxfs", f"{source}: cannot be written, mounted read-only")


def _is_for_the_module(words: list[str]) -> bool:
    from ..kmod import PLACES
    from ..mounting import driver

    return driver(words) == "kernel" or any(word.partition("=")[0] in PLACES for word in words)


def _reading(words: list[str]) -> list[str]:
    return ["ro" if word == "rw" else word for word in words]


def _mount(source: str, mountpoint: str, options: str, foreground: bool) -> None:
    from ..mounting import mount

    try:
        with naming(source):
            mount(source, mountpoint, options, foreground=foreground)
    except (KeyboardInterrupt, Terminated):
        # The server has ended by the same signal, as it should.
        if not foreground:
            raise
