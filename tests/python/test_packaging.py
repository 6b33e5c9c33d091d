# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What people get who install from a source distribution."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MODULE = [sys.executable, "-m"]


def test_a_source_distribution_holds_everything(tmp_path: Path) -> None:
    subprocess.run([*MODULE, "maturin", "sdist", "-o", tmp_path], cwd=REPOSITORY, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    needed = ("LICENSES/*", "kernel/*.[ch]", "kernel/K*", "kernel/Makefile", "kernel/dkms.conf")
    # The last are what the README leads to.
    for pattern in (*needed, "python/**/*.py*", "Cargo.lock", "docs/*.md", "C*.md"):
        files = [path for path in REPOSITORY.glob(pattern) if "__pycache__" not in path.parts]
        assert {str(path.relative_to(REPOSITORY)) for path in files} - names == set(), pattern
        assert files

    target = tmp_path / "installed"
    # What is compiled already need not be again, but for this package's own crates.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(REPOSITORY / "target")}
    install = [*MODULE, "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*install, str(archive)], env=environment, check=True)
    installed = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    ours = {str(file) for file in metadata.files("daxfs") or [] if file.parts[0] == "daxfs"}
    assert {name for name in ours if not name.endswith(".pyc")} <= installed
    said = subprocess.run(
        [sys.executable, "-c", "import daxfs; print(daxfs.__file__, daxfs.__version__)"],
        env={**os.environ, "PYTHONPATH": str(target)}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert said == [str(target / "daxfs/__init__.py"), metadata.version("daxfs")]
