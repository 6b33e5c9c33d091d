# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Programs that people run do on a branch what they do anywhere else."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daxfs import control
from support.mounts import Mounts
from support.snapshot import compare, snapshot

Install = Callable[[str, str], str]


@pytest.fixture
def point(mounts: Mounts, empty: Path) -> Path:
    """Mount a branch of an empty image."""
    return mounts.mount(empty, "branch=work,parent=main,suid,dev")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout


def test_git(point: Path, mounts: Mounts, empty: Path, install: Install) -> None:
    git = install("git", "git")
    repository = point / "repository"
    run(git, "init", "-q", "-b", "trunk", repository)
    run(git, "config", "user.email", "a@b.c", cwd=repository)
    run(git, "config", "user.name", "Somebody", cwd=repository)
    for number in range(200):
        (repository / f"file {number}").write_text(f"content {number}\n" * number)
    run(git, "add", ".", cwd=repository)
    run(git, "commit", "-qm", "First", cwd=repository)
    run(git, "checkout", "-qb", "topic", cwd=repository)
    (repository / "file 7").unlink()
    run(git, "commit", "-qam", "Second", cwd=repository)
    run(git, "checkout", "-q", "trunk", cwd=repository)
    run(git, "gc", "-q", "--prune=now", cwd=repository)
    assert run(git, "status", "--short", cwd=repository) == ""
    assert run(git, "fsck", "--strict", cwd=repository) == ""
    mounts.unmount(point)
    again = mounts.mount(empty, "branch=work") / "repository"
    assert run(git, "status", "--short", cwd=again) == ""
    assert run(git, "log", "--format=%s", "topic", cwd=again) == "Second\nFirst\n"


def test_a_compiler_and_what_it_makes(point: Path) -> None:
    (point / "main.c").write_text(
        '#include <stdio.h>\nint part(void);\nint main(void) { printf("%d\\n", part()); }\n'
    )
    (point / "part.c").write_text("int part(void) { return 42; }\n")
    (point / "Makefile").write_text(
        "main: main.o libpart.a\n\tcc -o $@ $^\nlibpart.a: part.o\n\tar rcs $@ $^\n"
    )
    run("make", "-j2", cwd=point)
    assert run(point / "main") == "42\n"
    assert "up to date" in run("make", cwd=point)


def test_pip_installs_into_a_branch(point: Path, scratch: Path) -> None:
    package = scratch / "package"
    package.mkdir()
    (package / "answer.py").write_text("VALUE = 42\n")
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    # A build backend of a few lines, as nothing may be fetched.
    (package / "backend.py").write_text(
        "import zipfile\n"
        "def build_wheel(directory, config=None, metadata=None):\n"
        "    name = 'answer-1.0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(f'{directory}/{name}', 'w') as wheel:\n"
        "        wheel.write('answer.py')\n"
        "        info = 'answer-1.0.dist-info/'\n"
        "        wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: answer\\n'\n"
        "                       'Version: 1.0\\n')\n"
        "        wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\n'\n"
        "                       'Root-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr(info + 'RECORD', '')\n"
        "    return name\n"
    )
    target = point / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--target", target, package)
    said = run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(target)!r}); "
               "import answer; print(answer.VALUE)")  # fmt: skip
    assert said == "42\n"


def test_sqlite_with_a_write_ahead_log(point: Path, mounts: Mounts, empty: Path) -> None:
    writers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sqlite3, sys\n"
                "db = sqlite3.connect(sys.argv[1], timeout=60)\n"
                "for number in range(200):\n"
                "    with db:\n"
                "        db.execute('insert into t values (?, ?)', (sys.argv[2], number))\n",
                point / "data.db",
                name,
            ]
        )
        for name in (_prepare(point / "data.db"), "b", "c")
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    mounts.unmount(point)
    again = mounts.mount(empty, "branch=work")
    with sqlite3.connect(again / "data.db") as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert database.execute("select count(*) from t").fetchall() == [(600,)]
    database.close()


def _prepare(path: Path) -> str:
    with sqlite3.connect(path) as database:
        assert database.execute("pragma journal_mode=wal").fetchall() == [("wal",)]
        database.execute("create table t (name text, number integer)")
    database.close()
    return "a"


