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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from architecture import ARM64, X86_64, Architecture, of_kernel
from vmconfig import ARM64_KERNELS, KERNELS, kernel_cache

# Program → the package that brings it.
TOOLS = {
    "busybox": "busybox-static",
    "checkpolicy": "checkpolicy",
    "cpio": "cpio",
    "dmsetup": "dmsetup",
    "gcc-12": "gcc-12",
    "make": "make",
    "mkfs.erofs": "erofs-utils",
    "pahole": "pahole",
    "sparse": "sparse",
    "depmod": "kmod",
    X86_64.emulator: "qemu-system-x86",
}
ARM64_TOOLS = {
    f"{ARM64.compiler}gcc-12": "gcc-12-aarch64-linux-gnu",
    f"{ARM64.compiler}gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64-static": "qemu-user-static",
    ARM64.emulator: "qemu-system-arm",
}
# QEMU learned CXL volatile memory in 8.1; Debian 12 itself has 7.2.
OLDEST_QEMU = (8, 1)
SOURCES = Path("/etc/apt/sources.list.d")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Names of another architecture's packages have it behind, and are in brackets where it has none.
KERNEL_PACKAGE = re.compile(
    r"^[ |]*(?:Pre)?Depends: <?"
    r"(linux-(?:image|base|binary|modules|headers|kbuild)-(?!\S*-unsigned)[^\s:>]+)",
    re.MULTILINE,
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


def qemu_version(machine: Architecture) -> tuple[int, ...]:
    """Return the version of the installed QEMU for a machine, or (0,) when there is none."""
    if not shutil.which(machine.emulator):
        return (0,)
    found = re.search(r"version (\d+)\.(\d+)", output(machine.emulator, "--version"))
    return tuple(map(int, found.groups())) if found else (0,)


def install_tools(tools: Mapping[str, str] = TOOLS, machine: Architecture = X86_64) -> None:
    """Install the missing programs, QEMU for a `machine` from backports."""
    missing = {tool: package for tool, package in tools.items() if not shutil.which(tool)}
    if qemu_version(machine) < OLDEST_QEMU:
        suite = enable_backports()
        missing.pop(machine.emulator, None)
        apt_get("install", "--no-install-recommends", "-t", suite, tools[machine.emulator])
    if missing:
        apt_get("install", "--no-install-recommends", *" ".join(missing.values()).split())


@contextmanager
def packages_of(architecture: Architecture) -> Iterator[None]:
    """Have apt know the packages of an architecture, by lists of its own."""
    if architecture.native:
        yield
        return
    with tempfile.TemporaryDirectory() as scratch:
        for directory in ("lists/partial", "cache/archives/partial"):
            Path(scratch, directory).mkdir(parents=True)
        Path(scratch, "status").touch()
        configuration = Path(scratch, "apt.conf")
        configuration.write_text(
            f'APT::Architectures {{"{X86_64.debian}"; "{architecture.debian}";}};\n'
            f'Dir::State "{scratch}";\n'
            f'Dir::State::lists "{scratch}/lists";\n'
            f'Dir::State::status "{scratch}/status";\n'
            f'Dir::Cache "{scratch}/cache";\n'
        )
        os.environ["APT_CONFIG"] = str(configuration)
        try:
            apt_get("update")
            yield
        finally:
            del os.environ["APT_CONFIG"]


def kernel_packages(start: str, architecture: Architecture, within: Sequence[str] = ()) -> set[str]:
    """Return package `start` and the kernel's packages that it needs, as apt-get takes them.

    `within` is a command that runs others where apt knows them.
    """
    found: set[str] = set()
    todo = [start]
    while todo:
        package = todo.pop()
        # What headers have in common is for all, and what builds modules runs on this machine.
        if not package.endswith("-common") and not package.startswith("linux-kbuild-"):
            package = f"{package}:{architecture.debian}"
        if package not in found:
            found.add(package)
            todo += KERNEL_PACKAGE.findall(output(*within, "apt-cache", "depends", package))
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


def unpack_kernel(series: str, names: Sequence[str], cache: Path) -> None:
    """Unpack a kernel into `cache`, complete or not at all."""
    target = cache / series
    stamp = "\n".join([*names, "relocated", ""])
    if (target / "packages").is_file() and (target / "packages").read_text() == stamp:
        return
    cache.mkdir(parents=True, exist_ok=True)
    architecture = of_kernel(series)
    with (
        packages_of(architecture),
        tempfile.TemporaryDirectory(dir=cache, prefix=f".{series}-") as scratch,
    ):
        if not output("apt-cache", "search", "--names-only", f"^{names[0]}$"):
            apt_get("update")
        downloads = Path(scratch, "downloads")
        root = Path(scratch, "root")
        downloads.mkdir()
        root.mkdir()
        packages = set().union(*(kernel_packages(name, architecture) for name in names))
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
    parser.add_argument("--arm64", action="store_true", help="what guests of arm64 need besides")
    arguments = parser.parse_args()
    install_tools()
    kernels = KERNELS
    if arguments.arm64:
        install_tools(ARM64_TOOLS, ARM64)
        kernels = KERNELS | ARM64_KERNELS
    for series, names in kernels.items():
        unpack_kernel(series, names, arguments.cache)


if __name__ == "__main__":
    main()
