# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The kernel's engine, built for user space under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

KERNEL = Path(__file__).parents[2] / "kernel"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the programs made of the C engine."""
    out = tmp_path_factory.mktemp("engine")
    assert shutil.which("gcc"), "the C engine needs a compiler"
    subprocess.run(["make", "-s", "-C", KERNEL / "tests", f"OUT={out}", "CC=gcc"], check=True)
    return out