def test_tar_and_rsync_keep_everything(point: Path, tmp_path: Path, install: Install) -> None:
    rsync = install("rsync", "rsync")
    tree = Path(sys.base_prefix) / "lib" / f"python3.{sys.version_info.minor}" / "email"
    source = tmp_path / "source"
    shutil.copytree(tree, source)
    os.link(source / "parser.py", source / "hard")
    os.symlink("parser.py", source / "soft")
    with (source / "sparse").open("wb") as sparse:
        sparse.seek(3 << 20)
        sparse.write(b"end")
    os.chmod(source / "parser.py", 0o4711)
    os.chown(source / "hard", 17, 18)
    os.setxattr(source / "charset.py", "user.note", b"\0value")
    archive = tmp_path / "source.tar"
    run("tar", "--xattrs", "--xattrs-include=user.*", "-cSf", archive, "-C", source, ".")
    (point / "tar").mkdir()
    run("tar", "--xattrs", "--xattrs-include=user.*", "-xpSf", archive, "-C", point / "tar")
    assert compare(snapshot(source), snapshot(point / "tar")) == []
    # Otherwise times of the same second are all the same to it.
    run(rsync, "-aHXS", "--modify-window=-1", f"{source}/", point / "rsync")
    assert compare(snapshot(source), snapshot(point / "rsync")) == []
    assert run(rsync, "-aHXSni", "--checksum", f"{source}/", point / "rsync") == ""
    assert (point / "rsync/sparse").stat().st_blocks < (1 << 20) // 512


def test_locks_keep_others_out(point: Path) -> None:
    program = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'r+') as file:\n"
        "    for _ in range(300):\n"
        "        (fcntl.lockf if sys.argv[2] == 'posix' else fcntl.flock)(file, fcntl.LOCK_EX)\n"
        "        file.seek(0)\n"
        "        number = int(file.read())\n"
        "        file.seek(0)\n"
        "        file.write(str(number + 1))\n"
        "        file.flush()\n"
        "        (fcntl.lockf if sys.argv[2] == 'posix' else fcntl.flock)(file, fcntl.LOCK_UN)\n"
    )
    for kind in ("posix", "flock"):
        (point / kind).write_text("0")
        command = [sys.executable, "-c", program, str(point / kind), kind]
        counters = [subprocess.Popen(command) for _ in range(3)]
        assert [counter.wait() for counter in counters] == [0, 0, 0]
        assert (point / kind).read_text() == "900"


def test_fio_finds_what_it_wrote(point: Path, stress: int, install: Install) -> None:
    fio = install("fio", "fio")
    for engine, direct, blocks in (
        ("psync", 0, "--bsrange=512-64k"),
        ("psync", 1, "--bs=4k"),
        ("mmap", 0, "--bs=4k"),
    ):
        run(
            fio, "--name=verify", f"--directory={point}", f"--ioengine={engine}",
            f"--direct={direct}", "--rw=randrw", blocks, "--size=16m", f"--loops={stress}",
            "--numjobs=2", "--verify=crc32c", "--verify_fatal=1", "--fsync=50",
            "--verify_state_save=0",
        )  # fmt: skip


def test_stressors(point: Path, stress: int, install: Install, mounts: Mounts, empty: Path) -> None:
    stressor = install("stress-ng", "stress-ng")
    names = ["dentry", "dir", "dirdeep", "filename", "rename", "hdd", "seek", "fallocate", "utime",
             "xattr", "fpunch"]  # fmt: skip
    if stress > 1:
        # These go on for long after their time is over.
        names += ["link", "symlink"]
    for name in names:
        # A branch keeps a log of all that was done to it, so each gets one of its own.
        control.create(point, name)
        run(
            stressor, f"--{name}", "2", "--timeout", f"{2 * stress}", "--temp-path", point,
            "--verify", "--hdd-bytes", "8m", "--fallocate-bytes", "8m", "--dirdeep-bytes", "1m",
            "--seek-size", "8m", "--quiet",
        )  # fmt: skip
        control.abort(point)
    mounts.unmount(point)
    mounts.sound(empty)


def test_dbench(point: Path, stress: int, install: Install) -> None:
    dbench = install("dbench", "dbench")
    run(dbench, "-D", point, "-t", f"{5 * stress}", "2")


def test_file_system_exerciser(
    point: Path, stress: int, scratch: Path, fsx: Path, mounts: Mounts, empty: Path
) -> None:
    config = scratch / "fsx.toml"
    config.write_text(
        "flen = 262144\n[opsize]\nmin = 1\nmax = 65536\n[weights]\nclose_open = 1\ninvalidate = 1\n"
        "mapread = 10\nmapwrite = 10\nread = 10\nwrite = 10\ntruncate = 5\nfsync = 1\n"
        "punch_hole = 3\nposix_fallocate = 3\ncopy_file_range = 3\nsendfile = 1\n"
    )
    # It never unmaps what it has read: one run must end before a process has all its mappings.
    for seed in range(2 * stress):
        run(fsx, "-f", config, "-N", "15000", "-S", f"{seed}", point / f"file {seed}")
    mounts.unmount(point)
    mounts.sound(empty)
