# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Peers that Debian 12 has no programs of, built once: a recent erofs-utils with its FUSE server,
and libfuse's example that passes everything through to a directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from measure import BenchError

VERSION = "1.9.4"
SOURCE = f"http://deb.debian.org/debian/pool/main/e/erofs-utils/erofs-utils_{VERSION}.orig.tar.gz"
SHA256 = "7d135aa2550326a5acf20f53c518aea5a8900015ce50700044e40f818c31dd80"
NEEDED = [
    "autoconf",
    "automake",
    "gcc",
    "libtool",
    "libfuse3-dev",
    "make",
    "pkg-config",
    "uuid-dev",
]
TOOLS = {"mkfs.erofs": "mkfs/mkfs.erofs", "erofsfuse": "fuse/erofsfuse"}


def passthrough() -> Path:
    """Return libfuse's `passthrough_ll`.

    Raises
    ------
    BenchError
        The source cannot be had or does not build.
    """
    built = _cache() / "passthrough_ll"
    if built.exists():
        return built
    with tempfile.TemporaryDirectory(prefix="passthrough-", dir=built.parent) as work:
        top = Path(work)
        _call("apt-get", "-q", "install", "--yes", "--no-install-recommends", *NEEDED)
        # Its examples lie where systems without documentation have nothing.
        _call(
            "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "libfuse3-dev", where=top
        )
        _call("dpkg-deb", "-x", *top.glob("*.deb"), top)
        source = top / "usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"
        flags = _call("pkg-config", "fuse3", "--cflags", "--libs").split()
        _call("gcc", "-O2", source, *flags, "-o", top / "ready")
        (top / "ready").rename(built)
    return built


def erofs_tools() -> Path:
    """Return the directory of `mkfs.erofs` and `erofsfuse`.

    Raises
    ------
    BenchError
        The source cannot be had or does not build.
    """
    built = _cache() / f"erofs-utils-{VERSION}"
    if built.is_dir():
        return built
    with tempfile.TemporaryDirectory(prefix="erofs-", dir=built.parent) as work:
        top = Path(work)
        archive = top / "source.tar.gz"
        archive.write_bytes(_download())
        _call("apt-get", "-q", "install", "--yes", "--no-install-recommends", *NEEDED)
        _call("tar", "-xf", archive, "-C", top)
        source = top / f"erofs-utils-{VERSION}"
        _call("./autogen.sh", where=source)
        _call("./configure", "--enable-fuse", "CFLAGS=-O2", where=source)
        for part in ("lib", "mkfs", "fuse"):
            _call("make", f"-j{os.cpu_count()}", "-C", part, where=source)
        ready = top / "ready"
        ready.mkdir()
        for name, path in TOOLS.items():
            shutil.copy2(source / path, ready / name)
        ready.rename(built)
    return built


def _cache() -> Path:
    top = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daxfs"
    top.mkdir(parents=True, exist_ok=True)
    return top


def _download() -> bytes:
    try:
        with urllib.request.urlopen(SOURCE, timeout=60) as answer:
            archive: bytes = answer.read()
    except OSError as error:
        raise BenchError(f"{SOURCE}: {error}") from None
    if hashlib.sha256(archive).hexdigest() != SHA256:
        raise BenchError(f"{SOURCE} is not what it was")
    return archive


def _call(*command: str | Path, where: Path | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout
