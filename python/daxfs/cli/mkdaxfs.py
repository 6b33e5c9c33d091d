# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`mkdaxfs`, also `mkfs.daxfs`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ._common import (
    DIRECTORY,
    FILE,
    fail,
    json_option,
    print_json,
    refuse_stream,
    run,
    size,
    version_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._daxfs import BuildResult, Report


def _as(check: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Let what the library refuses as an option's value be wrong usage."""

    def callback(_: click.Context, __: click.Parameter, value: Any) -> Any:
        from .. import builder

        try:
            return getattr(builder, check)(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


@click.command()
@click.argument("program", metavar="[-- PROGRAM ARG...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "-d", "--directory", metavar="DIR", type=DIRECTORY, help="Take the tree from a directory."
)
@click.option(
    "--tar", metavar="FILE", type=FILE, help="Take it from a tar archive; - is standard input."
)
@click.option(
    "-o",
    "--output",
    metavar="IMAGE",
    type=FILE,
    callback=refuse_stream,
    help="Write to a file or a device.",
)
@click.option("-p", "--physical", type=size, metavar="ADDR", help="Write to physical memory.")
@click.option("-H", "--heap", metavar="HEAP", help="Write to a DMA heap; with -m, or PROGRAM.")
@click.option(
    "-m", "--mount", "target", metavar="DIR", type=DIRECTORY, help="Mount it there afterwards."
)
@click.option(
    "-s", "--size", "image_size", type=size, metavar="SIZE", help="Size of the whole image."
)
@click.option("-w", "--writable", is_flag=True, help="Make room for branches.")
@click.option(
    "-D",
    "--delta-size",
    type=size,
    metavar="SIZE",
    help="Room for branches; if not given, 64M, or what -s leaves.",
)
@click.option("-V", "--validate", is_flag=True, help="Prove what was built.")
@click.option(
    "--label",
    default="",
    metavar="TEXT",
    callback=_as("as_label"),
    help="Name of the image, at most 63 bytes.",
)
@click.option(
    "--uuid",
    metavar="UUID",
    callback=_as("as_uuid"),
    help="Identity; derived from the contents if not given.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    callback=_as("as_patterns"),
    help="Leave out names that match; with a / in it, paths; ending in /, directories only.",
)
@click.option("--owner", metavar="USER", help="Owner of everything, a name or a number.")
@click.option("--group", metavar="GROUP", help="Group of everything, a name or a number.")
@click.option("--all-root", is_flag=True, help="Everything belongs to user 0 and group 0.")
@click.option("--data-checksums", is_flag=True, help="Keep checksums of contents, too.")
@click.option("--skip-errors", is_flag=True, help="Go on without what cannot be read.")
@click.option("--force", is_flag=True, help="Replace what is there, but no image that is in use.")
@click.option("--dry-run", is_flag=True, help="Only say what would be built, and how large.")
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@version_option
def command(
    program: tuple[str, ...],
    directory: str | None,
    tar: str | None,
    image_size: int | None,
    writable: bool,
    delta_size: int | None,
    validate: bool,
    label: str,
    uuid: str | None,
    exclude: list[str],
    data_checksums: bool,
    skip_errors: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    **rest: Any,
) -> int:
    """Build a daxfs image.

    The same tree gives the same bytes. If SOURCE_DATE_EPOCH is set, later modification times
    become that one. A DMA buffer lives as long as somebody holds it: a mount, or PROGRAM, which
    inherits it as the descriptor that DAXFS_FD says.

    The exit status is 0 if the image was built, 1 if not, or if it is not sound, 2 for wrong
    usage, 130 after Ctrl-C.
    """
    name = click.get_current_context().command_path
    if (directory is None) == (tar is None):
        raise click.UsageError("give either -d or --tar")
    if delta_size is not None and not writable:
        raise click.UsageError("-D is of no use without -w")
    heap: str | None = rest["heap"]
    target: str | None = rest["target"]
    if program and heap is None:
        raise click.UsageError("a program to run goes with -H only: -H HEAP ... -- PROGRAM")
    if heap is not None and not (dry_run or program or target):
        raise click.UsageError("-H needs -m DIR, or a program to run: -H HEAP ... -- PROGRAM")
    if target is not None:
        _check_target(target, rest["output"])
    output = _output(rest["output"], rest["physical"], heap, dry_run)
    owner, group = _owners(rest["owner"], rest["group"], rest["all_root"])

    from ..builder import build
    from ._progress import Bar

    with Bar("Building", quiet=quiet) as bar:
        result = build(
            directory if tar is None else tar,  # type: ignore[arg-type]
            output,
            tar=tar is not None,
            branches=writable,
            delta_size=delta_size,
            size=image_size,
            label=label,
            uuid=uuid,
            exclude=exclude,
            owner=owner,
            group=group,
            clamp_mtime=_clamp_mtime(),
            data_checksums=data_checksums,
            skip_errors=skip_errors,
            force=force,
            dry_run=dry_run,
            progress=bar,
        )
    for path, reason in result.skipped:
        fail(name, f"left out {path}: {reason}")
    report = None
    if validate and not dry_run:
        from .._daxfs import validate as prove

        with Bar("Checking", quiet=quiet) as bar:
            report = prove(
                output if result.fd is None else result.fd,  # type: ignore[arg-type]
                data=data_checksums,
                progress=bar,
            )
    # Standard output is the program's, if one is to run.
    stream = sys.stderr if program else sys.stdout
    if as_json:
        print_json(_described(output, result, report, dry_run), stream)
    elif not quiet:
        from ._summary import show

        show(output, result, report, stream, dry_run=dry_run, force=force, verbose=verbose)
    if report is not None and report.errors:
        for finding in report.findings:
            fail(name, str(finding))
        fail(name, "the image that was built is not sound")
        return 1
    if target is not None and not dry_run:
        from .. import kmod

        assert output is not None
        kmod.mount(output if result.fd is None else f"dmabuf:{result.fd}", target)
    if program:
        assert result.fd is not None
        _become(name, program, result.fd)
    return 0


def _output(file: str | None, address: int | None, heap: str | None, dry_run: bool) -> str | None:
    places = [
        file,
        None if address is None else f"phys:{address:#x}",
        None if heap is None else f"heap:{heap}",
    ]
    given = [place for place in places if place is not None]
    if len(given) > 1 or not (given or dry_run):
        raise click.UsageError("give one of -o, -p and -H")
    return given[0] if given else None


def _check_target(target: str, file: str | None) -> None:
    """Refuse, before anything is built, what could not be mounted afterwards."""
    from .. import kmod

    if file is not None and kmod.settings_of(file) is None:
        raise click.UsageError("-m mounts what lies in memory: a device, -p or -H")
    if not os.path.isdir(target):
        raise click.UsageError(f"{target}: not a directory to mount on")


def _owners(owner: str | None, group: str | None, all_root: bool) -> tuple[int | None, int | None]:
    if all_root:
        if owner is not None or group is not None:
            raise click.UsageError("--all-root leaves nothing for --owner and --group")
        return 0, 0
    return _number_of(owner, "user"), _number_of(group, "group")


def _number_of(name: str | None, kind: str) -> int | None:
    if name is None:
        return None
    if name.isascii() and name.isdecimal():
        # The largest number means "leave it" to the kernel. Python reads no thousands of digits.
        if len(name) <= 10 and int(name) < 0xFFFFFFFF:
            return int(name)
        raise click.UsageError(f"{name}: not a number of a {kind}")
    try:
        if kind == "user":
            import pwd

            return pwd.getpwnam(name).pw_uid
        import grp

        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise click.UsageError(f"no {kind} is called {name!r} on this machine") from None


def _clamp_mtime() -> int | None:
    """Latest modification time that the environment allows, in nanoseconds."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    from ..builder import as_time

    try:
        if text.isascii() and text.removeprefix("-").isdecimal():
            return as_time(int(text) * 10**9)
    except ValueError:
        # So many seconds that no file has such a time, or more digits than Python reads.
        pass
    raise click.UsageError(f"SOURCE_DATE_EPOCH: {text!r} is not a number of seconds, or too large")


def _described(
    output: str | None, result: BuildResult, report: Report | None, dry_run: bool
) -> dict[str, Any]:
    return {
        "output": output,
        "dry_run": dry_run,
        "size": result.size,
        "uuid": result.uuid,
        "files": result.files,
        "directories": result.directories,
        "symlinks": result.symlinks,
        "specials": result.specials,
        "hard_links": result.hard_links,
        "data_bytes": result.data_bytes,
        "metadata_bytes": result.metadata_bytes,
        "regions": [
            {"name": span.name, "offset": span.offset, "size": span.size} for span in result.spans
        ],
        "skipped": [{"path": path, "reason": reason} for path, reason in result.skipped],
        "sound": None if report is None else report.errors == 0,
    }


def _become(name: str, program: tuple[str, ...], fd: int) -> NoReturn:
    os.set_inheritable(fd, True)
    os.environ["DAXFS_FD"] = str(fd)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(program[0], program)
    except OSError as error:
        fail(name, f"{program[0]}: {error.strerror}")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def main() -> NoReturn:
    """Run `mkdaxfs`."""
    run(command)
