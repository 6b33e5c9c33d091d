# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`mount.daxfs`, which mount(8) runs for ``mount -t daxfs``."""

from __future__ import annotations

from typing import NoReturn

import click

from ._common import run, version_option


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="Options, comma-separated.")
@click.option("-f", "fake", is_flag=True, help="Only look at the arguments.")
@click.option("-s", "sloppy", is_flag=True, help="Leave out options that are not known.")
@click.option("-n", "-v", "unused", is_flag=True, help="Taken, as mount(8) may pass it.")
@click.option("-t", "kind", metavar="TYPE", hidden=True)
@version_option
def command(
    source: str,
    target: str,
    options: tuple[str, ...],
    fake: bool,
    sloppy: bool,
    unused: bool,
    kind: str | None,
) -> None:
    """Mount the image that lies in SOURCE on the directory TARGET.

    SOURCE is a DAX or block device, phys:ADDRESS[+SIZE], dmabuf:FD, or none with the option
    phys=, dax= or dmabuf=.
    """
    from .. import kmod

    words = [word for option in options for word in option.split(",") if word]
    if sloppy:
        words = [word for word in words if word.partition("=")[0] in kmod.OPTIONS]
    if not fake:
        kmod.mount(source, target, words)


def main() -> NoReturn:
    """Run `mount.daxfs`, whose exit status is that of every mount helper."""
    run(command, usage_status=1, cancelled_status=8)
