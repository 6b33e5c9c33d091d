# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the purpose of it all: several kernels run from one image in memory that they share,
and that memory is there once.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from devices import MIB, nvdimm
from guest import Guest
from module import build_module
from support.debian_root import debian_root
from vmconfig import BIN, module_kernels

ADDRESS = 4 << 30
SIZE = 256 * MIB


@pytest.mark.parametrize("series", module_kernels())
def test_two_guests_have_one_root(series: str, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    subprocess.run([BIN / "mkdaxfs", "-q", "-d", debian_root(), "-o", memory], check=True)
    os.truncate(memory, SIZE)
    module = build_module(series)
    # Other directories have something mounted on them in the guests.
    parts = ["etc", "usr", "var"]
    names = subprocess.run(
        ["find", *parts], cwd=debian_root(), capture_output=True, text=True, check=True
    )
    guests = []
    try:
        for number in range(2):
            (tmp_path / f"{number}").mkdir()
            guests.append(
                Guest(
                    series,
                    tmp_path / f"{number}",
                    memory="1G",
                    cpus=1,
                    devices=[nvdimm(memory, SIZE)],
                    image=f"phys={ADDRESS:#x}",
                    daxfs=module,
                    boot_timeout=400,
                )
            )
        for guest in guests:
            assert guest.check("stat -f -c %t /").strip() == "64617833"
            found = guest.check(
                f"cd / && find {' '.join(parts)} | wc -l; perl -e 'print 6 * 7'", timeout=300
            )
            assert found.split() == [str(len(names.stdout.splitlines())), "42"]
            guest.check("find /usr -type f -exec cat {} + >/dev/null", timeout=300)
        figures = [guest.memory_of(memory) for guest in guests]
    finally:
        for guest in guests:
            guest.kill()
    resident, shares = map(sum, zip(*figures, strict=True))
    assert resident > 200 * 1024, "both have read most of the image"
    assert shares < 0.6 * resident
    assert shares <= SIZE // 1024
