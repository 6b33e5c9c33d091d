# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Ordinary users mount, and are told what they lack."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import daxfs
from support.mounts import Mounts, registered


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
    assert registered(empty) == []


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
    unlucky = f"{helper.parent}:{os.environ['PATH']}"
    mount = "import sys, daxfs; daxfs.mount(*sys.argv[1:])"
    for point, user, path, said in (
        (
            others,
            65534,
            None,
            f"access to mountpoint {others}; ordinary users mount on directories",
        ),
        (own, 12345, None, "determine username; whoever mounts must have an entry in /etc/passwd"),
        (own, 65534, unlucky, "fusermount3 refused: no luck\n"),
    ):
        os.chown(own, user, user)
        assert said in as_user(mount, image, point, user=user, path=path).stderr
    program = Path(sys.executable).with_name("daxfs")
    said = mounts.run("/usr/bin/unshare", "-Ur", program, "mount", image, own, status=1)
    assert "mount failed: Operation not permitted; " in said
    assert said.endswith("unshare -Urm\n")
    mounts.run("/usr/bin/unshare", "-Urm", program, "mount", image, own)
    assert not own.is_mount()
    unmount = "import sys, daxfs; daxfs.unmount(*sys.argv[1:])"
    mounts.mount(image, "ro", own)
    assert "fusermount3 refused: no luck\n" in as_user(unmount, own, path=unlucky).stderr


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
