# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs-branch list`: branches as a tree."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ._common import Output, escape
from ._files import byte_count, count_of

if TYPE_CHECKING:
    from .._daxfs import BranchStatus
    from ..control import MountedBranch

# What is known of a branch, as JSON has it.
Row = dict[str, Any]

# What an image says of a branch and a mount, too.
_FIELDS = ("name", "id", "parent", "log_size", "size", "created_ns", "frozen", "quarantined")


def of_image(status: BranchStatus) -> Row:
    """Return what the branch table of an image says of a branch."""
    owner = status.owner
    return {
        **{field: getattr(status, field) for field in _FIELDS},
        "layers": status.layers,
        "owner": owner and {"pid": owner.pid, "alive": owner.alive},
    }


def of_mount(branch: MountedBranch) -> Row:
    """Return what a mount says of a branch."""
    pid = branch.owner_pid
    return {
        **{field: getattr(branch, field) for field in _FIELDS},
        "owner": None if pid is None else {"pid": pid, "alive": not branch.owner_dead},
        "mounted": branch.mounted,
    }


def show(rows: list[Row]) -> None:
    """Print branches, each below the one that it was made from."""
    if not rows:
        Output().line("no branches: an image without room for them; build it with `mkdaxfs -w`")
        return
    table = [("BRANCH", "CHANGES", "AGE", "STATE")]
    table += [
        (lead + escape(row["name"]), _size(row), _age(row["created_ns"]), _state(row))
        for lead, row in _in_order(rows)
    ]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    output = Output()
    for name, changes, age, state in table:
        line = f"{name:<{widths[0]}}  {changes:>{widths[1]}}  {age:>{widths[2]}}  {state}"
        output.line(line.rstrip())


def _in_order(rows: list[Row]) -> list[tuple[str, Row]]:
    """Parents before their children, each with its part of the drawing."""
    names = {row["name"] for row in rows}
    below: dict[str | None, list[Row]] = {}
    for row in rows:
        parent = row["parent"] if row["parent"] in names else None
        below.setdefault(parent, []).append(row)
    drawn: list[tuple[str, Row]] = []
    pending = [("", "", row) for row in reversed(below.get(None, []))]
    while pending:
        lead, above, row = pending.pop()
        drawn.append((lead, row))
        children = below.get(row["name"], [])
        for child in reversed(children):
            last = child is children[-1]
            lead = above + ("└── " if last else "├── ")
            pending.append((lead, above + ("    " if last else "│   "), child))
    return drawn


def _size(row: Row) -> str:
    return byte_count(row["log_size"] if row["size"] is None else row["size"])


def _age(created_ns: int | None) -> str:
    if created_ns is None:
        return "-"
    seconds = max(0, (time.time_ns() - created_ns) // 10**9)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return count_of(seconds // length, unit)
    return count_of(seconds, "second")


def _state(row: Row) -> str:
    words = []
    if row.get("mounted"):
        words.append("mounted here")
    if row["owner"] is not None:
        alive, pid = row["owner"]["alive"], row["owner"]["pid"]
        whose = "left by dead" if alive is False else "written by" if alive else "held by unknown"
        words.append(f"{whose} process {pid}")
    if row["frozen"]:
        words.append("frozen for its branches")
    if row["quarantined"]:
        words.append("taken by force: only to be committed")
    return ", ".join(words) or "-"
