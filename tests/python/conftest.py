# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A small tree with one of everything, the image of it, and the commands as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import daxfs
from support.small import MIB, ODD_NAME, VECTORS, WHEN, Run


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command of the environment that the tests run in, and check its exit status."""

    def run_command(
        *command: str | bytes | Path,
        status: int = 0,
        input: bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        program = Path(sys.executable).with_name(str(command[0]))
        done = subprocess.run(
            [program, *command[1:]],
            input=input,
            capture_output=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
        assert done.returncode == status, (command, done)
        assert b"Traceback" not in done.stderr
        return done

    return run_command


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tree."""
    root = tmp_path_factory.mktemp("tree")
    (root / "dir/sub").mkdir(parents=True)
    (root / "empty dir").mkdir()
    (root / "dir/sub/deep").write_bytes(b"deep\n")
    (root / "dir/text.txt").write_text("first\nsecond\nünïcödé\n")
    (root / "empty").touch()
    (root / "big").write_bytes(bytes(range(256)) * (3 * MIB // 256))
    (root / "setuid").write_bytes(b"x")
    (root / "setuid").chmod(0o4755)
    os.link(root / "dir/text.txt", root / "hard")
    (root / "link").symlink_to("dir/text.txt")
    (root / "dirlink").symlink_to("dir")
    (root / "dangling").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "absolute").symlink_to("/dir/../dir/sub")
    os.mkfifo(root / "fifo")
    Path(os.fsdecode(os.fsencode(root) + b"/" + ODD_NAME)).write_bytes(b"odd")
    os.setxattr(root / "big", "user.note", b"\x00value\xff")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(WHEN, WHEN), follow_symlinks=False)
    return root


@pytest.fixture(scope="session")
def image_path(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the image of the tree."""
    path = tmp_path_factory.mktemp("image") / "tree.daxfs"
    daxfs.build(tree, path, label="a label")
    return path


@pytest.fixture
def image(image_path: Path) -> Iterator[daxfs.Image]:
    """Open the image of the tree."""
    with daxfs.open(image_path) as opened:
        yield opened


@pytest.fixture
def cyclic(tmp_path: Path) -> Path:
    """Make an image that is not sound: below a directory is that directory again."""
    with daxfs.open(VECTORS / "static.daxfs") as image:
        (directory,) = [one for one in image.scandir("dir") if one.name == "sub"]
        top, below = image.stat("dir").st_ino, directory.inode()
    damaged = (VECTORS / "static.daxfs").read_bytes()
    at = damaged.index(below.to_bytes(4, "little") + (0o40755).to_bytes(4, "little") + b"\x03\x00")
    path = tmp_path / "cyclic.daxfs"
    path.write_bytes(damaged[:at] + top.to_bytes(4, "little") + damaged[at + 4 :])
    return path


@pytest.fixture
def path(tree: Path, tmp_path: Path) -> Path:
    """Build an image of the tree with room for branches."""
    daxfs.build(tree, tmp_path / "x.daxfs", branches=True, delta_size="16M")
    return tmp_path / "x.daxfs"


@pytest.fixture
def writable(path: Path) -> Iterator[daxfs.Image]:
    """Open that image for writing."""
    with daxfs.open(path, writable=True) as opened:
        yield opened


@pytest.fixture
def branch(writable: daxfs.Image) -> Iterator[daxfs.Branch]:
    """Make a branch in it that stays."""
    with writable.branch("b", keep=True) as opened:
        yield opened
