#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Install what the virtual-machine tests need: QEMU, busybox, and Debian kernels to boot.

The kernels are unpacked into a cache directory and never installed, so this machine's own boot
is left alone. Running it again is quick and changes nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmconfig import KERNELS, kernel_cache

# Program → the package that brings it.
TOOLS = {
    "busybox": "busybox-static",
    "cpio": "cpio",
    "gcc-12": "gcc-12",
    "make": "make",
    "mkfs.erofs": "erofs-utils",
    "pahole": "pahole",
    "sparse": "sparse",
    "depmod": "kmod",
    "qemu-system-x86_64": "qemu-system-x86",
}
# QEMU learned CXL volatile memory in 8.1; Debian 12 itself has 7.2.
OLDEST_QEMU = (8, 1)
SOURCES = Path("/etc/apt/sources.list.d")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
KERNEL_PACKAGE = re.compile(
    r"^\s*(?:Pre)?Depends: (linux-(?:image|headers|kbuild)-\S+)$", re.MULTILINE
)


def output(*command: str | Path) -> str:
    """Return what `command` prints, or fail with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr.strip()}")
    return done.stdout


def apt_get(*arguments: str, cwd: Path | None = None) -> None:
    """Run apt-get without questions, waiting for another apt that holds the lock."""
    subprocess.run(
        [
            *("apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300"),
            *("-o", "Dpkg::Use-Pty=0", "-o", "APT::Sandbox::User=root", *arguments),
        ],
        cwd=cwd,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdout=sys.stderr,
        check=True,
    )


def enable_backports() -> str:
    """Add the backports suite of the archive this machine already uses; return its name."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    suite = f"{codename}-backports"
    apt_get("update")
    targets = output(
        *("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"),
        *("Origin: Debian", "Identifier: Packages"),
    )
    archives = dict(line.split(maxsplit=1) for line in targets.splitlines())
    if suite not in archives:
        if codename not in archives:
            raise SystemExit(f"no apt source for {codename}: cannot tell where {suite} is")
        source = SOURCES / f"{suite}.list"
        partial = source.with_suffix(".partial")
        partial.write_text(f"deb [signed-by={KEYRING}] {archives[codename]} {suite} main\n")
        partial.rename(source)
        apt_get("update")
    return suite


def qemu_version() -> tuple[int, ...]:
    """Return the version of the installed QEMU, or (0,) when there is none."""
    if not shutil.which("qemu-system-x86_64"):
        return (0,)
    found = re.search(r"version (\d+)\.(\d+)", output("qemu-system-x86_64", "--version"))
    return tuple(map(int, found.groups())) if found else (0,)


def install_tools() -> None:
    """Install the missing programs, QEMU from backports."""
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if qemu_version() < OLDEST_QEMU:
        suite = enable_backports()
        missing = [package for package in missing if package != TOOLS["qemu-system-x86_64"]]
        apt_get("install", "--no-install-recommends", "-t", suite, TOOLS["qemu-system-x86_64"])
    if missing:
        apt_get("install", "--no-install-recommends", *missing)


def kernel_packages(metapackage: str) -> set[str]:
    """Return the packages that hold the files `metapackage` stands for."""
    found: set[str] = set()
    todo = [metapackage]
    while todo:
        package = todo.pop()
        depends = KERNEL_PACKAGE.findall(output("apt-cache", "depends", package))
        found.update(depends)
        todo += depends
    return found


def relocate_headers(root: Path, target: Path, release: str) -> None:
    """Make the headers of a kernel usable below `target`, where `root` will be."""
    headers = Path("usr/src", f"linux-headers-{release}")
    if not (root / headers).is_dir():
        return
    makefile = root / headers / "Makefile"
    makefile.write_text(makefile.read_text().replace(" /usr/src/", f" {target}/usr/src/"))
    build = root / "lib/modules" / release / "build"
    build.unlink()
    build.symlink_to(target / headers)


def unpack_kernel(series: str, metapackages: Sequence[str], cache: Path) -> None:
    """Unpack a kernel into `cache`, complete or not at all."""
    target = cache / series
    stamp = "\n".join([*metapackages, "relocated", ""])
    if (target / "packages").is_file() and (target / "packages").read_text() == stamp:
        return
    cache.mkdir(parents=True, exist_ok=True)
    if not output("apt-cache", "search", "--names-only", f"^{metapackages[0]}$"):
        apt_get("update")
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{series}-") as scratch:
        downloads = Path(scratch, "downloads")
        root = Path(scratch, "root")
        downloads.mkdir()
        root.mkdir()
        packages = set().union(*map(kernel_packages, metapackages))
        apt_get("download", *sorted(packages), cwd=downloads)
        for package in downloads.glob("*.deb"):
            output("dpkg", "-x", package, root)
        for modules in (root / "lib/modules").iterdir():
            output("depmod", "-b", root, modules.name)
            relocate_headers(root, target, modules.name)
        (root / "packages").write_text(stamp)
        if target.exists():
            target.rename(Path(scratch, "old"))
        root.rename(target)
    print(f"unpacked {', '.join(sorted(packages))} into {target}", file=sys.stderr)


def main() -> None:
    """Bring this machine up to what the tests need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=kernel_cache(), help="where kernels go")
    arguments = parser.parse_args()
    install_tools()
    for series, metapackages in KERNELS.items():
        unpack_kernel(series, metapackages, arguments.cache)


if __name__ == "__main__":
    main()
