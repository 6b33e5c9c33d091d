# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects `mkdaxfs`: what it builds, what it says, and that it leaves nothing half-made."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import resource
import signal
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

import daxfs
from daxfs.errors import NotFoundError
from support.small import MIB, WHEN, Run

LINKS = "5 symbolic links, 1 special file"


def json_of(done: subprocess.CompletedProcess[bytes]) -> object:
    return json.loads(done.stdout)


def lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return os.fsdecode(done.stdout).splitlines()


def test_builds_an_image(run: Run, tree: Path, tmp_path: Path) -> None:
    done = run("mkdaxfs", "-d", tree, "-o", tmp_path / "x")
    assert lines(done) == [f"{tmp_path}/x: 5.0 MiB: 6 files, 4 directories, " + LINKS]
    assert done.stderr == b""
    run("fsck.daxfs", tmp_path / "x")


def test_has_two_names(run: Run, tree: Path, tmp_path: Path) -> None:
    run("mkfs.daxfs", "-q", "-d", tree, "-o", tmp_path / "a")
    run("mkdaxfs", "-q", "-d", tree, "-o", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tells_its_version(run: Run) -> None:
    for name in ("mkdaxfs", "mkfs.daxfs", "daxfs", "fsck.daxfs"):
        assert lines(run(name, "--version")) == [f"{name} (daxfs) {daxfs.__version__}"]


def test_takes_an_archive(run: Run, tree: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tree, ".")
    run("mkdaxfs", "--tar", tmp_path / "x.tar.gz", "-o", tmp_path / "a")
    data = (tmp_path / "x.tar.gz").read_bytes()
    run("mkdaxfs", "--tar", "-", "-o", tmp_path / "b", input=data)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    run("daxfs", "diff", "--ignore-xattrs", "--ignore-mtime", tmp_path / "a", tree)


def test_options_shape_the_image(run: Run, tree: Path, tmp_path: Path) -> None:
    identity = "01234567-89ab-cdef-0123-456789abcdef"
    options = ["--label", "named", "--uuid", identity, "--exclude", "*.txt", "--exclude", "big"]
    options += ["--owner", "root", "--group", "77", "--data-checksums"]
    run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "-w", "-D", "2M", "-V", *options)
    with daxfs.open(tmp_path / "x") as image:
        assert (image.label, image.uuid) == ("named", identity)
        assert [span.name for span in image.spans][-4:] == [
            "delta region",
            "owner map",
            "opener table",
            "heap",
        ]
        assert not image.exists("big")
        assert image.listdir("dir") == ["sub"]
        info = image.stat("setuid")
        assert (info.st_uid, info.st_gid) == (0, 77)


def test_all_root(run: Run, tree: Path, tmp_path: Path) -> None:
    run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "--all-root")
    with daxfs.open(tmp_path / "x") as image:
        owners = {(s.st_uid, s.st_gid) for s in map(image.lstat, image.glob("**"))}
    assert owners == {(0, 0)}


def test_size_of_the_whole(run: Run, tree: Path, tmp_path: Path) -> None:
    run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "-s", "0x10M")
    assert (tmp_path / "x").stat().st_size == 16 * MIB


@pytest.mark.parametrize(("count", "size"), [(1, 4 * MIB), (20, 200_000), (200, 20_000)])
def test_a_size_that_is_too_small_is_not_exceeded(tmp_path: Path, count: int, size: int) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(count):
        (tmp_path / f"tree/{number}").write_bytes(bytes([1]) * size)
    program = Path(sys.executable).with_name("mkdaxfs")
    done = subprocess.run(
        [program, "-d", tmp_path / "tree", "-o", tmp_path / "x", "-s", "1M"],
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB)),
    )
    assert done.returncode == 1
    assert b"only 1048576 are available" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_size_that_no_file_has(run: Run, tree: Path, tmp_path: Path) -> None:
    done = run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "-s", "0xffffffffffffffff", status=1)
    assert b"larger than can be counted" in done.stderr


