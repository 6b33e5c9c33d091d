# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How fast is an image read in process, and how fast do the commands start?

    python benches/read.py [--quick] [--json FILE] [--only CASE]...

Run it with the Python that daxfs is installed in.
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import numpy as np
from rich.console import Console

import cases
import daxfs
import results
import setting
import trees
from cases import Case
from measure import BenchError, Competitor, Stopwatch, race
from setting import GIB
from trees import MIB

LOOKUPS = 20_000
VIEWS = 200


class Bench:
    """The place and the options of one run."""

    def __init__(self, options: argparse.Namespace, work: Path, console: Console) -> None:
        self.work = work
        self.console = console
        self.quick: bool = options.quick
        self.rounds = setting.rounds(options)
        self.mkdaxfs = setting.daxfs_command("mkdaxfs", options.mkdaxfs)
        versions = setting.versions(
            {"mkdaxfs": [self.mkdaxfs, "--version"], "python": [sys.executable, "--version"]}
        )
        self.result = results.start("read", self.rounds, versions)

    def image_of(self, tree: Path) -> Path:
        """Make an image of a tree."""
        image = self.work / "image.daxfs"
        image.unlink(missing_ok=True)
        command: list[str | Path] = [self.mkdaxfs, "-d", tree, "-o", image]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"mkdaxfs failed:\n{done.stderr[-2000:]}")
        return image

    def race(
        self, operations: dict[str, Callable[[], None]], repeats: int, turns: int = 1
    ) -> dict[str, list[float]]:
        """Return the seconds that one operation takes, round by round, rotating the order.

        Parameters
        ----------
        operations
            By name; each call does `repeats` operations.
        turns
            Of each operation in a round.
        """
        seconds: dict[str, list[float]] = {name: [] for name in operations}
        names = list(operations)
        for operation in operations.values():
            operation()
        gc.disable()
        for number in range(turns * self.rounds):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                started = perf_counter_ns()
                operations[name]()
                seconds[name].append((perf_counter_ns() - started) / 1e9 / repeats)
        gc.enable()
        return seconds


def lookup(bench: Bench) -> list[results.Row]:
    """Time a path look-up of depth 4, next to the kernel's on the same tree in tmpfs."""
    count = 10_000 if bench.quick else 200_000
    bench.console.log(f"look-up: making a tree of {count:,} files and its image")
    tree = trees.small_files(bench.work / "small", count)
    root = os.fspath(tree.path)
    files = sorted(
        os.path.relpath(os.path.join(directory, name), root)
        for directory, _, names in os.walk(root)
        for name in names
    )
    paths = random.Random(1).choices(files, k=LOOKUPS)
    whole = [f"{root}/{path}" for path in paths]

    with daxfs.open(bench.image_of(tree.path), trusted=True) as image:

        def ours() -> None:
            for path in paths:
                image.stat(path)

        def kernel() -> None:
            for path in whole:
                os.stat(path)

        operations = {"os.stat in tmpfs": kernel, "image.stat": ours}
        seconds = bench.race(operations, LOOKUPS)
    case = f"path look-up of depth 4, {count:,} files"
    return results.operation_rows(case, seconds, "os.stat in tmpfs")


def view(bench: Bench) -> list[results.Row]:
    """Time opening an image and viewing a large file, next to mapping the file itself."""
    size = (32 if bench.quick else 512) * MIB
    bench.console.log("view: making a large file and its image")
    tree = trees.large_files(bench.work / "large", 1, size)
    (file,) = tree.path.iterdir()
    image_path, name = bench.image_of(tree.path), file.name

    # Both end with a numpy array over the bytes, of which one is read: mapping alone is lazy.
    def ours() -> None:
        for _ in range(VIEWS):
            with daxfs.open(image_path, trusted=True) as image:
                array = np.frombuffer(image.view(name), dtype=np.uint8)
            array[-1]

    def mapped() -> None:
        for _ in range(VIEWS):
            with file.open("rb") as opened:
                mapping = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            array = np.frombuffer(mapping, dtype=np.uint8)
            array[-1]

    operations = {"mmap + numpy.frombuffer": mapped, "daxfs.open + view": ours}
    # A turn is some milliseconds, of which a virtual machine may lose any.
    seconds = bench.race(operations, VIEWS, turns=40)
    case = f"open and view a file of {size // MIB} MiB"
    return results.operation_rows(case, seconds, "mmap + numpy.frombuffer")


def start_up(bench: Bench) -> list[results.Row]:
    """Time `mkdaxfs --version`, next to starting Python with click."""
    click = "import click"
    competitors = [
        Competitor(click, [sys.executable, "-c", "import click"]),
        Competitor("mkdaxfs --version", [bench.mkdaxfs, "--version"]),
    ]
    # One run is short and the noise of starting a process large: more rounds than elsewhere.
    samples = race(competitors, 10 * bench.rounds, Stopwatch(bench.work), lambda _: None)
    return results.command_rows("start-up", samples, [click])


CASES = {
    "lookup": Case("finding paths", 4 * GIB, lookup),
    "view": Case("opening an image and viewing a file", 4 * GIB, view),
    "startup": Case("starting a command", 4 * GIB, start_up),
}

if __name__ == "__main__":
    options = cases.parser("How fast is an image read in process?", CASES)
    sys.exit(cases.main(options.parse_args(), CASES, Bench))
