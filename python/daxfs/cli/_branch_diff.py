# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs-branch diff`."""

from __future__ import annotations

import difflib
import itertools
import re
import stat
from typing import TYPE_CHECKING, Any

import click

from ._branch_target import image_or_mount, open_to_look, place_of
from ._common import Output, ignore_options, json_option, print_json
from ._files import byte_count, count_of, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._daxfs import PathChange, Stat, Tree
    from ..image import Image

_LETTERS = {"added": "A", "changed": "M", "removed": "D"}
# Bytes of a file that is compared line by line: that may take time as the square of its lines.
_TEXT_MAX = 4 << 20
# What ends a name or its line in a patch, or begins a quoted one.
_SPECIAL = re.compile(r'[\x00-\x1f\x7f"\\]| $')


@click.command()
@click.argument("first", metavar="[A]", required=False)
@click.argument("second", metavar="[B]", required=False)
@click.option("-b", "--branch", metavar="NAME", help="As A.")
@click.option("--stat", "show_stat", is_flag=True, help="Show how large files became, and a sum.")
@click.option("--content", is_flag=True, help="Show changes of text up to 4 MiB, line by line.")
@click.option("--name-only", is_flag=True, help="Show paths alone.")
@ignore_options
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there is a difference.")
@image_or_mount
@json_option
def diff(
    source: str | None,
    mount: str | None,
    first: str | None,
    second: str | None,
    branch: str | None,
    show_stat: bool,
    content: bool,
    name_only: bool,
    exit_code: bool,
    as_json: bool,
    **ignored: Any,
) -> int:
    """Show what changed from branch A to branch B; with A alone, what A changed.

    On a mount, A is what the mount shows if it is not given. Every path that was added (A),
    changed (M) or removed (D) is a line, with what changed.
    """
    if sum((show_stat, content, name_only, as_json)) > 1:
        raise click.UsageError("give one of --stat, --content, --name-only and --json")
    if branch is not None and first is not None:
        if second is not None:
            raise click.UsageError("A is given twice")
        first, second = branch, first
    place = place_of(source, mount)
    first = next((name for name in (first, branch, place.shown) if name is not None), None)
    if first is None:
        raise click.UsageError("say which branch: A, or -b NAME")
    from .. import _daxfs

    with open_to_look(place.source, place.uuid) as image:
        old, new = _sides(image, first, second)
        before, after = image.tree(old), image.tree(new)
        found = _daxfs.changes(before, after, **ignored)
        output = Output()
        if as_json:
            print_json(_described(change) for change in found)
        elif show_stat:
            _show_stat(output, found)
        elif content:
            for change in found:
                for line in _text(before, after, change):
                    output.line(line)
        else:
            for change in found:
                output.line(change.path if name_only else _summary(change))
    return 1 if found and exit_code else 0


def _sides(image: Image, first: str, second: str | None) -> tuple[str, str]:
    """Names of what to compare, the older first."""
    if second is not None:
        return first, second
    parent = image.branches[first].parent
    if parent is None and first != "main":
        parent = "main"
    if parent is None:
        raise click.UsageError("main was made from no branch; say what to compare it with")
    return parent, first


def _summary(change: PathChange) -> str:
    line = f"{_LETTERS[change.kind]} {change.path}"
    info = change.after or change.before
    if info is not None and info.is_dir() and change.path != "/":
        line += "/"
    return line + (f"  ({', '.join(change.aspects)})" if change.aspects else "")


def _described(change: PathChange) -> dict[str, Any]:
    def side(info: Stat | None) -> dict[str, Any] | None:
        if info is None:
            return None
        return {
            "type": kind_of(info.st_mode),
            "mode": f"{stat.S_IMODE(info.st_mode):04o}",
            "uid": info.st_uid,
            "gid": info.st_gid,
            "size": info.st_size,
            "mtime_ns": info.st_mtime_ns,
        }

    return {
        "path": change.path,
        "kind": change.kind,
        "aspects": change.aspects,
        "before": side(change.before),
        "after": side(change.after),
    }