def test_source_date_epoch_cuts_later_times(run: Run, tree: Path, tmp_path: Path) -> None:
    epoch = {"SOURCE_DATE_EPOCH": "1600000000"}
    run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", env=epoch)
    with daxfs.open(tmp_path / "x") as image:
        assert image.stat("big").st_mtime_ns == 1_600_000_000 * 10**9
    epoch = {"SOURCE_DATE_EPOCH": "1900000000"}
    run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "--force", env=epoch)
    with daxfs.open(tmp_path / "x") as image:
        assert image.stat("big").st_mtime_ns == WHEN
    for text in ("soon", "99999999999999", "9" * 5000):
        run("mkdaxfs", "-d", tree, "-o", tmp_path / "y", env={"SOURCE_DATE_EPOCH": text}, status=2)


def test_json(run: Run, tree: Path, tmp_path: Path) -> None:
    about = json_of(run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "--json", "-V"))
    assert isinstance(about, dict)
    assert about["size"] == (tmp_path / "x").stat().st_size
    assert (about["files"], about["hard_links"], about["specials"]) == (6, 1, 1)
    assert (about["sound"], about["dry_run"], about["skipped"]) == (True, False, [])
    assert [region["name"] for region in about["regions"]] == ["superblock", "base image"]


def test_dry_run_says_the_size_and_why(run: Run, tree: Path, tmp_path: Path) -> None:
    done = run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "--dry-run", "-w")
    assert not (tmp_path / "x").exists()
    text = done.stdout.decode()
    assert "would be" in text
    parts = [int(size) for size in re.findall(r"  [a-z, ]{30,} (\d+)  \d", text)]
    assert len(parts) == 5
    assert sum(parts[:-1]) == parts[-1]
    plan = json_of(run("mkdaxfs", "-d", tree, "--dry-run", "-w", "--json"))
    assert isinstance(plan, dict)
    assert plan["size"] == parts[-1]


def test_keeps_what_is_there(run: Run, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("precious")
    done = run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", status=1)
    assert (tmp_path / "x").read_text() == "precious"
    assert done.stderr.decode() == f"mkdaxfs: {tmp_path}/x: exists; --force replaces it\n"
    for options, words in (([], b"--force would replace it"), (["--force"], b"would be replaced")):
        done = run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "--dry-run", *options)
        assert b"\n  exists; " + words in done.stdout
    assert (tmp_path / "x").read_text() == "precious"
    run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "--force")
    run("fsck.daxfs", tmp_path / "x")


def test_what_is_replaced_keeps_links_owners_and_permissions(
    run: Run, tree: Path, tmp_path: Path
) -> None:
    image, link, nowhere = (tmp_path / name for name in ("image", "link", "nowhere"))
    image.write_bytes(b"old")
    image.chmod(0o640)
    os.chown(image, 1234, 4321)
    link.symlink_to("image")
    nowhere.symlink_to("none/at/all")
    os.mkfifo(tmp_path / "fifo")
    run("mkdaxfs", "-q", "-d", tree, "-o", link, "--force")
    assert link.is_symlink()
    found = image.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 1234, 4321)
    run("fsck.daxfs", "-q", image)
    for path, words in ((tmp_path / "fifo", "not a regular file"), (nowhere, "follow the link")):
        done = run("mkdaxfs", "-q", "-d", tree, "-o", path, "--force", status=1)
        assert words in done.stderr.decode()
    assert (tmp_path / "fifo").is_fifo()


