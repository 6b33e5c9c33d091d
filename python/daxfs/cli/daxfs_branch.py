# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs-branch`: the branches of an image, made, looked at, changed and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click

from ._branch_diff import diff
from ._branch_files import make_directory, move, put, remove
from ._branch_target import (
    branch_argument,
    image_or_mount,
    open_for_change,
    open_to_look,
    place_of,
    reached,
)
from ._common import DIRECTORY, Attempts, Output, json_option, print_json, run, version_option
from ._files import byte_count, count_of, full_time, maintained

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._daxfs import BranchStatus
    from ..control import MountedBranch


@click.group()
@version_option
def command() -> None:
    """Work with the branches of a daxfs image.

    A branch is an image's tree with changes of its own. Committing one makes it main, in one
    atomic step; all others of its generation are void then. Say with -i where the image is, or
    with -m where it is mounted. It is not proved first: fsck.daxfs does that.
    """


@command.command()
@click.argument("name")
@click.option(
    "-p", "--parent", metavar="NAME", help="What it begins as; main, or what the mount shows."
)
@image_or_mount
def create(source: str | None, mount: str | None, name: str, parent: str | None) -> None:
    """Make a branch.

    While it lives its parent cannot be written. A mount is switched to the new branch.
    """
    if source is None:
        from .. import control

        with reached(mount) as point:
            control.create(point, name, parent)
        return
    parent = "main" if parent is None else parent
    with open_for_change(source) as image:
        image.branch(name, parent=parent, create=True, keep=True).close()


@command.command("list")
@image_or_mount
@json_option
def list_branches(source: str | None, mount: str | None, as_json: bool) -> None:
    """Show the branches as a tree: size of changes, age, and who writes."""
    from . import _branch_list

    if source is None:
        from .. import control

        with reached(mount) as point:
            rows = [_branch_list.of_mount(branch) for branch in control.branches(point)]
    else:
        with open_to_look(source) as image:
            rows = [_branch_list.of_image(status) for status in image.branches]
    if as_json:
        print_json(rows)
    else:
        _branch_list.show(rows)


@command.command()
@branch_argument
@image_or_mount
def commit(source: str | None, mount: str | None, name: str) -> None:
    """Make a branch main, and with it the branches that it was made from.

    Every other branch of the same generation is void from then on. The exit status is 1 if
    another one was committed first.
    """
    if source is None:
        from .. import control

        with reached(mount) as point:
            control.commit(point, name)
        return
    with open_for_change(source) as image:
        image.commit_branch(name)


@command.command()
@branch_argument
@image_or_mount
def abort(source: str | None, mount: str | None, name: str) -> None:
    """End a branch and drop its changes."""
    if source is None:
        from .. import control

        with reached(mount) as point:
            control.abort(point, name)
        return
    with open_for_change(source) as image:
        image.abort_branch(name)


@command.command()
@click.argument("name")
@click.option(
    "-m", "--mount", metavar="DIRECTORY", type=DIRECTORY, required=True, help="Where it is mounted."
)
def switch(mount: str, name: str) -> None:
    """Show another branch on a mount."""
    from .. import control

    with reached(mount) as point:
        control.switch(point, name)


@command.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="And the branches that were made from it.")
@image_or_mount
def delete(source: str | None, mount: str | None, names: tuple[str, ...], recursive: bool) -> int:
    """Delete branches, with their changes."""
    attempts = Attempts()
    if source is None:
        from .. import control

        with reached(mount) as point:
            below = _and_below(names, control.branches(point)) if recursive else names
            for name in below:
                with attempts.one():
                    control.abort(point, name)
        return attempts.status
    with open_for_change(source) as image:
        for name in _and_below(names, image.branches) if recursive else names:
            with attempts.one():
                image.abort_branch(name)
    return attempts.status


def _and_below(names: Iterable[str], branches: Iterable[BranchStatus | MountedBranch]) -> list[str]:
    """Return branches and what was made from them, each after what was made from it."""
    children: dict[str | None, list[str]] = {}
    for branch in branches:
        # main cannot go, so what was made from it stays, too.
        if branch.parent != "main":
            children.setdefault(branch.parent, []).append(branch.name)
    found = list(dict.fromkeys(names))
    for name in found:
        found += [child for child in children.get(name, []) if child not in found]
    return found[::-1]


@command.command()
@image_or_mount
@json_option
def gc(source: str | None, mount: str | None, as_json: bool) -> None:
    """Give back the space of branches that have ended, and fold main's history.

    This happens by itself when space is needed; what somebody still reads stays until later.
    """
    place = place_of(source, mount)
    with open_for_change(place.source, place.uuid) as image:
        done = image.maintain()
    if as_json:
        kept = {"kept_records": done.kept_records, "reader": done.reader}
        print_json({"busy": done.busy, **maintained(done), **kept})
        return
    output = Output()
    if done.busy:
        output.line(f"{place.source}: another process is at it")
    output.line(
        f"{place.source}: freed {byte_count(done.bytes + done.leaked_bytes)} "
        f"and {count_of(done.records, 'record')}, folded {count_of(done.folded_layers, 'layer')}"
    )
    if done.kept_records:
        output.line(
            f"{place.source}: {count_of(done.kept_records, 'record')} of ended branches kept: "
            f"process {done.reader} still holds or reads a branch as it was before they ended"
        )


@command.command()
@branch_argument
@click.option("--force", is_flag=True, help="Also from a process that nobody can tell dead.")
@image_or_mount
def release(source: str | None, mount: str | None, name: str | None, force: bool) -> None:
    """Take a branch from a process that died while it wrote to it.

    With --force also from one of another system, which may be alive: then the branch can be read
    and committed, but not written any more.
    """
    if name is None:
        raise click.UsageError("say which branch: NAME or -b NAME")
    place = place_of(source, mount)
    with open_for_change(place.source, place.uuid) as image:
        if not image.release_branch(name, force=force):
            Output().line(f"{name}: nobody held it")


@command.command()
@branch_argument
@image_or_mount
@json_option
def log(source: str | None, mount: str | None, name: str | None, as_json: bool) -> None:
    """Show what was done in a branch, entry by entry, oldest first.

    Paths are those of that moment. A file that had no name left, or that another one was renamed
    over, is told by the number of its inode.
    """
    from .. import _daxfs

    place = place_of(source, mount)
    name = place.shown or "main" if name is None else name
    with open_to_look(place.source, place.uuid) as image:
        entries = _daxfs.log(image, name)
    if as_json:
        print_json(
            [
                {
                    "offset": entry.offset,
                    "time_ns": entry.time_ns,
                    "ino": entry.ino,
                    "path": entry.path,
                    "new_path": entry.new_path,
                    "kind": entry.kind,
                    "detail": entry.detail,
                }
                for entry in entries
            ]
        )
        return
    output = Output()
    for entry in entries:
        path = f"inode {entry.ino}" if entry.path is None else entry.path
        if entry.new_path is not None:
            path += f" -> {entry.new_path}"
        line = f"{full_time(entry.time_ns)}  {entry.kind:<11}  {path}"
        output.line(f"{line}  ({entry.detail})" if entry.detail else line)


for _more in (diff, put, remove, make_directory, move):
    command.add_command(_more)


def main() -> NoReturn:
    """Run `daxfs-branch`."""
    run(command)
