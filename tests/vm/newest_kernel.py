#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Fetch the newest kernel that Debian has for its stable release, beside the other kernels.

What builds modules for it does not run on Debian 12, so a system of that release comes with it. It
takes a few minutes, once. To have a newer kernel, remove the directory.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from architecture import X86_64
from setup import KEYRING, install_tools, kernel_packages, output
from support.debian_root import apt_environment, apt_mirror, debian_root
from vmconfig import NEWEST, kernel_cache

SUITE = "trixie"
TOOLS = ("gcc", "kmod", "libc6-dev", "linux-headers-amd64", "make")


def make_system(system: Path) -> str:
    """Make a system that builds modules for the kernel; return the kernel's release."""
    output("cp", "-a", debian_root(suite=SUITE), system)
    sources = system / "etc/apt/sources.list.d/backports.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {apt_mirror()} {SUITE}-backports main\n")
    environment = {**apt_environment(), "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["chroot", str(system), "apt-get", "-qq", "-y"]
    install = ["install", "--no-install-recommends", "-t", f"{SUITE}-backports", *TOOLS]
    for arguments in (["update"], install):
        subprocess.run([*apt, *arguments], env=environment, stdout=sys.stderr, check=True)
    (modules,) = (system / "lib/modules").iterdir()
    image = f"linux-image-{modules.name}"
    packages = kernel_packages(image, X86_64, ["chroot", str(system)])
    command = ["sh", "-c", 'cd /tmp && apt-get -qq download "$@"', "sh", *sorted(packages)]
    subprocess.run(["chroot", str(system), *command], env=environment, check=True)
    return modules.name


def main() -> None:
    """Fetch the kernel unless it is there."""
    target = kernel_cache() / NEWEST
    if (target / "packages").is_file():
        return
    install_tools()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{NEWEST}-") as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        release = make_system(root / "system")
        for package in (root / "system/tmp").glob("*.deb"):
            output("dpkg", "-x", package, root)
            package.unlink()
        if not (root / "lib").exists():
            (root / "lib").symlink_to("usr/lib")
        # Where newer packages have it.
        image = root / "lib/modules" / release / "vmlinuz"
        if image.exists():
            (root / "boot").mkdir()
            shutil.copy(image, root / f"boot/vmlinuz-{release}")
        output("depmod", "-b", root, release)
        (root / "packages").write_text(f"{release}\n")
        shutil.rmtree(target, ignore_errors=True)
        root.rename(target)
    print(f"unpacked {release} into {target}", file=sys.stderr)


if __name__ == "__main__":
    main()
