# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A server that is killed leaves a sound image with everything that was made durable."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounts import Mounts

# Writes files and says of each, on a line, once it is durable.
WRITER = r"""
import hashlib, os, random, sys
root, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
for number in range(100000):
    name = f"{seed}-{rng.randrange(20)}"
    data = rng.randbytes(rng.choice([10, 4096, 50000]))
    with open(f"{root}/{name}.new", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{root}/{name}.new", f"{root}/{name}")
    directory = os.open(root, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    print(name, hashlib.sha256(data).hexdigest(), flush=True)
"""


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Path]:
    """Give a directory in memory, and one on disk, where publication waits for fsync."""
    if request.param == "memory":
        yield scratch
        return
    with tempfile.TemporaryDirectory(prefix="daxfs-fs-", dir="/var/tmp") as path:
        yield Path(path)


def test_what_was_synced_survives_kill(
    mounts: Mounts, place: Path, scratch: Path, stress: int
) -> None:
    tree = scratch / "tree"
    tree.mkdir()
    image = place / "image.daxfs"
    mounts.run("mkdaxfs", "-d", tree, "-o", image, "-w", "--delta-size", "256M")
    durable: dict[str, str] = {}
    rng = random.Random(place.name)
    point = mounts.point()
    for seed in range(8 * stress):
        mounts.mount(image, "branch=work,parent=main", point=point)
        command = [sys.executable, "-c", WRITER, str(point), str(seed)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(rng.randrange(1, 60))]
            mounts.kill(point)
            said += writer.stdout.readlines()
        last = ""
        for line in said:
            last, digest = line.split()
            durable[last] = digest
        mounts.sound(image)
        mounts.mount(image, "branch=work", point=point)
        for name, digest in durable.items():
            found = _digest(point / name)
            # The next of this name may have come so far, too.
            if name.startswith(f"{seed}-"):
                assert found is not None
                durable[name] = found
            else:
                assert found == digest
        mounts.unmount(point)


def _digest(path: Path) -> str | None:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
