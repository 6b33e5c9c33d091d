# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What every command shares: running, failing, options, output."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from _typeshed import ReadableBuffer
    from click.shell_completion import CompletionItem

    from ..image import Image

Decorated = TypeVar("Decorated", bound="Callable[..., object]")


# Signals that end a command, which cleans up before.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """One of the signals arrived that end a command."""


def run(
    command: click.Command,
    *,
    failed_status: int = 1,
    usage_status: int = 2,
    cancelled_status: int = 130,
) -> NoReturn:
    """Run a command and exit with its status; whatever fails is said in one line.

    Parameters
    ----------
    command : click.Command
        The command; what it returns is the exit status, None is 0.
    failed_status, usage_status, cancelled_status : int, optional
        Exit status when it fails, when the arguments are wrong, and after Ctrl-C.
    """
    name = os.path.basename(sys.argv[0])
    for number in _ENDING:
        # What nohup runs outlives its terminal.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    _occupy_closed()
    _name_output()
    status = failed_status
    try:
        status = _invoke(command, name)
    except click.exceptions.NoArgsIsHelpError as error:
        # The help of a group, whole.
        error.show()
        status = usage_status
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = name if context is None else context.command_path
        fail(where, f"{error.format_message()} ({where} --help says more)")
        status = usage_status
    except KeyboardInterrupt:
        status = cancelled_status
    except Terminated as end:
        status = 128 + end.args[0]
    except OSError as error:
        _tell(name, error)
    except UnicodeEncodeError as error:
        fail(name, f"{error.object}: is not UTF-8")
    except MemoryError:
        fail(name, "out of memory")
    except Exception as error:
        if os.environ.get("DAXFS_TRACEBACK"):
            raise
        fail(name, f"internal error: {type(error).__name__}: {error}")
        fail(name, "please report this; DAXFS_TRACEBACK=1 shows where it happened")
    _exit(status)


