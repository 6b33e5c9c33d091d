# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A virtual machine that runs a real kernel over the host's files.

The guest sees the host's root read-only under a layer of its own memory, so every program and
path of the host works inside. Its working directory is shared: it lies at the same path on both
sides, holds the console log, and keeps the output of each command. A guest of another
architecture has busybox instead of the host's programs.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from architecture import Architecture
from devices import INSIDE, Device
from initramfs import Kernel, write_initramfs
from vmconfig import DEBUG

KERNEL_FAULT = re.compile(
    r"Kernel panic|BUG:|Oops:|general protection fault|WARNING:|KASAN:|UBSAN:"
    r"|INFO: task .* blocked|possible (?:circular|recursive) locking|kmemleak: \d+ new"
    r"|VM_FAULT_OOM leaked"
)


Command = str | Sequence[str | Path]
"""A command line for the shell, or a program with its arguments."""


class GuestError(Exception):
    """The guest could not do what was asked."""


class GuestTimeoutError(GuestError):
    """The guest did not answer in time; it has been killed."""


class EmulatorError(GuestError):
    """QEMU found a mistake of its own, which says nothing of the guest."""


class KernelFaultError(GuestError):
    """The guest's kernel complained of itself."""


@dataclass(frozen=True)
class Result:
    """What a command in the guest left."""

    status: int
    stdout: str
    stderr: str


