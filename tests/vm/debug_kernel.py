#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Build a kernel that watches itself, from the distribution's source, beside the other kernels.

KASAN, lockdep, kmemleak, UBSAN, page table checks and checks of sleeping in atomic sections are
on. It takes ten minutes or more, once; running it again changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setup import apt_get, enable_backports, install_tools, output
from vmconfig import DEBUG, kernel_cache

PACKAGE = "linux-source-6.12"
CONFIG = Path(__file__).with_name("debug.config")
TOOLS = ("bc", "bison", "flex", "libelf-dev", "libssl-dev", "make", "xz-utils")


def make(source: Path, *arguments: str) -> None:
    """Run make in the kernel's source, at the lowest priority."""
    jobs = f"-j{os.cpu_count()}"
    subprocess.run(
        ["nice", "-n", "19", "make", "-s", jobs, *arguments],
        cwd=source,
        stdout=sys.stderr,
        check=True,
    )


def fetch(scratch: Path) -> Path:
    """Return the unpacked source of the kernel."""
    if not output("apt-cache", "search", "--names-only", f"^{PACKAGE}$"):
        enable_backports()
    apt_get("download", PACKAGE, cwd=scratch)
    (package,) = scratch.glob("*.deb")
    output("dpkg", "-x", package, scratch)
    (archive,) = scratch.glob("usr/src/*.tar.xz")
    output("tar", "-xf", archive, "-C", scratch)
    return scratch / PACKAGE


def configure(source: Path) -> None:
    """Merge what is wanted into the smallest configuration, and see that it is there."""
    make(source, "tinyconfig")
    output("sh", "-c", f"cd {source} && scripts/kconfig/merge_config.sh -m .config {CONFIG}")
    make(source, "olddefconfig")
    have = set((source / ".config").read_text().splitlines())
    wanted = {line for line in CONFIG.read_text().splitlines() if line.endswith("=y")}
    if missing := sorted(wanted - have):
        raise SystemExit(f"the kernel's configuration lacks {', '.join(missing)}")


def main() -> None:
    """Build the kernel unless it is there."""
    target = kernel_cache() / DEBUG
    stamp = f"{PACKAGE} {hashlib.sha256(CONFIG.read_bytes()).hexdigest()}\n"
    if (target / "packages").is_file() and (target / "packages").read_text() == stamp:
        return
    install_tools()
    apt_get("install", "--no-install-recommends", *TOOLS)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{DEBUG}-") as scratch:
        source = fetch(Path(scratch))
        configure(source)
        make(source, "bzImage", "modules")
        release = output("make", "-s", "-C", source, "kernelrelease").strip()
        root = Path(scratch, "root")
        modules = root / "lib/modules" / release
        modules.mkdir(parents=True)
        (root / "boot").mkdir()
        shutil.copy(source / "arch/x86/boot/bzImage", root / f"boot/vmlinuz-{release}")
        make(source, "modules_install", f"INSTALL_MOD_PATH={root}")
        (modules / "build").unlink(missing_ok=True)
        (modules / "build").symlink_to(target / "source")
        for name in ("vmlinux.o", "vmlinux.a"):
            (source / name).unlink(missing_ok=True)
        source.rename(root / "source")
        (root / "packages").write_text(stamp)
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)
    print(f"built {release} into {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
