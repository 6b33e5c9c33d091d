# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs umount`."""

from __future__ import annotations

import click


@click.command()
@click.argument("mountpoints", metavar="MOUNTPOINT...", nargs=-1, required=True)
@click.option("-l", "--lazy", is_flag=True, help="Do not wait for files that are in use.")
def command(mountpoints: tuple[str, ...], lazy: bool) -> None:
    """Take mounts away."""
    from ..mounting import unmount

    for mountpoint in mountpoints:
        unmount(mountpoint, lazy=lazy)
