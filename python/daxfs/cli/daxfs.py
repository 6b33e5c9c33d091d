# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs`, a group of subcommands that are imported when they run; and `fsck.daxfs`."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import click

from ._common import run, version_option

_COMMANDS = (
    "cat",
    "compact",
    "diff",
    "doctor",
    "extract",
    "fmap",
    "fsck",
    "inspect",
    "ls",
    "module",
    "mount",
    "stat",
    "tree",
    "umount",
)


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__package__}.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup)
@version_option
def command() -> None:
    r"""Look into daxfs images, and mount them.

    IMAGE is a file, a DAX or block device, phys:ADDRESS[+SIZE], fd:N or dmabuf:N. Paths are taken
    from the root of the image. In JSON, bytes of a name that are not UTF-8 are written as
    \udc80 to \udcff.

    The exit status is 0 if all went well, 1 if something failed, 2 for wrong usage, 130 after
    Ctrl-C; of diff and fsck, what their help says.
    """


# As in fsck(8), where 1 says that errors were put right.
_FSCK = {"failed_status": 8, "usage_status": 16, "cancelled_status": 32}


def main() -> NoReturn:
    """Run `daxfs`."""
    run(command, **(_FSCK if sys.argv[1:2] == ["fsck"] else {}))


def fsck_main() -> NoReturn:
    """Run `fsck.daxfs`, whose exit status is that of every fsck."""
    from .fsck import command

    run(command, **_FSCK)


def mount_main() -> NoReturn:
    """Run `mount.daxfs`, which mount(8) runs for `mount -t daxfs`, and whose status it returns."""
    from .mount import helper

    run(helper, failed_status=32, usage_status=1, cancelled_status=8)
