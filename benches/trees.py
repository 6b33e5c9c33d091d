# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The trees that are measured: the same names, sizes and contents in every run.

Each function fills a directory that does not exist yet and says what it holds.
"""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

LARGEST_SMALL_FILE = 8192
MEAN_SMALL_FILE = 2048
EMPTY_SHARE = 0.02
FILES_PER_DIRECTORY = (100, 500)
MIB = 1 << 20


@dataclass(frozen=True)
class Tree:
    """A directory to measure with.

    Attributes
    ----------
    path
        Where it lies.
    files
        How many regular files it holds.
    size
        The sum of their sizes in bytes.
    """

    path: Path
    files: int
    size: int


class _SmallFiles:
    """Writes files of 0 to 8 KiB, mean about 2 KiB, each a piece of one random block."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.block = self.random.randbytes(MIB)
        self.files = 0
        self.size = 0

    def write(self, directory: int, name: str) -> None:
        size = 0
        if self.random.random() >= EMPTY_SHARE:
            size = min(LARGEST_SMALL_FILE, int(self.random.expovariate(1 / MEAN_SMALL_FILE)))
        start = self.random.randrange(len(self.block) - LARGEST_SMALL_FILE)
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
        try:
            os.write(file, self.block[start : start + size])
        finally:
            os.close(file)
        self.files += 1
        self.size += size


def small_files(path: Path, count: int) -> Tree:
    """Make many small files, four levels deep, 100 to 500 in a directory."""
    writer = _SmallFiles(seed=count)
    leaf = 0
    while writer.files < count:
        directory = path / f"d{leaf // 100:03}" / f"e{leaf // 10 % 10}" / f"f{leaf % 10}"
        directory.mkdir(parents=True)
        here = min(writer.random.randint(*FILES_PER_DIRECTORY), count - writer.files)
        _fill(directory, here, writer)
        leaf += 1
    return Tree(path, writer.files, writer.size)


def wide_directory(path: Path, count: int) -> Tree:
    """Make many small files in one directory."""
    path.mkdir()
    writer = _SmallFiles(seed=count)
    _fill(path, count, writer)
    return Tree(path, writer.files, writer.size)


def large_files(path: Path, count: int, size: int) -> Tree:
    """Make files of random bytes, of a size that is a multiple of 1 MiB."""
    path.mkdir()
    for number in range(count):
        with (path / f"large-{number}.bin").open("xb", buffering=0) as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
    return Tree(path, count, count * size)


def copy_of(path: Path, source: Path) -> Tree:
    """Copy a tree that exists, with everything `cp --archive` keeps."""
    subprocess.run(["cp", "--archive", "--one-file-system", "--", source, path], check=True)
    files = size = 0
    for directory, _, names in os.walk(path):
        for name in names:
            inner = os.path.join(directory, name)
            if os.path.isfile(inner) and not os.path.islink(inner):
                files += 1
                size += os.path.getsize(inner)
    return Tree(path, files, size)


def _fill(directory: Path, count: int, writer: _SmallFiles) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(count):
            writer.write(descriptor, f"file-{number:06}.dat")
    finally:
        os.close(descriptor)
