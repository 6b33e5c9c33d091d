# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs umount`."""

from __future__ import annotations

import click

from ._common import DIRECTORY, Attempts


@click.command()
@click.argument("mountpoints", metavar="MOUNTPOINT...", nargs=-1, required=True, type=DIRECTORY)
@click.option(
    "-l",
    "--lazy",
    is_flag=True,
    help="Also while it is in use: its name now, the rest after its last user.",
)
def command(mountpoints: tuple[str, ...], lazy: bool) -> int:
    """Take mounts away."""
    from ..mounting import unmount

    attempts = Attempts()
    for mountpoint in mountpoints:
        with attempts.one():
            unmount(mountpoint, lazy=lazy)
    return attempts.status
