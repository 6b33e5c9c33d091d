# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What an examination of a machine found, and how it reads as text and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["Check", "Report", "Status", "render"]

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Check:
    """One thing daxfs can use, or the lack of it.

    Attributes
    ----------
    name : str
        A stable ``group`` or ``group/item`` name, such as ``dax/dax0.0``.
    status : {"ok", "warning", "missing"}
        ``ok``: usable now. ``warning``: there, but something is in the way. ``missing``: absent.
    summary : str
        One line: what was found.
    detail : str
        The facts behind the summary, one a line; may be empty.
    advice : str
        What to do about it, one step a line; empty when there is nothing to do.
    """

    name: str
    status: Status
    summary: str
    detail: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """The checks of one examination, in the order they were made.

    Attributes
    ----------
    checks : tuple of Check
    """

    checks: tuple[Check, ...]

    def to_json(self) -> str:
        """Return the report as a JSON object with the one member ``checks``."""
        return json.dumps({"checks": [asdict(check) for check in self.checks]}, indent=2)


def render(report: Report, *, verbose: bool = False) -> str:
    """Lay a report out as plain text.

    Parameters
    ----------
    report : Report
        The report.
    verbose : bool, optional
        Also print each check's details beneath it.

    Returns
    -------
    str
        One aligned line a check, its advice indented beneath it, ending in a newline.
    """
    name_width = max((len(check.name) for check in report.checks), default=0)
    indent = " " * (len("missing") + name_width + 4)
    lines: list[str] = []
    for check in report.checks:
        lines.append(f"{check.status:<7}  {check.name:<{name_width}}  {check.summary}".rstrip())
        if verbose:
            lines.extend(indent + line for line in check.detail.splitlines())
        lines.extend(f"{indent}-> {line}" for line in check.advice.splitlines())
    return "".join(line + "\n" for line in lines)
