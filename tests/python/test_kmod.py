# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the way to the kernel's module: sources become the right options, what the kernel cannot
serve is left to others, and the package carries everything that the module is built from.

That it mounts is tested in booted kernels.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daxfs import _daxfs, errors, kmod
from support.small import Run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("source", "options", "settings"),
    [
        ("phys:0x100000000", [], [("source", "phys:0x100000000"), ("phys", "0x100000000")]),
        (
            "phys:4G+64M",
            ["ro", "validate"],
            [
                *(("source", "phys:4G+64M"), ("phys", "0x100000000"), ("size", "67108864")),
                ("validate", None),
            ],
        ),
        (
            "none",
            ["phys=0x1000", "size=1M", "defaults", "x-systemd.automount"],
            [("source", "none"), ("phys", "0x1000"), ("size", "1M")],
        ),
        ("dmabuf:7", [], [("source", "dmabuf:7"), ("dmabuf", "7")]),
        ("/dev/null", [], [("source", "/dev/null")]),
        ("/dev/dax99.0", [], [("source", "/dev/dax99.0")]),
        ("/etc/passwd", ["ro"], None),
        ("/nowhere/image", [], None),
    ],
)
def test_sources_become_options(
    source: str, options: list[str], settings: kmod.Settings | None
) -> None:
    assert kmod.settings_of(source, options) == settings


def test_what_the_module_does_not_know_is_not_for_it() -> None:
    assert not kmod.can_serve("/etc/passwd")
    assert not kmod.can_serve("phys:0x1000", ["branch=main"])


def test_a_file_is_refused_in_words(run: Run, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidError, match="devices"):
        kmod.mount("/etc/passwd", tmp_path)
    done = run("mount.daxfs", "-o", "kernel", "/etc/passwd", tmp_path, status=1)
    assert b"/etc/passwd: the kernel mounts devices" in done.stderr
    done = run("mkdaxfs", "-d", tmp_path, "-o", tmp_path / "x", "-m", tmp_path, status=2)
    assert b"-m mounts what lies in memory" in done.stderr
    assert not (tmp_path / "x").exists()


def test_the_package_has_every_source() -> None:
    files = {file.name: file.read_text() for file in (ROOT / "kernel").iterdir() if file.is_file()}
    built = re.compile(r"\.(ko|o|mod|mod\.c|cmd|symvers|order)$")
    files = {name: text for name, text in files.items() if not built.search(name)}
    assert dict(_daxfs.module_sources()) == files


def test_versions_agree() -> None:
    sources = dict(_daxfs.module_sources())
    version = re.escape(_daxfs.__version__)
    assert re.search(rf'MODULE_VERSION\("{version}"\)', sources["vfs_super.c"])
    assert re.search(rf'^PACKAGE_VERSION="{version}"$', sources["dkms.conf"], re.MULTILINE)


def test_headers_that_are_missing_are_named(run: Run, tmp_path: Path) -> None:
    done = run("daxfs", "module", "build", "--headers", tmp_path, status=1)
    assert str(tmp_path).encode() in done.stderr
    assert b"linux-headers" in done.stderr


def test_the_status_is_told(run: Run) -> None:
    loaded = "daxfs" in Path("/proc/filesystems").read_text()
    done = run("daxfs", "module", "status", status=0 if loaded else 1)
    assert b"module/loaded" in done.stdout
    assert b"module/headers" in done.stdout
