# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The small initial file system that carries a guest to the host's root."""

from __future__ import annotations

import lzma
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from architecture import Architecture, of_kernel
from devices import INSIDE
from vmconfig import kernel_cache

# What the guest needs to reach the host's root; several are built in on some kernels.
ROOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its image and its modules.

    Attributes
    ----------
    series :
        The name that it goes by here, such as "6.12".
    image :
        The file to boot.
    modules :
        The directory that holds one directory of modules per release, as /lib/modules does.
    release :
        What ``uname -r`` says.
    architecture :
        The machine that it runs on.
    busybox :
        A static busybox for it.
    system :
        The system that builds modules for it; this one where there is none.
    """

    series: str
    image: Path
    modules: Path
    release: str
    architecture: Architecture
    busybox: Path
    system: Path | None

    @classmethod
    def find(cls, series: str) -> Kernel:
        """Return the kernel that setup.py unpacked for `series`, such as "6.12"."""
        root = kernel_cache() / series
        if not (root / "packages").is_file():
            raise FileNotFoundError(f"no kernel in {root}: run {Path(__file__).parent}/setup.py")
        (modules,) = (root / "lib/modules").iterdir()
        architecture = of_kernel(series)
        busybox = shutil.which("busybox") if architecture.native else root / "bin/busybox"
        if busybox is None:
            raise FileNotFoundError(f"no busybox: run {Path(__file__).parent}/setup.py")
        image = root / f"boot/vmlinuz-{modules.name}"
        system = root / "system"
        return cls(
            series,
            image,
            modules.parent,
            modules.name,
            architecture,
            Path(busybox),
            system if system.is_dir() else None,
        )

    def load_order(self, names: tuple[str, ...]) -> list[Path]:
        """Return the files of modules `names` and of what they need, in loading order."""
        root = self.modules / self.release
        needs: dict[str, list[str]] = {}
        for line in (root / "modules.dep").read_text().splitlines():
            module, _, after = line.partition(":")
            needs[module] = after.split()
        files = {Path(file).name.partition(".")[0]: file for file in needs}
        order: dict[str, None] = {}
        for file in (files[name] for name in names if name in files):
            # modules.dep names all needs of a module, direct or not, the deepest last.
            order.update(dict.fromkeys([*reversed(needs[file]), file]))
        return [root / file for file in order]


def write_initramfs(
    target: Path, kernel: Kernel, share: Path, image: str = "", module: Path | None = None
) -> None:
    """Write to `target` the file system from which `kernel` starts with `share` writable.

    Without options of an `image`, which daxfs, the `module`, is to mount, the root is the host's,
    or stays this file system where the host's programs do not run.
    """
    root_is = "image" if image else "host" if kernel.architecture.native else "initramfs"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "bin").mkdir()
        (root / "modules").mkdir()
        shutil.copy(kernel.busybox, root / "bin/busybox")
        shutil.copy(INSIDE / "init", root / "init")
        (root / "init").chmod(0o755)
        names = []
        needed = ROOT_MODULES if module is None else (*ROOT_MODULES, "crc32c_generic", "libcrc32c")
        for file in [*kernel.load_order(needed), *([] if module is None else [module])]:
            content = file.read_bytes()
            if file.suffix == ".xz":
                content = lzma.decompress(content)
            names.append(file.name.removesuffix(".xz"))
            (root / "modules" / names[-1]).write_bytes(content)
        (root / "boot.conf").write_text(
            f"modules={shlex.quote(' '.join(names))}\n"
            f"module_dir={shlex.quote(str(kernel.modules))}\n"
            f"share={shlex.quote(str(share))}\n"
            f"root={root_is}\n"
            f"image={shlex.quote(image)}\n"
            f"port={kernel.architecture.port}\n"
        )
        members = b"\0".join(bytes(path.relative_to(root)) for path in root.rglob("*"))
        with target.open("wb") as archive:
            subprocess.run(
                ["cpio", "--quiet", "--null", "--create", "--format=newc", "--owner=+0:+0"],
                cwd=root,
                input=members,
                stdout=archive,
                check=True,
            )
