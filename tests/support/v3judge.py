# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Say which changes to an image the independent readers of plain v3 refuse.

Usage: `python3 -m support.v3judge IMAGE [branches] < CHANGES`. Each line of the input is one
change, made on its own: stores, each `OFFSET:HEX`, apart by spaces. The first line of the output
counts the changes judged; then one line tells of each after which the base tree, or if so asked
that of an active branch, is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .v3delta import BRANCHES, branch_manifest, live_branches
from .v3reader import V3Error, V3Image, unsatisfied


def complaint_about(image: memoryview, with_branches: bool) -> str | None:
    """Return what is wrong with an image, or None."""
    if not with_branches:
        return unsatisfied(image)
    try:
        reader = V3Image(image, known=BRANCHES)
        for branch in live_branches(reader):
            branch_manifest(image, branch.name.decode())
    except V3Error as error:
        return str(error)
    return reader.unsatisfied()


def judge(image: bytearray, with_branches: bool, change: str) -> str | None:
    """Return what is wrong with the image after a change, or None; the change is taken back."""
    undo: list[tuple[int, bytes]] = []
    for store in change.split():
        offset_text, _, data = store.partition(":")
        offset, new = int(offset_text), bytes.fromhex(data)
        undo.append((offset, bytes(image[offset : offset + len(new)])))
        image[offset : offset + len(new)] = new
    complaint = complaint_about(memoryview(image), with_branches)
    for offset, old in reversed(undo):
        image[offset : offset + len(old)] = old
    return complaint


def main() -> None:
    """Judge the changes on standard input."""
    image = bytearray(Path(sys.argv[1]).read_bytes())
    changes = sys.stdin.read().splitlines()
    with_branches = sys.argv[2:] == ["branches"]
    complaints = [(change, judge(image, with_branches, change)) for change in changes]
    print(len(changes))
    for change, complaint in complaints:
        if complaint is not None:
            print(f"{change.strip()}: {complaint}")


if __name__ == "__main__":
    main()