def _bytes_of(info: Stat | None) -> int:
    return info.st_size if info is not None and info.is_file() else 0


def _show_stat(output: Output, found: list[PathChange]) -> None:
    width = max((len(change.path) for change in found), default=0)
    more = less = 0
    for change in found:
        grown = _bytes_of(change.after) - _bytes_of(change.before)
        more, less = more + max(0, grown), less + max(0, -grown)
        sizes = ""
        if _bytes_of(change.before) or _bytes_of(change.after):
            sizes = f"{_bytes_of(change.before)} -> {_bytes_of(change.after)} bytes"
        what = sizes or ", ".join(change.aspects)
        line = f" {_LETTERS[change.kind]} {change.path:<{width}} | {what}"
        output.line(line.rstrip(" |"))
    counts = {kind: sum(change.kind == kind for change in found) for kind in _LETTERS}
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    total = count_of(len(found), "path")
    output.line(
        f" {total}{': ' if said else ''}{said}; "
        f"{byte_count(more)} more, {byte_count(less)} less in files"
    )


def _text(before: Tree, after: Tree, change: PathChange) -> Iterator[str]:
    """Describe what became of a path, as a unified diff with extended headers."""
    sides = _named(f"a{change.path}"), _named(f"b{change.path}")
    yield f"diff {sides[0]} {sides[1]}"
    old, new = change.before, change.after
    if old is None and new is not None:
        yield f"new {kind_of(new.st_mode)} mode {new.st_mode:06o}"
    elif new is None and old is not None:
        yield f"deleted {kind_of(old.st_mode)} mode {old.st_mode:06o}"
    elif old is not None and new is not None:
        if old.st_mode != new.st_mode:
            yield f"old mode {old.st_mode:06o}"
            yield f"new mode {new.st_mode:06o}"
        if "owner" in change.aspects:
            yield f"old owner {old.st_uid}:{old.st_gid}"
            yield f"new owner {new.st_uid}:{new.st_gid}"
        if rest := [word for word in change.aspects if word in ("device", "mtime", "xattrs")]:
            yield f"changed {', '.join(rest)}"
        if not {"content", "target", "type"} & set(change.aspects):
            return
    names = "/dev/null" if old is None else sides[0], "/dev/null" if new is None else sides[1]
    if max(_bytes_of(old), _bytes_of(new)) > _TEXT_MAX:
        yield f"Large files {names[0]} and {names[1]} differ"
        return
    first, second = _contents(before, change.path, old), _contents(after, change.path, new)
    if first is None and second is None:
        return
    lines = _lines(first or b""), _lines(second or b"")
    if lines[0] is None or lines[1] is None:
        yield f"Binary files {names[0]} and {names[1]} differ"
        return
    # A name goes up to a tab, where there is one.
    heads = [f"{name}\t" if " " in name else name for name in names]
    text = difflib.unified_diff(lines[0], lines[1], heads[0], heads[1], lineterm="")
    yield from itertools.islice(text, 2)
    for line in text:
        if line.endswith("\n"):
            yield line[:-1]
        elif line.startswith("@@"):
            yield line
        else:
            yield line
            yield "\\ No newline at end of file"


def _named(path: str) -> str:
    """Write a name as patch(1) and git read it: in quotes, with escapes, where it needs them."""
    if not _SPECIAL.search(path):
        return path
    return '"' + _SPECIAL.sub(lambda found: _escaped(found[0]), path) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char == " " else f"\\{ord(char):03o}"


def _contents(tree: Tree, path: str, info: Stat | None) -> bytes | None:
    """Return the bytes of a file, or of a link's target; None of anything else."""
    if info is not None and info.is_symlink():
        return tree.readlink(path).encode("utf-8", "surrogateescape")
    return tree.read_bytes(path) if info is not None and info.is_file() else None


def _lines(data: bytes) -> list[str] | None:
    """Return the lines of text, with their ends; None of what is none."""
    if b"\0" in data[:8192]:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