def test_a_pattern_is_bytes_of_utf_8_in_every_locale(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/\u00e9").touch()
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {**os.environ, **plain}
    words: list[str | Path] = ["-d", tmp_path / "tree", "-o", tmp_path / "x"]
    run("mkdaxfs", "-q", *words, "--exclude", "\u00e9", env=environment)
    with daxfs.open(tmp_path / "x") as image:
        assert image.listdir("/") == []


def test_names_every_file_it_cannot_take(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "good").touch()
    for letter in "ab":
        (source / (letter * 129)).touch()
    done = run("mkdaxfs", "-d", source, "-o", tmp_path / "x", status=1)
    complaints = done.stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in complaints] == ["a" * 129, "b" * 129]
    assert os.listdir(tmp_path) == ["in"]
    done = run("mkdaxfs", "-d", source, "-o", tmp_path / "x", "--skip-errors")
    assert done.stderr.count(b"mkdaxfs: left out ") == 2
    with daxfs.open(tmp_path / "x") as image:
        assert image.listdir() == ["good"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "-d or --tar"),
        (["-d", "."], "-o, -p and -H"),
        (["-d", ".", "--tar", "x", "-o", "y"], "-d or --tar"),
        (["-d", ".", "-o", "x", "-p", "4096"], "-o, -p and -H"),
        (["-d", ".", "-o", "x", "-D", "1M"], "-w"),
        (["-d", ".", "-o", "x", "-s", "12X"], "12X"),
        (["-d", ".", "-o", "x", "--owner", "no such user"], "no such user"),
        (["-d", ".", "-o", "x", "--owner", "4294967295"], "4294967295"),
        (["-d", ".", "-o", "x", "--owner", "9" * 5000], "not a number of a user"),
        (["-d", ".", "-o", "x", "--all-root", "--owner", "1"], "--all-root"),
        (["-d", ".", "-o", "x", "--uuid", "12"], "'12' is not a UUID"),
        (["-d", ".", "-o", "x", "--label", "é" * 32], "label of 64 bytes"),
        (["-d", ".", "-o", "x", "--exclude", os.fsdecode(b"\xff*")], "b'\\xff*' is not UTF-8"),
        (["-d", ".", "-o", "x", "--nonsense"], "--nonsense"),
        (["-d", ".", "-H", "system"], "program"),
        (["-d", ".", "-o", "x", "--", "true"], "-H"),
        (["-d", ".", "-o", "-"], "an image is no stream; ./- is a file"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], words: str) -> None:
    done = run("mkdaxfs", *arguments, status=2)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("mkdaxfs: ")
    assert words in line


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (["-o", "/dev/dax99.0"], "no such DAX device"),
        (["-o", "/dev/pmem99"], "no such persistent memory device"),
        (["-o", "/dev/null"], "/dev/null"),
        (["-o", "/no/such/directory/x"], "/no/such/directory"),
        (["-p", "0x1001", "-s", "1M"], "multiple of 4096"),
        (["-o", "fd:-1"], '"-1" is not a file descriptor'),
        (["-H", "no-such-heap", "--", "true"], "no such DMA heap"),
    ],
)
def test_places_that_cannot_be_had(run: Run, tmp_path: Path, place: list[str], words: str) -> None:
    done = run("mkdaxfs", "-d", tmp_path, *place, status=1)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("mkdaxfs: ")
    assert words in line


