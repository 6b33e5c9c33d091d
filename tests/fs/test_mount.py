# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Mounts come and go, and show exactly what is in the image."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pwd
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import daxfs
from daxfs import control
from daxfs.errors import BranchBusyError
from support.mounts import Mounts, memory_of, server_of, wait_for_end
from support.snapshot import Record, compare, snapshot
from support.trees import Options, random_tree


@pytest.fixture
def tree(scratch: Path) -> Path:
    """Make a tree with everything that a tree can hold."""
    root = scratch / "tree"
    root.mkdir()
    random_tree(root, random.Random(4), entries=300, options=Options(sparse_max=4 << 20))
    return root


def _as_stored(tree: Path) -> dict[bytes, Record]:
    """Times of an image are ns in 64 bits; what lies beyond becomes the last that can be said."""
    most = (1 << 63) - 1
    return {
        path: replace(record, mtime_ns=min(record.mtime_ns, most))
        for path, record in snapshot(tree).items()
    }


@pytest.mark.parametrize("room", [None, "16M"])
def test_a_mount_shows_the_tree(mounts: Mounts, tree: Path, room: str | None) -> None:
    mounted = mounts.mount(mounts.build(tree, room))
    expected = _as_stored(tree)
    assert compare(expected, snapshot(mounted)) == []
    # Once more, now from what the kernel keeps.
    assert compare(expected, snapshot(mounted)) == []


@pytest.mark.parametrize("room", [None, "16M"])
def test_many_names_are_listed_in_pieces(mounts: Mounts, scratch: Path, room: str | None) -> None:
    """And whoever reads a directory goes on where it was, whatever others read meanwhile."""
    tree = scratch / "wide"
    tree.mkdir()
    expected = [f"{number:04}-{'x' * (number % 90)}" for number in range(3000)]
    for name in expected:
        (tree / name).touch()
    point = mounts.mount(mounts.build(tree, room))
    one, two = os.scandir(point), os.scandir(point)
    found = [next(one).name for _ in range(1500)]
    assert sorted(entry.name for entry in two) == expected
    assert all(stat.S_ISREG(os.lstat(point / name).st_mode) for name in expected)
    found += [entry.name for entry in one]
    assert sorted(found) == expected
    assert sorted(os.listdir(point)) == expected


