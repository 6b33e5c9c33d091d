# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects those whose machines start from an image: Debian as it is, with what a distribution puts
between the kernel and its root, comes up and works, and so do its services.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from devices import MIB, loaded
from guest import KERNEL_FAULT, machine_command
from initramfs import Kernel
from module import build_module
from support.debian_root import debian_root
from vmconfig import BIN

SYSTEM = (
    "busybox",
    "dracut-core",
    "initramfs-tools",
    "overlayroot",
    "systemd-sysv",
    "udev",
    "zstd",
)
ADDRESS = 4 << 30
SIZE = 1024 * MIB

# Tell by the second serial port how the system is, once it is all there, and end.
REPORT = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=sh -c 'touch /home/made && exec >/dev/ttyS1 && findmnt -no FSTYPE / && \
cat /sys/module/daxfs/refcnt && systemctl --failed --no-legend'
ExecStopPost=systemctl poweroff --force
[Install]
WantedBy=multi-user.target
"""

# Prepare a system and its initial file system in a layer above the Debian that all tests have.
PREPARE = """\
set -e
layer() {{ mkdir -p upper/$1 work/$1 && mount -t overlay -o \
    "lowerdir=$2,upperdir=upper/$1,workdir=work/$1" overlay "$3"; }}
cd {scratch}
mkdir root
layer system {debian} root
cp {report} root/etc/systemd/system/report.service
: >root/etc/fstab
chroot root systemctl -q enable report
mkdir -p root/lib/modules/{release}
layer modules {modules}/{release} root/lib/modules/{release}
install -D -t root/lib/modules/{release}/updates {module}
depmod -b root {release}
cp {config} root/boot
mount -t proc proc root/proc
chroot root sh -c {configure}
mv root/initrd .
umount root/proc root/lib/modules/{release}
{mkdaxfs} -q -d root -o image
"""


@pytest.mark.parametrize(
    ("series", "configure", "reserve", "parameters"),
    [
        pytest.param(
            "6.1",
            "echo daxfs >>/etc/initramfs-tools/modules; mkinitramfs -o /initrd {release}",
            f"memmap={SIZE:#x}${ADDRESS:#x}",
            f"root=daxfs rootfstype=daxfs rootflags=phys={ADDRESS:#x} rw overlayroot=tmpfs",
            id="initramfs-tools",
        ),
        pytest.param(
            "6.12",
            "echo 'add_drivers+=\" daxfs nd_pmem overlay \"' >/etc/dracut.conf.d/daxfs.conf;"
            "dracut --quiet --no-hostonly /initrd {release}",
            f"memmap={SIZE:#x}!{ADDRESS:#x}",
            "root=/dev/pmem0 rootfstype=daxfs ro systemd.volatile=overlay",
            id="dracut",
        ),
    ],
)
def test_debian_starts(
    series: str, configure: str, reserve: str, parameters: str, tmp_path: Path
) -> None:
    kernel = Kernel.find(series)
    report = tmp_path / "report.service"
    report.write_text(REPORT)
    values = {
        "scratch": tmp_path,
        "debian": debian_root(packages=SYSTEM),
        "report": report,
        "release": kernel.release,
        "modules": kernel.modules,
        "module": build_module(series),
        "config": kernel.image.with_name(f"config-{kernel.release}"),
        "configure": configure.format(release=kernel.release),
        "mkdaxfs": BIN / "mkdaxfs",
    }
    script = PREPARE.format_map({name: shlex.quote(str(word)) for name, word in values.items()})
    subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True)
    image, told = tmp_path / "image", tmp_path / "told"
    assert image.stat().st_size <= SIZE
    command: list[str | Path] = [
        *machine_command(kernel.architecture, "4G", 2, [loaded(image, ADDRESS)]),
        *("-serial", "stdio", "-serial", f"file:{told}"),
        *("-kernel", kernel.image, "-initrd", tmp_path / "initrd"),
        *("-append", f"console=ttyS0 no_timer_check panic=-1 {reserve} {parameters}"),
    ]
    console = tmp_path / "console"
    with console.open("wb") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, check=True, timeout=600)
    assert not KERNEL_FAULT.search(console.read_text(errors="replace"))
    # One file system of the module's is there, under the layer; no service has failed.
    assert told.read_text().splitlines() == ["overlay", "1"]