class Guest:
    """A running virtual machine.

    Parameters
    ----------
    kernel :
        Series of the kernel to boot, such as "6.12".
    workdir :
        An existing directory, shared with the guest at the same path.
    memory :
        Size of the guest's memory, as QEMU takes it.
    cpus :
        Number of the guest's processors.
    devices :
        Kinds of memory the guest shall have, made ready in this order.
    append :
        Further kernel parameters.
    modules :
        Further kernel modules to load.
    boot_timeout :
        Seconds until a silent boot is given up.
    image, daxfs :
        Options with which the module, the file `daxfs`, mounts the guest's root, instead of the
        host's. The working directory is then at /mnt. Without options it is only loaded.
    """

    def __init__(
        self,
        kernel: str,
        workdir: Path,
        *,
        memory: str = "2G",
        cpus: int = 2,
        devices: Sequence[Device] = (),
        append: Sequence[str] = (),
        modules: Sequence[str] = (),
        boot_timeout: float = 180,
        image: str = "",
        daxfs: Path | None = None,
    ) -> None:
        self.kernel = Kernel.find(kernel)
        self.workdir = workdir.resolve(strict=True)
        self.console = self.workdir / "console.log"
        self._jobs = 0
        # A kernel that watches itself takes several times as long for everything.
        self._patience = 6 if kernel == DEBUG else 1
        initrd = self.workdir / "initramfs"
        write_initramfs(initrd, self.kernel, self.workdir, image, daxfs)
        machine = self.kernel.architecture
        (self.workdir / "agent").write_bytes((INSIDE / "agent").read_bytes())
        parameters = (
            *(f"console={machine.console}", "loglevel=5", "panic=-1", "mitigations=off", "nokaslr"),
            # On a busy machine the timer comes too late for a check that panics.
            "no_timer_check",
            *(parameter for device in devices for parameter in device.append),
            *append,
        )
        command: list[str | Path] = [
            *machine_command(machine, memory, cpus, devices),
            *(_share("root", Path("/"), readonly=True) if machine.native else ()),
            *_share("share", self.workdir, readonly=False),
            *("-serial", f"file:{self.console}", "-serial", "stdio"),
            *("-kernel", self.kernel.image, "-initrd", initrd, "-append", " ".join(parameters)),
        ]
        # When memory appears while another processor of the guest runs, QEMU now and then
        # ends on its assertion in iotlb_to_section; nothing was tested yet then.
        for last in (False, False, True):
            try:
                self._start(command, boot_timeout, devices, modules)
            except EmulatorError:
                if last:
                    raise
            else:
                return

    def _start(
        self,
        command: Sequence[str | Path],
        boot_timeout: float,
        devices: Sequence[Device],
        modules: Sequence[str],
    ) -> None:
        """Run QEMU, and wait until the guest is ready."""
        with (self.workdir / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._received = b""
        try:
            self._expect("ready", boot_timeout)
            for device in devices:
                self._load(device.modules)
                if device.setup:
                    self.check(device.setup)
                if device.node:
                    self.wait_for(device.node)
            self._load(modules)
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def run(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Result:
        """Run a command and return what it left.

        Raises
        ------
        GuestTimeoutError
            The command ran longer than `timeout` seconds.
        KernelFaultError
            The kernel complained meanwhile.
        """
        self._jobs += 1
        job = f"{self._jobs:03}"
        line = command if isinstance(command, str) else shlex.join(map(str, command))
        exports = [f"export {name}={shlex.quote(value)}\n" for name, value in (env or {}).items()]
        (self.workdir / f"{job}.sh").write_text("".join([*exports, line, "\n"]))
        if self._qemu.poll() is not None:
            raise GuestError(f"the guest has ended; see {self.workdir}")
        assert self._qemu.stdin is not None
        self._qemu.stdin.write(f"{job}\n".encode())
        self._qemu.stdin.flush()
        status = self._expect(job, timeout)
        self._look_for_fault()
        return Result(
            int(status),
            (self.workdir / f"{job}.out").read_text(errors="replace"),
            (self.workdir / f"{job}.err").read_text(errors="replace"),
        )

    def check(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> str:
        """Run a command that must succeed; return what it printed."""
        result = self.run(command, env=env, timeout=timeout)
        if result.status:
            raise GuestError(f"{command} exited {result.status} in the guest:\n{result.stderr}")
        return result.stdout

    def wait_for(self, pattern: str, timeout: float = 30) -> str:
        """Wait until a file matches `pattern` in the guest; return its path."""
        return self.check(
            f"until ls -d {pattern} 2>/dev/null; do sleep 0.05; done", timeout=timeout
        ).strip()

    def kill(self) -> None:
        """End the guest at once, as a loss of power does."""
        self._qemu.kill()
        self._qemu.communicate()

    def memory_of(self, file: Path) -> tuple[int, int]:
        """Return how much of the host's memory the guest has of a file, and its share of that.

        Both in KiB: resident, and divided by the number of processes that have it.
        """
        text = Path(f"/proc/{self._qemu.pid}/smaps").read_text()
        found = re.search(
            rf"^\S+ \S+ \S+ \S+ \S+ +{re.escape(str(file))}\n(?:\w+: .*\n)+", text, re.MULTILINE
        )
        if found is None:
            raise GuestError(f"the guest does not map {file}")
        sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", found[0], re.MULTILINE))
        return int(sizes["Rss"]), int(sizes["Pss"])

    def _load(self, modules: Sequence[str]) -> None:
        if modules:
            self.check(["modprobe", "-a", *modules])

    def _expect(self, word: str, timeout: float) -> str:
        """Wait for the answer that begins with `word`; return the rest of it."""
        timeout *= self._patience
        deadline = time.monotonic() + timeout
        assert self._qemu.stdout is not None
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._qemu.stdout], [], [], left)[0]:
                self.kill()
                self._look_for_fault()
                raise GuestTimeoutError(f"no answer in {timeout} s; see {self.workdir}")
            arrived = os.read(self._qemu.stdout.fileno(), 4096)
            if not arrived:
                self.kill()
                self._look_for_fault()
                log = (self.workdir / "qemu.log").read_text(errors="replace")
                ended = EmulatorError if self._qemu.returncode == -signal.SIGABRT else GuestError
                raise ended(f"the guest has ended; see {self.console}\n{log}")
            self._received += arrived
        answer, _, self._received = self._received.partition(b"\n")
        first, _, rest = answer.decode(errors="replace").strip().partition(" ")
        if first != word:
            raise GuestError(f"the guest answered {answer!r} instead of {word}; see {self.console}")
        return rest

    def _look_for_fault(self) -> None:
        log = self.console.read_text(errors="replace") if self.console.exists() else ""
        if fault := KERNEL_FAULT.search(log):
            start = log.rfind("\n", 0, fault.start()) + 1
            raise KernelFaultError(f"{log[start : start + 4000]}\n(all of it: {self.console})")


def run(
    kernel: str,
    command: Command,
    workdir: Path,
    *,
    memory: str = "2G",
    devices: Sequence[Device] = (),
    append: Sequence[str] = (),
    modules: Sequence[str] = (),
    timeout: float = 120,
) -> Result:
    """Boot a guest for one command; see `Guest` for the parameters."""
    with Guest(
        kernel, workdir, memory=memory, devices=devices, append=append, modules=modules
    ) as guest:
        return guest.run(command, timeout=timeout)


def machine_command(
    of: Architecture, memory: str, cpus: int, devices: Sequence[Device]
) -> list[str]:
    machine = [of.machine, *dict.fromkeys(part for device in devices for part in device.machine)]
    sizes = [memory, *dict.fromkeys(part for device in devices for part in device.memory)]
    cpu = next((device.cpu for device in devices if device.cpu), of.cpu)
    return [
        # QEMU shall not outlive who started it, however that ends.
        *("setpriv", "--pdeathsig", "KILL"),
        *(of.emulator, "-accel", "tcg", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-machine", ",".join(machine), "-m", ",".join(sizes), "-cpu", cpu, "-smp", str(cpus)),
        *(part for device in devices for part in device.qemu),
    ]


def _share(tag: str, path: Path, *, readonly: bool) -> list[str]:
    mode = "readonly=on" if readonly else "readonly=off"
    escaped = str(path).replace(",", ",,")
    return [
        *("-fsdev", f"local,id={tag},path={escaped},security_model=none,multidevs=remap,{mode}"),
        *("-device", f"virtio-9p-pci,bus=pcie.0,fsdev={tag},mount_tag={tag}"),
    ]