def test_small_files_are_there_before_they_are_asked_for(mounts: Mounts, scratch: Path) -> None:
    """Who reads one after the other gets those that follow, whatever lies between them."""
    tree = scratch / "small"
    tree.mkdir()
    files = {f"{number:03}": random.Random(number).randbytes(97 * number) for number in range(60)}
    for name, content in files.items():
        (tree / name).write_bytes(content)
    (tree / "002-directory").mkdir()
    (tree / "003-link").symlink_to("003")
    (tree / "004-large").write_bytes(bytes(100_000))
    point = mounts.mount(mounts.build(tree))
    # The kernel takes nothing of files that it does not know.
    assert len([entry.stat() for entry in os.scandir(point)]) == len(files) + 3
    assert not any(_is_cached(point / name) for name in files)
    for name in ("001", "002"):
        assert (point / name).read_bytes() == files[name]
    deadline = time.monotonic() + 20
    while not all(_is_cached(point / name) for name in ("003", "004", "005", "006")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not _is_cached(point / "004-large")
    for name, content in files.items():
        assert (point / name).read_bytes() == content
        if content:
            with (point / name).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            # What a page has behind the file's end are zeroes.
            last = ctypes.string_at(_address(mapped), -(-len(content) // 4096) * 4096)
            assert last[len(content) :].strip(b"\0") == b""
    assert (point / "004-large").read_bytes() == bytes(100_000)


def _address(mapped: mmap.mmap) -> int:
    return int(np.frombuffer(mapped, np.uint8).__array_interface__["data"][0])


def _is_cached(path: Path) -> bool:
    """Whether the kernel has the first page of a file."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    present = ctypes.c_ubyte()
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mincore(ctypes.c_void_p(_address(mapped)), 4096, ctypes.byref(present))
    assert done == 0, os.strerror(ctypes.get_errno())
    return bool(present.value & 1)


def test_validation_and_trust(mounts: Mounts, tree: Path, scratch: Path) -> None:
    image = mounts.build(tree)
    mounts.mount(image, "ro,validate")
    with image.open("r+b") as file:
        file.seek(image.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))
    bad = scratch / "bad.daxfs"
    bad.write_bytes(b"not an image" * 1000)
    assert "not a daxfs image" in mounts.run("daxfs", "mount", bad, mounts.point(), status=1)


def test_what_cannot_be_mounted_is_said_in_one_line(mounts: Mounts, tree: Path) -> None:
    static, point = mounts.build(tree), mounts.point()
    writable = mounts.build(tree, "16M")
    for image, where, options, said in [
        (static, point, "rw", "mkdaxfs -w"),
        (writable, point, "branch=b", "no such branch: b"),
        (writable, point, "nonsense", "mount option"),
        (writable, point, "parent=main", "branch=NAME"),
        (writable, point / "missing", "ro", "No such file"),
        (writable, static, "ro", "not a directory"),
        (static.with_name("missing"), point, "ro", "No such file"),
        (writable, point, "kernel", "kernel"),
        (writable, point, "fuse,kernel", "kernel"),
    ]:
        answer = mounts.run("daxfs", "mount", "-o", options, image, where, status=1)
        assert said in answer
        assert len(answer.splitlines()) == 1
    assert "no image is mounted there" in mounts.run("daxfs", "umount", point, status=1)


def test_writing_to_main_names_the_branches_to_take(mounts: Mounts, empty: Path) -> None:
    first = mounts.mount(empty, "branch=work,parent=main")
    said = mounts.run("daxfs", "mount", "-o", "rw", empty, mounts.point(), status=1)
    assert "branch=NAME: work" in said
    # The branch itself is taken, too.
    assert "work" in mounts.run(
        "daxfs", "mount", "-o", "branch=work", empty, mounts.point(), status=1
    )
    (first / "made").touch()
    mounts.unmount(first)
    assert (mounts.mount(empty, "ro,branch=work") / "made").exists()
    assert not (mounts.mount(empty, "ro") / "made").exists()


def test_a_mount_that_is_refused_leaves_no_branch(mounts: Mounts, empty: Path) -> None:
    made = "branch=work,parent=main"
    mounts.run("daxfs", "mount", "-o", made, empty, empty, status=1)
    assert "work" not in mounts.run("daxfs-branch", "list", "-i", empty)
    # One that was there before stays.
    mounts.run("daxfs-branch", "create", "work", "-i", empty)
    mounts.run("daxfs", "mount", "-o", made, empty, empty, status=1)
    assert "work" in mounts.run("daxfs-branch", "list", "-i", empty)


def test_a_stale_mount_is_cleared_away(mounts: Mounts, tree: Path) -> None:
    image = mounts.build(tree)
    point = mounts.mount(image)
    mounts.kill(point)
    with pytest.raises(OSError) as caught:
        os.listdir(point)
    # The first to ask may still find the connection going down.
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    mounts.mount(image, point=point)
    assert compare(_as_stored(tree), snapshot(point)) == []
    assert Path("/proc/mounts").read_text().count(str(point)) == 1


@pytest.mark.parametrize("writes", [False, True], ids=["ro", "branch"])
def test_a_server_that_does_not_come_up_leaves_nothing(
    mounts: Mounts, tree: Path, empty: Path, writes: bool
) -> None:
    """Descriptors run out at every point of its start, one after the other."""
    image, point = empty if writes else mounts.build(tree), mounts.point()
    program = Path(sys.executable).with_name("daxfs")
    came_up, branches = [], {"main"}
    for limit in range(4, 60):
        limited = ["prlimit", f"--nofile={limit}:{limit}"]
        options = ["-o", f"branch=b{limit},parent=main"] if writes else []
        done = subprocess.run(
            [*limited, program, "mount", *options, image, point], capture_output=True, check=False
        )
        came_up.append(done.returncode == 0)
        assert point.is_mount() == came_up[-1], (limit, done)
        if came_up[-1]:
            mounts.unmount(point)
            branches |= {f"b{limit}"} if writes else set()
        if writes:
            with daxfs.open(image) as opened:
                assert {branch.name for branch in opened.branches} == branches, (limit, done)
    assert not came_up[0]
    assert came_up[-1]


def test_attributes_of_other_file_systems_are_not_copied(
    mounts: Mounts, empty: Path, scratch: Path
) -> None:
    """Some list what none but they can have; archives of them do, too."""
    other, names = scratch / "other.daxfs", ("btrfs.compression", "user.note")
    with tarfile.open(scratch / "other.tar", "w") as archive:
        entry = tarfile.TarInfo("file")
        entry.pax_headers = {f"SCHILY.xattr.{name}": "zstd" for name in names}
        archive.addfile(entry)
    mounts.run("mkdaxfs", "--tar", scratch / "other.tar", "-o", other)
    file = mounts.mount(other) / "file"
    assert sorted(os.listxattr(file)) == sorted(names)
    mounts.run("daxfs-branch", "create", "b", "-i", empty)
    mounts.run("daxfs-branch", "put", "-a", file, "copy", "-b", "b", "-i", empty)
    with daxfs.open(empty, branch="b") as image:
        assert image.xattrs("copy") == {"user.note": b"zstd"}


def test_sigterm_ends_a_server_and_its_mount(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    (point / "kept").write_text("kept")
    server = server_of(point)
    os.kill(server, signal.SIGTERM)
    wait_for_end(server)
    assert str(point) not in Path("/proc/mounts").read_text()
    assert (mounts.mount(empty, "rw") / "kept").read_text() == "kept"


def test_a_server_takes_only_its_own_mount_away(mounts: Mounts, tree: Path, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    server = server_of(point)
    with (point / "open").open("w"):
        subprocess.run(["umount", "-l", point], check=True)
        mounts.mount(mounts.build(tree), point=point)
        os.kill(server, signal.SIGTERM)
        wait_for_end(server)
    assert compare(_as_stored(tree), snapshot(point)) == []


def test_a_server_finds_its_mount_where_it_was_moved(
    mounts: Mounts, empty: Path, scratch: Path
) -> None:
    top = scratch / "top"
    here, there = top / "here", top / "there, or so"
    for path in (top, here, there):
        path.mkdir()
    # What is shared with other namespaces cannot be moved.
    subprocess.run(["mount", "--bind", "--make-private", top, top], check=True)
    try:
        mounts.mount(empty, "rw", here)
        subprocess.run(["mount", "--move", here, there], check=True)
        (there / "file").touch()
        server = server_of(here)
        os.kill(server, signal.SIGTERM)
        wait_for_end(server)
        assert not there.is_mount()
    finally:
        subprocess.run(["umount", "-lR", top], check=True)


def test_memory_that_is_mounted_is_not_built_into(mounts: Mounts, tree: Path) -> None:
    image = mounts.build(tree)
    point = mounts.mount(image)
    with image.open("r+b") as file:
        for source in (tree, point):
            with pytest.raises(BranchBusyError, match=f"mounted on {point}"):
                daxfs.build(source, file.fileno(), force=True)
        assert compare(_as_stored(tree), snapshot(point)) == []
        mounts.unmount(point)
        daxfs.build(tree, file.fileno(), force=True)
    mounts.sound(image)


@pytest.mark.parametrize("options", ["ro", "rw"])
def test_nobody_is_registered_after_an_unmount(mounts: Mounts, empty: Path, options: str) -> None:
    for _ in range(12):
        point = mounts.mount(empty, options)
        os.listdir(point)
        mounts.unmount(point)
    point = mounts.mount(empty, options)
    server = server_of(point)
    os.kill(server, signal.SIGTERM)
    wait_for_end(server)
    assert _registered(empty) == []


def _registered(image: Path) -> list[int]:
    """Those who have an image open, by its own table; high bits say who has not."""
    data = image.read_bytes()
    table, count = struct.unpack_from("<QI", data, 184)
    words = (struct.unpack_from("<Q", data, table + 64 * slot)[0] for slot in range(count))
    return [word for word in words if word and not word >> 61]


def test_nothing_but_images_is_unmounted(mounts: Mounts, empty: Path) -> None:
    point, image = mounts.point(), mounts.mount(empty)
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        (point / "file").touch()
        for lazy in ([], ["--lazy"]):
            said = mounts.run("daxfs", "umount", *lazy, point, status=1)
            assert "no image is mounted there" in said
        assert (point / "file").exists()
        # The others go all the same.
        mounts.run("daxfs", "umount", point, image, status=1)
        assert not os.path.ismount(image)
    finally:
        subprocess.run(["umount", point], check=True)


def test_a_mount_in_use_stays_and_says_what_takes_it_away(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    with (point / "open").open("w") as file:
        said = mounts.run("daxfs", "umount", point, status=1)
        assert "busy: programs or mounts below use it; -l takes its name away" in said
        assert os.path.ismount(point)
        server = server_of(point)
        mounts.run("daxfs", "umount", "-l", point)
        assert not os.path.ismount(point)
        file.write("as before")
    wait_for_end(server)


def test_a_server_that_goes_on_is_told(mounts: Mounts, empty: Path) -> None:
    point, other = mounts.mount(empty, "rw"), mounts.point()
    subprocess.run(["mount", "--bind", point, other], check=True)
    try:
        assert "the server goes on" in mounts.run("daxfs", "umount", point, status=1)
        assert os.listdir(other) == []
    finally:
        subprocess.run(["umount", other], check=True)


def test_a_server_that_does_not_answer_is_told(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    server = server_of(point)
    away, here = "`daxfs umount -l` takes the mount away", ("-m", point)
    commands: list[tuple[str, tuple[str | Path, ...]]] = [
        ("", ("daxfs", "mount", "-o", "remount,rw", empty, point)),
        (away, ("daxfs", "mount", "-o", "ro", empty, point)),
        (away, ("daxfs", "mount", "-o", "ro", empty, point / "below")),
        ("-l takes the mount away", ("daxfs", "umount", point)),
        (away, ("daxfs-branch", "list", *here)),
        (away, ("daxfs-branch", "create", "b", *here)),
        (away, ("daxfs-branch", "commit", *here)),
        (away, ("daxfs-branch", "gc", *here)),
    ]
    os.kill(server, signal.SIGSTOP)
    try:
        # Each of them waits for some seconds.
        with ThreadPoolExecutor(len(commands)) as pool:
            said = pool.map(lambda command: mounts.run(*command[1], status=1), commands)
        for (advice, _), answer in zip(commands, said, strict=True):
            assert f"the server does not answer{advice and '; '}{advice}" in answer
            assert len(answer.splitlines()) == 1
        assert str(point) in Path("/proc/mounts").read_text()
        mounts.run("daxfs", "umount", "-l", point)
        assert str(point) not in Path("/proc/mounts").read_text()
    finally:
        os.kill(server, signal.SIGCONT)
    wait_for_end(server)


# One whose server stops answering once it has been asked whether it does.
WAITING = """
import sys
from daxfs import mounting
from daxfs.cli import daxfs_branch
mounting.expect_answer = lambda mountpoint: print("asked", flush=True)
daxfs_branch.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_waits_for_a_server_can_be_ended(
    mounts: Mounts, empty: Path, number: signal.Signals
) -> None:
    point = mounts.mount(empty, "rw")
    server = server_of(point)
    os.kill(server, signal.SIGSTOP)
    try:
        waiting = subprocess.Popen(
            [sys.executable, "-c", WAITING, "list", "-m", point], stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "asked\n"
        status = Path(f"/proc/{waiting.pid}/stat")
        while status.read_text().rpartition(")")[2].split()[0] == "R":
            pass
        waiting.send_signal(number)
        try:
            wait_for_end(waiting.pid)
        finally:
            waiting.kill()
            waiting.communicate()
        assert waiting.returncode in (-number, 128 + number)
    finally:
        os.kill(server, signal.SIGCONT)


def test_a_mount_needs_no_proc(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    program = Path(sys.executable).with_name("daxfs")
    script = f"umount -l /proc && {program} mount {image} {point} && umount {point}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_in_the_foreground_ctrl_c_ends_it(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    daxfs_command = str(Path(sys.executable).with_name("daxfs"))
    command = [daxfs_command, "mount", "-f", str(image), str(point)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        assert "mounted" in server.stderr.readline()
        assert os.listdir(point)
        server.send_signal(signal.SIGINT)
        server.wait()
        assert server.returncode == 0
    assert not os.path.ismount(point)


@pytest.fixture
def as_user(
    scratch: Path, install: Callable[[str, str], str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of Python as an ordinary user, who may mount."""
    install("fusermount3", "fuse3")
    # As udev makes it.
    os.chmod("/dev/fuse", 0o666)
    # The interpreter of the tests may lie where only root may look.
    shutil.copytree(Path(daxfs.__file__).parent, scratch / "lib/daxfs")

    def run(
        program: str, *arguments: str | Path, path: str | None = None, user: int = 65534
    ) -> subprocess.CompletedProcess[str]:
        setpriv = shutil.which("setpriv") or "setpriv"
        become = [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        environment = {**os.environ, "PYTHONPATH": str(scratch / "lib")}
        if path is not None:
            environment["PATH"] = path
        return subprocess.run(
            [*become, "/usr/bin/python3", "-c", program, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_an_ordinary_user_mounts(
    mounts: Mounts, tree: Path, as_user: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    point = mounts.point()
    (tree / "for all").write_text("hello")
    image = mounts.build(tree)
    os.chown(point, 65534, 65534)
    program = (
        "import sys, daxfs\n"
        "daxfs.mount(sys.argv[1], sys.argv[2])\n"
        "print(open(sys.argv[2] + '/for all').read())\n"
        "daxfs.unmount(sys.argv[2])\n"
    )
    done = as_user(program, image, point)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_server_short_of_threads_serves_with_fewer_or_says_so(
    mounts: Mounts, tree: Path, as_user: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Whoever was told that the mount answers gets answers."""
    image, point = mounts.build(tree), mounts.point()
    program = (
        "import os, resource, sys, daxfs\n"
        "kind, source, point, limit = resource.RLIMIT_NPROC, *sys.argv[1:]\n"
        "unlimited = resource.getrlimit(kind)\n"
        "resource.setrlimit(kind, (int(limit), unlimited[1]))\n"
        "try:\n"
        "    daxfs.mount(source, point, 'threads=16')\n"
        "except OSError as error:\n"
        "    sys.exit(f'refused: {error}')\n"
        "resource.setrlimit(kind, unlimited)\n"
        "assert os.listdir(point)\n"
        "daxfs.unmount(point)\n"
    )
    refused = []
    # Each another one: what has ended counts until somebody looks after it.
    users = [known.pw_uid for known in pwd.getpwall() if known.pw_uid]
    for limit, user in zip([*range(1, len(users)), 100], users, strict=True):
        os.chown(point, user, user)
        done = as_user(program, image, point, str(limit), user=user)
        refused.append(done.returncode != 0)
        assert done.stderr.startswith("refused: " if refused[-1] else ""), (limit, done.stderr)
        assert "died" not in done.stderr
        assert not point.is_mount()
    assert refused[0]
    assert not refused[-1], done.stderr


def test_an_interrupted_mount_leaves_nothing(
    mounts: Mounts,
    empty: Path,
    scratch: Path,
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Neither the mount, nor the branch that was made for it, nor the server."""
    point, helper = mounts.point(), scratch / "bin/fusermount3"
    for path in (point, empty):
        os.chown(path, 65534, 65534)
    helper.parent.mkdir()
    # The last thing that a server does before it answers.
    helper.write_text(
        '#!/bin/sh\n[ "$1" = -u ] || kill -INT "$CALLER"\n'
        f'exec {shutil.which("fusermount3")} "$@"\n'
    )
    helper.chmod(0o755)
    program = (
        "import os, signal, sys, daxfs\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.environ['CALLER'] = str(os.getpid())\n"
        "daxfs.mount(sys.argv[1], sys.argv[2], 'fuse,branch=b,parent=main')\n"
    )
    done = as_user(program, empty, point, path=f"{helper.parent}:{os.environ['PATH']}")
    assert "KeyboardInterrupt" in done.stderr, done.stderr
    assert not point.is_mount()
    with daxfs.open(empty) as image:
        assert [branch.name for branch in image.branches] == ["main"]
    assert _registered(empty) == []


def test_an_ordinary_user_is_told_what_is_missing(
    mounts: Mounts,
    tree: Path,
    scratch: Path,
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    # As of a search path that was root's.
    (scratch / "closed").mkdir(mode=0o700)
    program = "import sys, daxfs; daxfs.mount(sys.argv[1], sys.argv[2])"
    for path in ("/nowhere", str(scratch / "closed")):
        done = as_user(program, mounts.build(tree), mounts.point(), path=path)
        assert "install the package fuse3" in done.stderr


def test_advice_to_ordinary_users_is_of_what_they_lack(
    mounts: Mounts,
    tree: Path,
    scratch: Path,
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    image, own, others = mounts.build(tree), mounts.point(), mounts.point()
    helper = scratch / "bin/fusermount3"
    helper.parent.mkdir()
    helper.write_text("#!/bin/sh\necho fusermount3: no luck >&2\nexit 1\n")
    helper.chmod(0o755)
    mount = "import sys, daxfs; daxfs.mount(*sys.argv[1:])"
    for point, user, path, said in (
        (
            others,
            65534,
            None,
            f"access to mountpoint {others}; ordinary users mount on directories",
        ),
        (own, 12345, None, "determine username; whoever mounts must have an entry in /etc/passwd"),
        (own, 65534, f"{helper.parent}:{os.environ['PATH']}", "fusermount3 refused: no luck\n"),
    ):
        os.chown(own, user, user)
        assert said in as_user(mount, image, point, user=user, path=path).stderr
    program = Path(sys.executable).with_name("daxfs")
    said = mounts.run("/usr/bin/unshare", "-Ur", program, "mount", image, own, status=1)
    assert "mount failed: Operation not permitted; " in said
    assert said.endswith("unshare -Urm\n")
    mounts.run("/usr/bin/unshare", "-Urm", program, "mount", image, own)
    assert not own.is_mount()


@pytest.mark.parametrize("options", ["allow_other", "noallow_other"])
def test_a_mount_of_somebody_else_is_not_taken_away(
    mounts: Mounts,
    tree: Path,
    options: str,
    as_user: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    point = mounts.mount(mounts.build(tree), options)
    unmount = "import sys, daxfs; daxfs.unmount(sys.argv[1])"
    done = as_user(unmount, point)
    assert f"{point}: cannot unmount: Operation not permitted" in done.stderr
    assert point.is_mount()
    assert "no image is mounted there" in as_user(unmount, mounts.point()).stderr


def test_mount_8_finds_the_helper(mounts: Mounts, tree: Path) -> None:
    image, writable, point = mounts.build(tree), mounts.build(tree, "16M"), mounts.point()
    done = mounts.with_helpers(
        f"mount -t daxfs {image} {point} && "
        f"ls {point} && grep 'fuse.daxfs ro,' /proc/mounts && umount {point} && "
        f"mount -t daxfs -o 'branch=b\\,c,parent=main' {writable} {point} && touch {point}/new && "
        f"mount -o remount,ro,nosuid {point} && ! touch {point}/more 2>/dev/null && "
        f"grep 'fuse.daxfs ro,nosuid,' /proc/mounts && mount -o remount,rw {point} && "
        f"rm {point}/new && umount {point}"
    )
    assert done.returncode == 0, done.stdout
    assert str(image) in done.stdout
    with daxfs.open(writable) as opened:
        assert [branch.name for branch in opened.branches] == ["main", "b,c"]


def test_mount_8_reads_what_others_write(mounts: Mounts, empty: Path) -> None:
    """It says rw where nobody did."""
    work = mounts.mount(empty, "branch=work,parent=main")
    _mounts_for_reading(mounts, empty)
    control.abort(work)
    control.switch(work, "main")
    (work / "file").touch()
    _mounts_for_reading(mounts, empty)


def test_mount_8_reads_what_lies_on_a_read_only_medium(
    mounts: Mounts, empty: Path, scratch: Path
) -> None:
    medium = scratch / "medium"
    medium.mkdir()
    shutil.copy(empty, medium / "image")
    subprocess.run(["mount", "--bind", medium, medium], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", medium], check=True)
        _mounts_for_reading(mounts, medium / "image")
    finally:
        subprocess.run(["umount", medium], check=True)


def _mounts_for_reading(mounts: Mounts, image: Path) -> None:
    point = mounts.point()
    done = mounts.with_helpers(
        f"mount -t daxfs {image} {point} && grep '{point} fuse.daxfs ro,' /proc/mounts && "
        f"umount {point} && ! mount -t daxfs -o branch=work {image} {point}"
    )
    assert done.returncode == 0, done.stdout
    assert f"mount.daxfs: {image}: cannot be written, mounted read-only" in done.stdout


def test_the_helper_says_read_only_of_what_is_mounted_so(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    said = mounts.run("mount.daxfs", image, point, "-o", "rw,nosuid,rw")
    assert said == f"mount.daxfs: {image}: cannot be written, mounted read-only\n"
    assert _options(point) >= {"ro", "nosuid"}
    said = mounts.run("mount.daxfs", image, point / "missing", "-o", "rw", status=32)
    assert "No such file" in said
    assert "mounted read-only" not in said


def test_who_takes_a_mount_away_can_write_at_once(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "branch=work,parent=main")
    for number in range(30):
        (point / "file").write_text(str(number))
        daxfs.unmount(point)
        with daxfs.open(empty, writable=True) as image, image.branch("work", keep=True) as branch:
            assert branch.read_text("file") == str(number)
            branch.write_text("other", str(number))
        mounts.mount(empty, "branch=work", point)
        assert (point / "other").read_text() == str(number)


def test_a_remount_changes_what_it_says_alone(mounts: Mounts, tree: Path, empty: Path) -> None:
    point = mounts.mount(mounts.build(tree), "ro,nosuid,nodev,noatime")
    assert _options(point) >= {"ro", "nosuid", "nodev", "noatime"}
    mounts.run("daxfs", "mount", "-o", "remount,noexec,dev", "image", point)
    assert _options(point) >= {"ro", "nosuid", "noexec", "noatime"}
    mounts.run("daxfs", "mount", "-o", "remount,atime", "image", point)
    assert "nodev" not in _options(point)
    assert _options(point) >= {"ro", "nosuid", "noexec", "relatime"}
    point = mounts.mount(empty, "rw,sync")
    mounts.run("daxfs", "mount", "-o", "remount,nosuid", "image", point)
    assert _options(point) >= {"rw", "nosuid", "sync"}
    mounts.run("daxfs", "mount", "-o", "remount,ro", "image", point)
    mounts.run("daxfs", "mount", "-o", "remount,nosuid,rw", "image", point)
    (point / "made").touch()


def test_what_cannot_be_remounted_stays(
    mounts: Mounts, tree: Path, empty: Path, scratch: Path
) -> None:
    # Whoever serves them only reads.
    for image in (empty, mounts.build(tree)):
        point = mounts.mount(image, "ro")
        said = mounts.run("daxfs", "mount", "-o", "remount,rw", image, point, status=1)
        assert "mounted for reading" in said
        assert "ro" in _options(point)
    foreign = mounts.point()
    subprocess.run(["mount", "-t", "tmpfs", "none", foreign], check=True)
    for options in ("remount,ro", "remount,rw", "remount"):
        for point in (foreign, scratch):
            said = mounts.run("daxfs", "mount", "-o", options, empty, point, status=1)
            assert "no image is mounted there" in said
    assert "rw" in _options(foreign)


def test_a_remount_shows_no_other_branch(mounts: Mounts, tree: Path, empty: Path) -> None:
    """A line of /etc/fstab, with all its options, is no mistake."""
    point = mounts.mount(empty, r"branch=one\,two,parent=main,nocontrol,threads=2,allow_other")
    line = r"remount,nosuid,branch=one\,two,parent=main,validate,nocontrol,threads=3,noallow_other"
    mounts.run("daxfs", "mount", "-o", line, empty, point)
    assert "nosuid" in _options(point)
    static = mounts.mount(mounts.build(tree))
    mounts.run("daxfs", "mount", "-o", "remount,branch=main", empty, static)
    for where in (point, static):
        said = mounts.run("daxfs", "mount", "-o", "remount,dev,branch=c", empty, where, status=1)
        assert f"`daxfs-branch switch c -m {where}` does" in said


def test_options_of_mount_8(mounts: Mounts, tree: Path) -> None:
    image, point = mounts.build(tree), mounts.point()
    done = mounts.with_helpers(
        "for option in lazytime strictatime nosymfollow iversion nolazytime nostrictatime "
        "symfollow noiversion nomand loud X-own.word; do "
        f"mount -t daxfs -o ro,$option {image} {point} && "
        f"grep {point} /proc/mounts && umount {point} || exit; done"
    )
    assert done.returncode == 0, done.stdout
    found = [set(line.split()[3].split(",")) for line in done.stdout.splitlines()]
    assert len(found) == 11
    assert "lazytime" in found[0]
    assert "relatime" not in found[1]
    assert "nosymfollow" in found[2]


def test_reading_changes_no_access_time(mounts: Mounts, tree: Path) -> None:
    (tree / "old").write_text("old")
    os.utime(tree / "old", (1, 2))
    point = mounts.mount(mounts.build(tree, "16M"), "rw,strictatime")
    (point / "new").write_text("new")
    os.utime(point / "new", (3, 4))
    for name, accessed in (("old", 2), ("new", 3)):
        (point / name).read_text()
        assert (point / name).stat().st_atime == accessed


def test_a_mount_is_taken_away_through_a_symbolic_link(
    mounts: Mounts, tree: Path, scratch: Path
) -> None:
    point, link = mounts.point(), scratch / "link"
    link.symlink_to(point)
    image = mounts.build(tree)
    mounts.mount(image, point=link)
    assert point.is_mount()
    mounts.run("daxfs", "umount", link)
    assert not point.is_mount()
    # Also when nobody answers there any more.
    mounts.mount(image, point=point)
    mounts.kill(point)
    mounts.run("daxfs", "umount", link)
    assert str(point) not in Path("/proc/mounts").read_text()


def _options(point: Path) -> set[str]:
    """Options of a mount, as the kernel shows them."""
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next(set(words[3].split(",")) for words in lines if words[1] == str(point))


def test_a_directory_that_changes_is_read_stably(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    names = {f"name {number:04}" for number in range(3000)}
    moved = set()
    for name in names:
        (point / name).touch()
    seen = []
    with os.scandir(point) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 10 == 0:
                (point / f"new {number}").touch()
                (point / f"name {number:04}").rename(point / f"moved {number}")
                moved.add(f"name {number:04}")
    assert len(seen) == len(set(seen))
    # Nobody can say whether what went meanwhile is seen; what stayed is, and nothing else.
    assert names - moved <= set(seen) <= names
    assert set(os.listdir(point)) >= names - moved
    assert not set(os.listdir(point)) & moved
    assert sum(1 for name in os.listdir(point) if name.startswith("new")) == 300


def test_names_that_are_replaced_meanwhile_are_listed(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")
    names = {f"name {number:04}" for number in range(2000)}
    for name in names:
        (point / name).touch()
    seen = []
    with os.scandir(point) as entries:
        seen.append(next(entries))
        for name in names:
            (point / "new").touch()
            (point / "new").rename(point / name)
        seen += entries
    assert len(seen) == len(names)
    assert {entry.name for entry in seen} == names


def test_offsets_of_a_directory_lead_back(mounts: Mounts, tree: Path) -> None:
    wide = tree / "wide"
    wide.mkdir()
    for number in range(2000):
        (wide / f"{number}").touch()
    point = mounts.mount(mounts.build(tree))
    program = r"""
#include <dirent.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    static long at[3000]; static char name[3000][256]; int count = 0;
    DIR *dir = opendir(argv[1]); struct dirent *entry;
    for (; at[count] = telldir(dir), entry = readdir(dir); count++)
        strcpy(name[count], entry->d_name);
    if (count != 2002) return 1;
    for (int i = count - 1; i >= 0; i -= 7) {
        seekdir(dir, at[i]);
        if (!(entry = readdir(dir)) || strcmp(entry->d_name, name[i])) return 2;
    }
    rewinddir(dir);
    return !(entry = readdir(dir)) || strcmp(entry->d_name, name[0]) ? 3 : 0;
}
"""
    source = tree / "seek.c"
    source.write_text(program)
    subprocess.run(["cc", "-o", tree / "seek", source], check=True)
    subprocess.run([tree / "seek", point / "wide"], check=True)


def test_holes_of_the_image_are_holes_of_the_mount(mounts: Mounts, scratch: Path) -> None:
    top = scratch / "sparse"
    top.mkdir()
    with (top / "file").open("wb") as file:
        file.truncate(64 << 20)
        for place in (20 << 20, 40 << 20):
            os.pwrite(file.fileno(), b"data", place)
    (top / "hole").touch()
    os.truncate(top / "hole", 8 << 20)
    point = mounts.mount(mounts.build(top, "16M"), "rw")
    # A block after a hole, and one where there was a hole.
    for root in (top, point):
        with (root / "file").open("r+b") as file:
            os.pwrite(file.fileno(), b"more", 30 << 20)
        os.sync()
    starts = [0, 1 << 20, 20 << 20, (20 << 20) + 4096, 30 << 20, 40 << 20, (64 << 20) - 1]
    for name in ("file", "hole"):
        found = []
        for root in (top, point):
            with (root / name).open("rb") as file:
                for start in [start for start in starts if start < (root / name).stat().st_size]:
                    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                        try:
                            found.append(os.lseek(file.fileno(), start, whence))
                        except OSError as error:
                            found.append(error.errno or 0)
        assert found[: len(found) // 2] == found[len(found) // 2 :], name


def test_the_server_is_small(mounts: Mounts, tree: Path) -> None:
    # As many threads as on a larger machine: none of them may cost a buffer for whole requests.
    point = mounts.mount(mounts.build(tree), "threads=16")
    snapshot(point)
    status = Path(f"/proc/{server_of(point)}/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    assert int(anonymous.split()[1]) < 30 * 1024


def test_main_outlives_its_log(mounts: Mounts, tree: Path) -> None:
    image = mounts.build(tree, "4M")
    point = mounts.mount(image, "rw")
    with open(point / "open", "w+b", buffering=0) as file, open(point / "mapped", "w+b") as mapped:
        mapped.truncate(8192)
        memory = mmap.mmap(mapped.fileno(), 8192)
        # Their entries are more than there is room for.
        for number in range(16_000):
            path = point / f"passing {number % 7}"
            path.write_bytes(b"x" * (number % 50))
            if number % 1000 == 0:
                file.write(b"%6d" % number)
                memory[number // 1000] = 65 + number // 1000
            path.unlink()
        file.seek(0)
        assert file.read() == b"".join(b"%6d" % (number * 1000) for number in range(16))
        assert memory[:17] == b"ABCDEFGHIJKLMNOP\0"
        memory.close()
    mounts.unmount(point)
    mounts.sound(image)
    point = mounts.mount(image, "ro")
    assert (point / "mapped").read_bytes()[:17] == b"ABCDEFGHIJKLMNOP\0"
    assert (point / "open").stat().st_size == 16 * 6
    assert not list(point.glob("passing*"))


def test_open_directories_share_what_they_hold(mounts: Mounts, scratch: Path) -> None:
    directory = scratch / "tree/many"
    directory.mkdir(parents=True)
    names = {f"a file of some number {number}" for number in range(20_000)}
    for name in names:
        (directory / name).touch()
    point = mounts.mount(mounts.build(scratch / "tree", "16M"), "rw")
    server = server_of(point)
    open_ones = [os.scandir(point / "many")]
    found = {next(open_ones[0]).name}
    before = memory_of(server)
    for _ in range(100):
        open_ones.append(os.scandir(point / "many"))
        next(open_ones[-1])
    assert memory_of(server) - before < 10 << 20
    # What changes is seen by who begins afterwards, and not by who reads.
    (point / "many/new").touch()
    assert "new" in os.listdir(point / "many")
    assert found | {entry.name for entry in open_ones[0]} == names
    for one in open_ones:
        one.close()
    assert os.listdir(point / "many").count("new") == 1


def test_what_filled_a_mount_makes_room_at_once(mounts: Mounts, empty: Path) -> None:
    point = mounts.mount(empty, "rw")

    def fill(path: Path) -> int:
        with path.open("wb", 0) as file:
            with suppress(OSError):
                while file.write(bytes(64 << 10)):
                    pass
            with pytest.raises(OSError, match="No space"):
                file.write(bytes(64 << 10))
            return file.tell()

    first = fill(point / "first")
    (point / "first").unlink()
    second = fill(point / "second")
    assert second > first * 9 // 10
    (point / "second").unlink()
    mounts.unmount(point)
    mounts.sound(empty)
