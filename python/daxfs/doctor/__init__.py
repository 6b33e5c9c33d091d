# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What this machine offers to daxfs, and what to do about what is missing.

The examination only looks: it loads no module, changes no setting and writes no file. Everything is
read below one root, so that a directory can stand for a machine.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from .devices import check_cxl, check_dax, check_dma_buf, check_pmem
from .host import check_host, check_shared_memory
from .machine import Machine
from .mount import check_fuse, check_module
from .physical import check_dev_mem, check_reserved
from .report import Check, Report, Status, render

__all__ = ["Check", "Report", "Status", "examine", "render"]

_GROUPS = (
    check_host,
    check_shared_memory,
    check_fuse,
    check_module,
    check_dax,
    check_pmem,
    check_cxl,
    check_dma_buf,
    check_dev_mem,
    check_reserved,
)


def examine(root: Path = Path("/")) -> Report:
    """Examine a machine.

    Parameters
    ----------
    root : Path, optional
        The directory that stands for the machine's ``/``.

    Returns
    -------
    Report
        Every check; a file that is missing, unreadable or garbled becomes a finding, not an error.
    """
    machine = Machine(root)
    return Report(tuple(chain.from_iterable(group(machine) for group in _GROUPS)))
