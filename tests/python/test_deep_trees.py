# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects: what goes through a deep tree keeps its names, not a path of each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import daxfs
from support.small import MIB

# Directories on the way down, and at its end; the paths of these take 80 MB.
DEPTH, COUNT = 300, 2000

# A command, and the most memory in KiB that the process has had at once.
_MEASURED = """
import sys
from importlib import import_module
name, *arguments = sys.argv[1:]
import_module(f"daxfs.cli.{name}").command.main(arguments, standalone_mode=False)
with open("/proc/self/status") as status:
    print(next(line for line in status if line.startswith("VmHWM:")).split()[1], file=sys.stderr)
"""


def memory_of(*command: str | Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    return int(done.stderr) * 1024


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("deep")
    (top / "tree").mkdir()
    at = os.open(top / "tree", os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d" * 128, dir_fd=at)
        above, at = at, os.open("d" * 128, os.O_RDONLY, dir_fd=at)
        os.close(above)
    for number in range(COUNT):
        os.mkdir(f"{number}", dir_fd=at)
    os.close(at)
    daxfs.build(top / "tree", top / "image")
    # By a program that is not limited in its depth.
    subprocess.run(["rm", "-r", top / "tree"], check=True)
    return top / "image"


@pytest.mark.parametrize("command", [("ls", "-R"), ("ls", "-lR"), ("tree",), ("tree", "--json")])
def test_paths_are_not_kept(deep: Path, command: tuple[str, ...]) -> None:
    # The rest is for the interpreter, and what every command loads.
    assert memory_of(*command, deep) < memory_of("ls", deep) + 24 * MIB


@pytest.mark.parametrize("topdown", [True, False])
def test_a_walk_names_every_directory(deep: Path, topdown: bool) -> None:
    with daxfs.open(deep) as image:
        walked = [path for path, _, _ in image.walk(topdown=topdown)]
    way = ["/" + "/".join(["d" * 128] * depth) for depth in range(DEPTH + 1)]
    below = [f"{way[-1]}/{name}" for name in sorted(map(str, range(COUNT)))]
    assert walked == (way + below if topdown else below + way[::-1])


def test_paths_are_not_kept_of_what_is_removed(deep: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    daxfs.compact(deep, image, branches=True)
    remove = ("daxfs_branch", "rm", "-b", "main", "-i", image)
    least = memory_of(*remove, "-f", "none")
    assert memory_of(*remove, "-r", "d" * 128) < least + 24 * MIB
    with daxfs.open(image) as opened:
        assert opened.listdir() == []
