# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Say which changes to an image the independent reader of plain v3 refuses.

Usage: v3judge.py IMAGE < CHANGES. Each line of the input is one change, made on its own: stores,
each `OFFSET:HEX`, apart by spaces. The first line of the output counts the changes judged; then
one line tells of each that is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

from v3reader import unsatisfied


def judge(image: bytearray, change: str) -> str | None:
    """Return what is wrong with the image after a change, or None; the change is taken back."""
    undo: list[tuple[int, bytes]] = []
    for store in change.split():
        offset_text, _, data = store.partition(":")
        offset, new = int(offset_text), bytes.fromhex(data)
        undo.append((offset, bytes(image[offset : offset + len(new)])))
        image[offset : offset + len(new)] = new
    complaint = unsatisfied(memoryview(image))
    for offset, old in reversed(undo):
        image[offset : offset + len(old)] = old
    return complaint


def main() -> None:
    """Judge the changes on standard input."""
    image = bytearray(Path(sys.argv[1]).read_bytes())
    changes = sys.stdin.read().splitlines()
    complaints = [(change, judge(image, change)) for change in changes]
    print(len(changes))
    for change, complaint in complaints:
        if complaint is not None:
            print(f"{change.strip()}: {complaint}")


if __name__ == "__main__":
    main()