def _occupy_closed() -> None:
    """Occupy standard descriptors that were closed, lest files that are opened get their numbers.

    To read or to write there stays an error; only what is said on standard error is lost.
    """
    for number, (name, mode, flags) in enumerate(
        (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
    ):
        # Python has no stream for one that was closed.
        if getattr(sys, name) is None:
            # This gets the lowest number that is free.
            os.open(os.devnull, flags)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


class _Output(io.FileIO):
    """Standard output, whose errors say so: a file or an image may have no space left, too."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            raise


def _name_output() -> None:
    old = sys.stdout
    assert isinstance(old, io.TextIOWrapper)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(old.fileno(), "w", closefd=False)),
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )


def _invoke(command: click.Command, name: str) -> int:
    variable = re.sub(r"\W", "_", f"_{name}_complete").upper()
    if instruction := os.environ.get(variable):
        # A shell asks what could come next; click's own way to run a command does the same.
        from click.shell_completion import shell_complete

        return shell_complete(command, {}, name, variable, instruction)
    try:
        with command.make_context(name, sys.argv[1:]) as context:
            status = command.invoke(context)
    except click.exceptions.Exit as request:
        status = request.exit_code
    sys.stdout.flush()
    return int(status or 0)


def _exit(status: int) -> NoReturn:
    # At once: taking the interpreter apart takes longer than many a command, and frees only what
    # the kernel frees anyway.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(status)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # Only once: what follows cleans up.
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise Terminated(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals end the process: one that waits for a server is deaf to those that it handles."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    handled = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def _tell(name: str, error: OSError) -> None:
    if error.errno == errno.EPIPE:
        # Nobody reads any more; the interpreter would complain of it when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    else:
        fail_with(name, error)


def fail_with(name: str, error: OSError) -> None:
    """Write what an error says to standard error, a line for each thing that is wrong."""
    for line in _lines_of(error):
        fail(name, line)


def _lines_of(error: OSError) -> list[str]:
    from ..errors import BackingError, DaxfsError, ExistsError, InputError

    if isinstance(error, (BackingError, InputError)):
        # What many files or other programs are about; names are escaped there. Elsewhere only
        # names have ends of lines.
        return str(error).split("\n")
    if isinstance(error, ExistsError):
        # The argument of a call is an option here.
        return [str(error).replace("`force`", "--force")]
    if isinstance(error, DaxfsError) or error.strerror is None:
        return [str(error)]
    if error.filename is None:
        return [error.strerror]
    # An empty name as shells write it.
    name = os.fsdecode(error.filename) or "''"
    return [f"{name}: {error.strerror}"]


def fail(name: str, message: str) -> None:
    """Write a message to standard error, on one line, with the command's name before it."""
    print(f"{name}: {escape(message)}", file=sys.stderr)


def escape(text: str) -> str:
    """Return text without what would move a terminal's cursor, and without lone surrogates."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode()


class Output:
    """A stream for names, standard output at first: their own bytes, escaped on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout
        self._stream = stream.buffer
        self._terminal = stream.isatty()

    def line(self, text: str) -> None:
        """Write a line."""
        if self._terminal:
            text = escape(text)
        self._stream.write(text.encode("utf-8", "surrogateescape") + b"\n")


def print_json(value: Any, stream: TextIO | None = None) -> None:
    """Write a value as JSON; bytes of names that are no UTF-8 become escapes of surrogates.

    What an iterator yields becomes a list, written as it comes.
    """
    stream = stream or sys.stdout
    if isinstance(value, Iterator):
        before, after = "[", "[]"
        for member in value:
            stream.write(f"{before}\n  ")
            stream.writelines(_json(member, 1))
            before, after = ",", "\n]"
        stream.write(after)
    else:
        stream.writelines(_json(value))
    stream.write("\n")


def _json(value: Any, depth: int = 0) -> Iterator[str]:
    """Write what `json.dumps` does, which recurses, where a tree may be deeper than the stack."""
    from json import dumps

    end = object()
    # What is still to be written, the last first: with what is before it, and how deep.
    pending = [("", value, depth)]
    while pending:
        before, value, depth = pending.pop()
        yield before
        if value is end:
            continue
        if not (isinstance(value, dict | list) and value):
            yield dumps(value)
            continue
        margin = "\n" + "  " * depth
        members = value.values() if isinstance(value, dict) else value
        if not any(isinstance(member, dict | list) for member in members):
            # Told to indent, the library would be ten times slower.
            flat = dumps(value, separators=(f",{margin}  ", ": "))
            yield f"{flat[0]}{margin}  {flat[1:-1]}{margin}{flat[-1]}"
            continue
        if isinstance(value, dict):
            opening, closing = "{}"
            below = [(f"{dumps(name)}: ", member) for name, member in value.items()]
        else:
            opening, closing = "[]"
            below = [("", member) for member in value]
        pending.append((margin + closing, end, depth))
        for number, (name, member) in reversed(list(enumerate(below))):
            first = "," if number else opening
            pending.append((f"{first}{margin}  {name}", member, depth + 1))


class _HostPath(click.types.StringParamType):
    """Text that a shell completes to paths of the host; whether they are there is not asked."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self._kind)]


FILE, DIRECTORY = _HostPath("file"), _HostPath("dir")


def size(text: str) -> int:
    """Read an option that is a number of bytes."""
    from .. import _daxfs

    try:
        return _daxfs.parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def version_option(command: Decorated) -> Decorated:
    """Add `--version`."""

    def show(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            from .._daxfs import __version__

            print(f"{context.find_root().info_name} (daxfs) {__version__}")
            context.exit()

    decorate = click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )
    return decorate(command)


def image_options(command: Decorated) -> Decorated:
    """Add the argument IMAGE, and how to open it."""
    for decorate in (
        click.option("--trusted", is_flag=True, help="Do not prove the image first."),
        click.option("-b", "--branch", metavar="NAME", help="Look at this branch."),
        click.argument("source", metavar="IMAGE", type=FILE),
    ):
        command = decorate(command)
    return command


def ignore_options(command: Decorated) -> Decorated:
    """Add what not to compare."""
    for what, words in (
        ("xattrs", "extended attributes"),
        ("owner", "owners and groups"),
        ("mtime", "modification times"),
    ):
        add = click.option(f"--ignore-{what}", is_flag=True, help=f"Do not compare {words}.")
        command = add(command)
    return command


def json_option(command: Decorated) -> Decorated:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def open_image(source: str, branch: str | None = None, trusted: bool = False) -> Image:
    """Open the image that a command was asked for."""
    from ..image import open

    with naming(source):
        return open(source, branch=branch, trusted=trusted)


class Attempts:
    """What is tried for one operand after another: each failure is a line, and all are a status.

    What the image refuses is no reason to stop, and with `host` neither is what the host does.
    """

    def __init__(self, *, host: bool = False) -> None:
        from ..errors import DaxfsError

        self._name = click.get_current_context().find_root().command_path
        self._passed = OSError if host else DaxfsError
        self.status = 0

    @contextmanager
    def one(self, *, but: tuple[type[OSError], ...] = ()) -> Iterator[None]:
        """Try something; what is in the way of all else, too, is raised."""
        try:
            yield
        except but:
            raise
        except self._passed as error:
            fail_with(self._name, error)
            self.status = 1


def refuse_stream(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse standard output, as - elsewhere is, where only a file can be."""
    if value == "-":
        raise click.BadParameter("an image is no stream; ./- is a file", context, parameter)
    return value


def is_for_reading_alone(error: OSError) -> bool:
    """Whether something cannot be written to: it is not allowed, or on a read-only medium."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Let errors that are about an image or a file as such say which one it is."""
    from ..errors import DaxfsError

    try:
        yield
    except DaxfsError as error:
        # The engine's messages are of what can be printed, whatever bytes a name has.
        name = escape(source)
        if name not in escape(str(error)):
            error.strerror = f"{name}: {error}"
        raise