def test_source_that_is_not_there(run: Run, tmp_path: Path) -> None:
    for option in ("-d", "--tar"):
        done = run("mkdaxfs", option, tmp_path / "nope", "-o", tmp_path / "x", status=1)
        assert b"nope: " in done.stderr
        assert b"No such file" in done.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_leave_nothing_behind(tmp_path: Path, number: signal.Signals, status: int) -> None:
    # Standard input that never ends: the build is at work until the signal comes.
    program = Path(sys.executable).with_name("mkdaxfs")
    # Whoever runs the tests by nohup has it ignored.
    command: list[str | Path] = ["env", "--default-signal=HUP", program]
    command += ["--tar", "-", "-o", tmp_path / "x"]
    with subprocess.Popen(
        command, bufsize=0, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        header = tarfile.TarInfo("file")
        header.size = 1 << 40
        process.stdin.write(header.tobuf())
        piece = bytes(MIB)
        for _ in range(8):
            process.stdin.write(piece)
        process.send_signal(number)
        try:
            while process.poll() is None:
                process.stdin.write(piece)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.wait() == status
        assert process.stderr.read() == b""
    assert os.listdir(tmp_path) == []


def test_a_progress_bar_shows_on_a_terminal_alone(tmp_path: Path) -> None:
    """An archive that arrives slowly takes longer than the bar's patience."""
    program = Path(sys.executable).with_name("mkdaxfs")
    archive = tarfile.TarInfo("file")
    archive.size = 4 * MIB
    for name in ("terminal", "pipe"):
        main, side = pty.openpty() if name == "terminal" else os.pipe()
        command: list[str | Path] = [program, "--tar", "-", "-o", tmp_path / name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=side, env={**os.environ, "TERM": "xterm"}
        ) as process:
            os.close(side)
            assert process.stdin is not None
            process.stdin.write(archive.tobuf() + bytes(2 * MIB))
            process.stdin.flush()
            shown = b""
            if name == "terminal":
                while b"Building" not in shown:
                    shown += os.read(main, 4096)
            else:
                time.sleep(1.5)
            process.stdin.write(bytes(2 * MIB + 1024))
            process.stdin.close()
            try:
                while piece := os.read(main, 4096):
                    shown += piece
            except OSError:
                pass
        os.close(main)
        assert process.returncode == 0
        assert (b"Building" in shown) == (name == "terminal")


def test_takes_a_link_to_the_folder_and_not_the_image_in_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("text")
    (tmp_path / "link").symlink_to("tree")
    for force in ([], ["--force"]):
        run("mkdaxfs", "-q", "-d", tmp_path / "link", "-o", tmp_path / "tree/image", *force)
    with daxfs.open(tmp_path / "tree/image") as image:
        assert image.listdir() == ["file"]
    # Nor is what a link leads to, which is replaced.
    (tmp_path / "output").symlink_to("tree/image")
    run("mkdaxfs", "-q", "-d", tmp_path / "tree", "-o", tmp_path / "output", "--force")
    with daxfs.open(tmp_path / "tree/image") as image:
        assert image.listdir() == ["file"]


def test_tells_of_all_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed folder").mkdir(parents=True)
    for name in ("a", "closed file"):
        (tree / name).write_text("text")
    for name in ("closed folder", "closed file"):
        (tree / name).chmod(0)
    program = Path(sys.executable).with_name("mkdaxfs")
    # Another user might not reach the checkout.
    powers = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--inh-caps={powers}", f"--bounding-set={powers}"]
    for options in ([], ["--dry-run"]):
        done = subprocess.run(
            [*drop, program, "-d", tree, "-o", "/tmp/no such image", *options],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1
        assert b"closed file" in done.stderr
        assert b"closed folder" in done.stderr
    done = subprocess.run(
        [*drop, program, "-d", tree, "-o", "/tmp/no such image", "--dry-run", "--skip-errors"],
        capture_output=True,
        check=False,
    )
    assert b"1 file," in done.stdout


@pytest.mark.parametrize("way", ["pipe", "fifo"])
def test_waiting_for_an_archive_can_be_interrupted(tmp_path: Path, way: str) -> None:
    program = Path(sys.executable).with_name("mkdaxfs")
    os.mkfifo(tmp_path / "fifo")
    source = "-" if way == "pipe" else tmp_path / "fifo"
    with subprocess.Popen(
        [program, "--tar", source, "-o", tmp_path / "x"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        # Before the engine is there, the interpreter's start would be what is interrupted.
        while "_daxfs" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.01)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo"]


def test_a_missing_folder_is_told_as_one(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="No such file") as caught:
        daxfs.build(tree, tmp_path / "no such/x")
    assert caught.value.errno == errno.ENOENT
    long = "x" * 250
    daxfs.build(tree, tmp_path / long)


def test_a_label_is_bytes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    run("mkdaxfs", "-q", "-w", "-d", tmp_path / "tree", "-o", tmp_path / "x", "--label", b"\xff")
    run("daxfs", "compact", tmp_path / "x")
    with daxfs.open(tmp_path / "x") as image:
        assert os.fsencode(image.label) == b"\xff"
