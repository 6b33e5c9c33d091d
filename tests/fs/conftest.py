# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Images on tmpfs, mounts that are taken away again, and the commands as users run them."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.mounts import Mounts
from support.trees import Options, random_tree

SHM = Path("/dev/shm")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how long the stressors run."""
    parser.addoption(
        "--stress",
        type=int,
        default=1,
        metavar="FACTOR",
        help="run the long stressors this many times as long",
    )


@pytest.fixture(scope="session")
def stress(request: pytest.FixtureRequest) -> int:
    """Give the factor by which long runs are longer than in everyday tests."""
    factor = request.config.getoption("--stress")
    assert isinstance(factor, int)
    return factor


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Give a directory on tmpfs: the reference that mounts are compared with, and their memory."""
    path = Path(tempfile.mkdtemp(prefix="daxfs-fs-", dir=SHM))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def mounts(scratch: Path) -> Iterator[Mounts]:
    """Mount images, and take all mounts away in the end."""
    mounts = Mounts(scratch, Path(sys.executable).parent)
    yield mounts
    mounts.clear()


@pytest.fixture
def tree(scratch: Path) -> Path:
    """Make a tree with everything that a tree can hold."""
    root = scratch / "tree"
    root.mkdir()
    random_tree(root, random.Random(4), entries=300, options=Options(sparse_max=4 << 20))
    return root


@pytest.fixture
def empty(mounts: Mounts, scratch: Path) -> Path:
    """Give a writable image of an empty tree."""
    tree = scratch / "empty"
    tree.mkdir()
    return mounts.build(tree, "256M")


@pytest.fixture
def image(mounts: Mounts, scratch: Path) -> Path:
    """Make a writable image of a small tree."""
    tree = scratch / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "file").write_text("base")
    (tree / "dir/other").write_text("other")
    return mounts.build(tree, "64M")


@pytest.fixture(scope="session")
def install() -> Callable[[str, str], str]:
    """Give the path of a program, installing its package first if need be."""

    def find(program: str, package: str) -> str:
        if shutil.which(program) is None:
            subprocess.run(["apt-get", "update"], check=True, capture_output=True)
            subprocess.run(
                ["apt-get", "install", "-y", "--no-install-recommends", package],
                check=True,
                capture_output=True,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        path = shutil.which(program)
        assert path is not None, f"{package} has no {program}"
        return path

    return find


def crate(name: str, version: str) -> Path:
    """Give the program of a crate, built once and kept."""
    root = Path(__file__).parents[2] / "target/tools"
    program = root / "bin" / name
    if not program.exists():
        command = ["cargo", "install", "--quiet", "--version", version, name, "--root", str(root)]
        subprocess.run([*command, "--target-dir", str(root / "build")], check=True)
    return program


@pytest.fixture(scope="session")
def fsx() -> Path:
    """Give the file system exerciser."""
    return crate("fsx", "^0.3")


@pytest.fixture(scope="session")
def pjdfstest() -> Path:
    """Give the public suite of POSIX tests."""
    return crate("pjdfstest", "^0.2")
