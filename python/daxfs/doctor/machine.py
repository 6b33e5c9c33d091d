# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Reading a machine's files, all below one root.

Nothing here raises for a file that is missing, unreadable or garbled: the answer is then `None` or
empty, and the check that asked says what that means.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

__all__ = ["Machine", "byte_count", "join_facts"]

# Far above any file read here, so that a strange one cannot exhaust memory.
_READ_LIMIT = 8 << 20
_READ_STEP = 64 << 10
# A sysfs attribute holds one short value; what is longer is not one.
_VALUE_LIMIT = 128
_AT_PAGESZ = 6

_INSTALL = {
    "debian": "sudo apt install",
    "fedora": "sudo dnf install",
    "arch": "sudo pacman -S",
    "suse": "sudo zypper install",
    "alpine": "sudo apk add",
}
_FAMILIES = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora", "opensuse": "suse"}


def byte_count(size: int | None) -> str:
    """Return `size` in binary units, or ``unknown size``."""
    if size is None:
        return "unknown size"
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.4g} {unit}"
        amount /= 1024
    return f"{amount:.4g} TiB"


def join_facts(facts: Iterable[tuple[str, object]]) -> str:
    """Return ``key: value`` lines, leaving out the facts that are not known."""
    return "\n".join(f"{key}: {value}" for key, value in facts if value not in (None, ""))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which ``dax10.0`` comes after ``dax2.0``."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


