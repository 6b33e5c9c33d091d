# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs module`."""

from __future__ import annotations

import os

import click

from ._common import DIRECTORY, Output, json_option

_release = click.option(
    "--release", metavar="RELEASE", help="For this kernel, named as uname -r does."
)
_headers = click.option(
    "--headers",
    metavar="DIR",
    type=DIRECTORY,
    help="The kernel's build directory, if not where it belongs.",
)


@click.group()
def command() -> None:
    """Build, install and load the kernel's module; its sources come with this package."""


@command.command()
@click.option(
    "-o", "--output", metavar="DIR", type=DIRECTORY, default=".", help="Where daxfs.ko goes."
)
@_release
@_headers
def build(output: str, release: str | None, headers: str | None) -> None:
    """Build daxfs.ko."""
    from .. import kmod

    Output().line(str(kmod.build(output, release=release, headers=headers)))


@command.command()
@_release
@_headers
def install(release: str | None, headers: str | None) -> None:
    """Build it and install it where modprobe finds it."""
    from .. import kmod

    done = f"installed for {kmod.install(release=release, headers=headers)}"
    is_running = done.endswith(f" {os.uname().release}")
    Output().line(f"{done}; daxfs module load loads it" if is_running else done)


@command.command()
def load() -> None:
    """Load the installed module."""
    from .. import kmod

    kmod.load()


@command.command()
@json_option
def status(as_json: bool) -> int:
    """Say whether it is loaded, installed, and can be built; exit status 0 if it is loaded."""
    from pathlib import Path

    from ..doctor import Report
    from ..doctor.machine import Machine
    from ..doctor.mount import check_module

    checks = tuple(check_module(Machine(Path("/"))))
    if as_json:
        print(Report(checks).to_json())
    else:
        out = Output()
        for check in checks:
            out.line(f"{check.name}: {check.summary}")
            for line in check.advice.splitlines() if check.status != "ok" else ():
                out.line(f"  {line}")
    return int(checks[0].status != "ok")
