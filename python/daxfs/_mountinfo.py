# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the kernel's table of mounts says, as proc(5) describes it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE = "/proc/self/mountinfo"

_LINE = re.compile(rb"(\d+) (\d+) (\d+):(\d+) \S+ (\S+) \S+ .*?- (\S+) (\S+) (\S+)$", re.MULTILINE)


class Mount(NamedTuple):
    """A mount: its number and that of the one it lies on, its device, and where what is mounted."""

    id: int
    parent: int
    device: int
    point: str
    kind: str
    source: str
    options: list[str]


def mounts() -> Iterator[Mount]:
    """Go through the mounts that can be seen; there are none where there is no table."""
    try:
        with open(_TABLE, "rb") as table:
            lines = table.read()
    except OSError:
        return
    for line in _LINE.finditer(lines):
        number, parent, major, minor = (int(field) for field in line.groups()[:4])
        point, kind, source, options = (_unescaped(field) for field in line.groups()[4:])
        device = os.makedev(major, minor)
        yield Mount(number, parent, device, point, kind, source, options.split(","))


def below(device: int) -> list[str]:
    """Return where something is mounted below the mounts of a device."""
    table = list(mounts())
    tops = {mount.id: mount.point for mount in table if mount.device == device}
    return [
        mount.point for mount in table if mount.parent in tops and mount.point != tops[mount.parent]
    ]


def _unescaped(field: bytes) -> str:
    # Spaces and the like are three octal digits in the table.
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), field))