@dataclass(frozen=True)
class Machine:
    """A machine seen through its file system.

    Attributes
    ----------
    root : Path
        The directory that stands for ``/``.
    """

    root: Path

    def path(self, name: str) -> Path:
        """Return where the absolute path `name` lies below the root."""
        return self.root / name.lstrip("/")

    def data(self, name: str) -> bytes | None:
        """Return a file's bytes, or `None` if it cannot be read."""
        try:
            with self.path(name).open("rb", buffering=0) as file:
                # In small steps: the kernel refuses to read a sysctl into a large buffer.
                steps = iter(partial(file.read, _READ_STEP), b"")
                return b"".join(islice(steps, _READ_LIMIT // _READ_STEP))
        except OSError:
            return None

    def lines(self, name: str) -> list[str]:
        """Return a text file's lines, none if it cannot be read."""
        text = (self.data(name) or b"").decode("utf-8", "replace")
        return [_printable(line.expandtabs()) for line in text.split("\n") if line.strip()]

    def value(self, name: str) -> str | None:
        """Return the one value a procfs or sysfs file holds."""
        lines = self.lines(name)
        return lines[0].strip()[:_VALUE_LIMIT] if lines else None

    def number(self, name: str) -> int | None:
        """Return the number a file holds, decimal or with its ``0x``."""
        try:
            return int(self.value(name) or "", 0)
        except ValueError:
            return None

    def size(self, name: str) -> int | None:
        """Return the number a file holds if it can be a size or an address."""
        number = self.number(name)
        return number if number is not None and 0 <= number < 1 << 64 else None

    def names(self, directory: str) -> list[str]:
        """Return the printable names in a directory, in natural order."""
        try:
            names = os.listdir(self.path(directory))
        except OSError:
            return []
        return sorted((name for name in names if name.isprintable()), key=_natural)

    def link(self, name: str) -> str | None:
        """Return the last component of a symbolic link's target."""
        try:
            return _printable(os.path.basename(os.readlink(self.path(name)))) or None
        except OSError:
            return None

    def exists(self, name: str) -> bool:
        """Tell whether a file is there."""
        return os.path.exists(self.path(name))

    def accessible(self, name: str, mode: int = os.R_OK | os.W_OK) -> bool:
        """Tell whether the permissions of a file let this process use it."""
        return os.access(self.path(name), mode)

    def open_error(self, name: str, flags: int) -> str | None:
        """Return why a file cannot be opened, or `None` if it can.

        Permission bits do not tell all: a container's device rules and lockdown refuse at open.
        """
        try:
            os.close(os.open(self.path(name), flags | os.O_CLOEXEC))
        except OSError as error:
            return error.strerror
        return None

    def which(self, program: str) -> str | None:
        """Return where in ``PATH`` a program lies, as seen from the root."""
        for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
            name = f"{directory}/{program}"
            if directory.startswith("/") and os.path.isfile(self.path(name)):
                return name
        return None

    @cached_property
    def release(self) -> str | None:
        """The kernel's release, as ``uname -r`` prints it."""
        release = self.value("/proc/sys/kernel/osrelease")
        return release if release and "/" not in release else None

    @cached_property
    def architecture(self) -> str | None:
        """The kernel's architecture, as ``uname -m`` prints it."""
        # The file is there since 6.1; the system call answers only for the machine we run on.
        found = self.value("/proc/sys/kernel/arch")
        return found or (os.uname().machine if self.root == Path("/") else None)

    @cached_property
    def page_size(self) -> int | None:
        """The page size the kernel gave to this process."""
        data = self.data("/proc/self/auxv") or b""
        for key, value in struct.iter_unpack("@LL", data[: len(data) & -16]):
            if key == _AT_PAGESZ:
                return int(value)
        return None

    @cached_property
    def modules(self) -> str:
        """The directory of the running kernel's modules."""
        return f"/lib/modules/{self.release or 'unknown'}"

    @cached_property
    def filesystems(self) -> frozenset[str]:
        """The file systems the kernel has registered."""
        return frozenset(line.split()[-1] for line in self.lines("/proc/filesystems"))

    @cached_property
    def command_line(self) -> list[str]:
        """The parameters the kernel was started with."""
        return " ".join(self.lines("/proc/cmdline")).split()

    @cached_property
    def lockdown(self) -> str | None:
        """The lockdown level in force, `None` without that security module."""
        return self.choice("/sys/kernel/security/lockdown")

    def choice(self, name: str) -> str | None:
        """Return the bracketed word of a file such as ``always [never]``."""
        match = re.search(r"\[(\w+)\]", self.value(name) or "")
        return match[1] if match else None

    def module_file(self, module: str) -> str | None:
        """Return the file `modprobe` would load, relative to the modules' directory."""
        for index in ("modules.dep", "modules.builtin"):
            for line in self.lines(f"{self.modules}/{index}"):
                path = line.split(":")[0].strip()
                if re.fullmatch(rf"{re.escape(module)}\.ko(\.\w+)?", os.path.basename(path)):
                    return path
        return None

    @cached_property
    def _config(self) -> dict[str, str] | None:
        packed = self.data("/proc/config.gz")
        candidates: list[bytes | None] = []
        if packed is not None:
            try:
                with gzip.open(io.BytesIO(packed)) as file:
                    candidates.append(file.read(_READ_LIMIT))
            except (OSError, EOFError, zlib.error):
                pass
        candidates += [
            self.data(f"/boot/config-{self.release}"),
            self.data(f"{self.modules}/config"),
        ]
        for data in candidates:
            found = re.findall(
                r"^(CONFIG_\w+)=(.*)$", (data or b"").decode("utf-8", "replace"), re.M
            )
            if found:
                return dict(found)
        return None

    def config(self, option: str) -> str | None:
        """Return a kernel option's value.

        Parameters
        ----------
        option : str
            The option's full name, such as ``CONFIG_FUSE_FS``.

        Returns
        -------
        str or None
            ``y``, ``m``, ``n`` or another value; `None` if the configuration cannot be read.
        """
        return None if self._config is None else self._config.get(option, "n")

    def install(self, package: str, **other: str) -> str:
        """Return the command that installs a package here.

        Parameters
        ----------
        package : str
            The package's name.
        **other : str
            Its name in the distribution families that call it otherwise.
        """
        release = dict(re.findall(r'^(ID|ID_LIKE)="?([^"]*)"?\s*$', self._os_release, re.M))
        for word in f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".lower().split():
            word = word.partition("-")[0]
            family = _FAMILIES.get(word, word)
            if family in _INSTALL:
                return f"{_INSTALL[family]} {other.get(family, package)}"
        return f"install the package {package}"

    @cached_property
    def _os_release(self) -> str:
        return "\n".join(self.lines("/etc/os-release"))

    def tool(self, program: str, package: str, **other: str) -> str:
        """Return the step that installs a program's package, empty if the program is there."""
        return "" if self.which(program) else self.install(package, **other) + "\n"
