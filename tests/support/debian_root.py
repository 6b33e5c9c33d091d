# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A real root file system to test with: Debian, minimal, made once and kept.

As a program it prints the path of the tree. Packages come from where the running system's apt
gets its own, through the same proxy.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = "bookworm"


class DebianRootError(Exception):
    """The tree could not be made; the text says why."""


def debian_root(
    cache: Path | None = None,
    mirror: str | None = None,
    suite: str = SUITE,
    packages: tuple[str, ...] = (),
) -> Path:
    """Return the path of a Debian minbase tree, making it first if it is not there.

    Parameters
    ----------
    cache
        The directory to keep it in; by default `daxfs` in the user's cache directory.
    mirror
        Where to get packages; by default the mirror that apt uses here.
    suite
        The release; by default Debian 12.
    packages
        What it shall have besides, with what that depends on.

    Raises
    ------
    DebianRootError
        If it is to be made and the caller is not root, no mirror is known, or a tool fails.
    """
    if cache is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daxfs"
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / "+".join((f"debian-{suite}-minbase", *packages))
    with (cache / f"{tree.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            _make(tree, mirror, suite, packages)
    return tree


def apt_mirror() -> str:
    """Return the address that apt on this system gets the release from, or else another release.

    Raises
    ------
    DebianRootError
        If apt has no source of any.
    """
    fields = "$(RELEASE) $(COMPONENT) $(REPO_URI) $(ORIGIN)"
    targets = _output(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
    addresses: dict[str, str] = {}
    for line in targets.splitlines():
        release, component, address, origin = line.split(" ", 3)
        # What has a suffix, such as the security updates, may come from elsewhere.
        if (component, origin) == ("main", "Debian") and "-" not in release:
            addresses.setdefault(release, address)
    if not addresses:
        raise DebianRootError(
            "apt knows no Debian source of main here; run apt-get update, or name a mirror"
        )
    # A mirror has all releases.
    return addresses.get(SUITE) or next(iter(addresses.values()))


def apt_environment() -> dict[str, str]:
    """Return the environment that makes wget, which debootstrap uses, use apt's proxies."""
    environment = dict(os.environ)
    for scheme in ("http", "https"):
        setting = _output(["apt-config", "shell", "proxy", f"Acquire::{scheme}::Proxy"])
        proxy = "".join(shlex.split(setting)).removeprefix("proxy=")
        if proxy == "DIRECT":
            environment.pop(f"{scheme}_proxy", None)
        elif proxy:
            environment[f"{scheme}_proxy"] = proxy
    return environment


def _make(tree: Path, mirror: str | None, suite: str, packages: tuple[str, ...]) -> None:
    if os.geteuid() != 0:
        raise DebianRootError("debootstrap makes device nodes and changes owners; run as root")
    _install_debootstrap()
    address = mirror or apt_mirror()
    building = Path(tempfile.mkdtemp(prefix=f"{tree.name}.", dir=tree.parent))
    try:
        # In a mount namespace of its own, a debootstrap that dies leaves nothing mounted below
        # the directory that is removed next.
        command = ["unshare", "--mount", "debootstrap", "--variant=minbase"]
        if packages:
            command.append(f"--include={','.join(packages)}")
        _output([*command, suite, str(building), address], apt_environment())
        for package in (building / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        building.chmod(0o755)
        building.rename(tree)
    except BaseException:
        shutil.rmtree(building)
        raise


def _install_debootstrap() -> None:
    if shutil.which("debootstrap"):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-q"]
    _output([*wait, "update"], environment)
    _output([*wait, "install", "--yes", "--no-install-recommends", "debootstrap"], environment)


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it wrote; what it complained of goes into the error."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise DebianRootError(
            f"{command[0]} is not installed; this needs a Debian system"
        ) from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise DebianRootError(f"{' '.join(command)} failed ({done.returncode}):\n{last}")
    return done.stdout


def main() -> int:
    """Print the path of the tree."""
    parser = argparse.ArgumentParser(description="Make a Debian 12 root file system, once.")
    parser.add_argument("cache", nargs="?", type=Path, help="the directory to keep it in")
    parser.add_argument("--mirror", help="where to get packages (default: where apt does)")
    arguments = parser.parse_args()
    try:
        print(debian_root(arguments.cache, arguments.mirror))
    except DebianRootError as error:
        print(f"debian_root: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
