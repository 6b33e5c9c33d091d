# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Small programs that do to file systems what Python cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "programs"


def build_program(name: str, directory: Path, compiler: str = "") -> Path:
    """Compile one of the programs, statically, into `directory`; `compiler` is a prefix of gcc."""
    target = directory / name
    if not target.exists():
        command = [f"{compiler}gcc", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
        subprocess.run(
            [*command, "-static", "-pthread", "-o", target, PROGRAMS / f"{name}.c"], check=True
        )
    return target
