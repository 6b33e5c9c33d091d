# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the stubs: they say of the extension module what the binary has, and all of it."""

from __future__ import annotations

import subprocess
import sys


def test_the_stubs_match_the_binary() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "daxfs._daxfs"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
