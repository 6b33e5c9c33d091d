# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects what hands the module on: DKMS, which builds modules anew for each kernel that a system
gets, and builders of packages, who install into a directory of theirs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from initramfs import Kernel
from module import KERNEL
from vmconfig import module_kernels


@pytest.fixture(scope="module")
def dkms() -> str:
    """Return the command, which is installed if need be."""
    if shutil.which("dkms") is None:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", "dkms"]
        become = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.run([*become, *command], check=True, capture_output=True)
    return "dkms"


def copy_sources(directory: Path) -> Path:
    """Copy the module's sources to where they can be built."""
    sources = directory / "sources"
    shutil.copytree(KERNEL, sources, ignore=shutil.ignore_patterns("*.o", "*.ko", "*.mod*", ".*"))
    return sources


@pytest.mark.parametrize("series", module_kernels())
def test_the_module_is_installed_below_another_directory(series: str, tmp_path: Path) -> None:
    """The build directory alone says which kernel it is for, not the one that runs."""
    kernel = Kernel.find(series)
    variables = [
        f"KDIR={kernel.modules / kernel.release / 'build'}",
        f"INSTALL_MOD_PATH={tmp_path}/top",
    ]
    done = subprocess.run(
        ["make", "-s", "-C", copy_sources(tmp_path), *variables, "install"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    index = (tmp_path / "top/lib/modules" / kernel.release / "modules.dep").read_text()
    assert index.startswith("updates/daxfs.ko")


@pytest.mark.parametrize("series", module_kernels())
def test_dkms_builds_the_module(dkms: str, series: str, tmp_path: Path) -> None:
    kernel = Kernel.find(series)
    sources = copy_sources(tmp_path)
    trees: list[str | Path] = []
    for name in ("dkmstree", "sourcetree", "installtree"):
        (tmp_path / name).mkdir()
        trees += [f"--{name}", tmp_path / name]

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [dkms, *arguments, *trees],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    run("add", sources)
    build = kernel.modules / kernel.release / "build"
    said = run("build", "daxfs/0.1.0", "-k", kernel.release, "--kernelsourcedir", build)
    assert "bad exit status" not in said
    assert f"daxfs/0.1.0, {kernel.release}" in run("status")
    (module,) = (tmp_path / "dkmstree").rglob("daxfs.ko*")
    found = subprocess.run(["modinfo", module], capture_output=True, text=True, check=True).stdout
    assert f"vermagic:       {kernel.release} " in found
    run("remove", "daxfs/0.1.0", "--all")
