# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs umount`."""

from __future__ import annotations

import click

from ._common import fail


@click.command()
@click.argument("mountpoints", metavar="MOUNTPOINT...", nargs=-1, required=True)
@click.option("-l", "--lazy", is_flag=True, help="Do not wait for files that are in use.")
def command(mountpoints: tuple[str, ...], lazy: bool) -> None:
    """Take mounts away."""
    from ..errors import DaxfsError
    from ..mounting import unmount

    failed = False
    for mountpoint in mountpoints:
        try:
            unmount(mountpoint, lazy=lazy)
        except DaxfsError as error:
            fail("daxfs", str(error))
            failed = True
    if failed:
        raise SystemExit(1)
