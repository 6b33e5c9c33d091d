# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the commands: what they print, what they refuse, and the status they exit with."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import daxfs
from daxfs.cli._common import escape, print_json
from support.small import MIB, ODD_NAME, VECTORS, WHEN, Run

ODD_TEXT = os.fsdecode(ODD_NAME)


def json_of(done: subprocess.CompletedProcess[bytes]) -> object:
    return json.loads(done.stdout)


def lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return os.fsdecode(done.stdout).splitlines()


def on_terminal(*command: str | Path) -> str:
    """Return what a command writes when its standard output is a terminal."""
    program = Path(sys.executable).with_name(str(command[0]))
    main, side = pty.openpty()
    with subprocess.Popen([program, *command[1:]], stdout=side, stderr=side) as process:
        os.close(side)
        written = b""
        # Reading a terminal that nobody has open any more is an error.
        try:
            while piece := os.read(main, 65536):
                written += piece
        except OSError:
            pass
    os.close(main)
    assert process.returncode == 0
    return written.decode()


def with_closed(closed: str, *command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command with descriptors closed, as the shell writes it."""
    program = Path(sys.executable).with_name(str(command[0]))
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", program, *command[1:]],
        capture_output=True,
        check=False,
    )


class TestDaxfs:
    def test_ls(self, run: Run, image_path: Path, tree: Path) -> None:
        done = run("daxfs", "ls", image_path)
        expected = b"".join(name + b"\n" for name in sorted(os.listdir(os.fsencode(tree))))
        assert done.stdout == expected
        assert lines(run("daxfs", "ls", image_path, "dirlink")) == ["sub", "text.txt"]
        assert lines(run("daxfs", "ls", image_path, "-d", "dir")) == ["dir"]
        assert lines(run("daxfs", "ls", image_path, "dangling")) == ["dangling"]

    def test_ls_long_is_as_coreutils_has_it(self, run: Run, image_path: Path, tree: Path) -> None:
        environment = {**os.environ, "LC_ALL": "C"}
        # -A: as ours, which hides nothing; sizes of directories are the file system's own.
        there = subprocess.check_output(["ls", "-lA", "--", tree], env=environment)
        ours = run("daxfs", "ls", "-l", image_path, env={"LC_ALL": "C"}).stdout

        def fields(listing: bytes) -> list[list[bytes]]:
            found = []
            for line in listing.split(b"\n"):
                if not re.match(rb"[-bcdlps][-rwxsStT]{9} ", line):
                    continue
                parts = line.split(maxsplit=5)
                if parts[0].startswith(b"d"):
                    parts[4] = b""
                found.append(parts)
            return found

        assert fields(ours) == sorted(fields(there), key=lambda parts: parts[5][13:])

    def test_ls_of_several(self, run: Run, image_path: Path) -> None:
        done = run("daxfs", "ls", image_path, "dir/sub", "empty", "dir")
        expected = ["empty", "", "dir/sub:", "deep", "", "dir:", "sub", "text.txt"]
        assert lines(done) == expected

    def test_ls_recursive(self, run: Run, image_path: Path) -> None:
        done = run("daxfs", "ls", "-R", image_path, "dir")
        assert lines(done) == ["dir:", "sub", "text.txt", "", "dir/sub:", "deep"]

    def test_ls_json_keeps_odd_names(self, run: Run, image_path: Path, tree: Path) -> None:
        about = json_of(run("daxfs", "ls", "--json", image_path))
        assert isinstance(about, list)
        found = {one["name"]: one for one in about}
        assert ODD_TEXT in found
        assert os.fsencode(found[ODD_TEXT]["path"]) == b"/" + ODD_NAME
        assert found["setuid"]["mode"] == "4755"
        assert found["link"]["target"] == "dir/text.txt"
        assert found["big"]["mtime_ns"] == WHEN

    def test_terminals_get_no_control_characters(self, image_path: Path) -> None:
        for command in (["ls"], ["ls", "-l"], ["tree"]):
            shown = on_terminal("daxfs", *command, image_path)
            assert "\x1b" not in shown
            assert r"odd \xff\n\x1b[31m" in shown

    def test_cat(self, run: Run, image_path: Path, tree: Path) -> None:
        done = run("daxfs", "cat", image_path, "dir/sub/deep", "big", "empty")
        assert done.stdout == b"deep\n" + (tree / "big").read_bytes()

    def test_cat_of_a_file_in_pieces(self, run: Run) -> None:
        source = VECTORS / "delta.daxfs"
        with daxfs.open(source, branch="b1") as image:
            for path in filter(image.is_file, image.glob("**")):
                done = run("daxfs", "cat", "-b", "b1", source, path)
                assert done.stdout == image.read_bytes(path)

    def test_a_reader_that_goes_away_is_no_error(self, image_path: Path) -> None:
        program = Path(sys.executable).with_name("daxfs")
        commands: list[list[str | Path]] = [
            ["cat", image_path, "big"],
            ["extract", image_path, "--tar", "-"],
        ]
        for command in commands:
            with subprocess.Popen(
                [program, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                process.stdout.read(10)
                process.stdout.close()
                assert process.stderr.read() == b""

    def test_stat(self, run: Run, image_path: Path) -> None:
        text = run("daxfs", "stat", image_path, "big", "link", env={"TZ": "UTC"}).stdout.decode()
        assert "  File: big\n  Size: 3145728" in text
        assert "  File: link -> dir/text.txt\n" in text
        assert "Modify: 2023-11-14 22:13:20.123456789 +0000" in text
        assert "Access: (0777/lrwxrwxrwx)" in text
        assert r" Xattr: user.note=\x00value\xff" in text
        about = json_of(run("daxfs", "stat", "--json", image_path, "big"))
        assert isinstance(about, list)
        assert about[0]["xattrs"] == {"user.note": "\x00value\udcff"}
        assert about[0]["size"] == 3 * MIB

    def test_tree(self, run: Run, image_path: Path) -> None:
        assert lines(run("daxfs", "tree", image_path, "dir")) == [
            "dir",
            "├── sub",
            "│   └── deep",
            "└── text.txt",
            "",
            "1 directory, 2 files",
        ]
        assert lines(run("daxfs", "tree", "-L", "1", image_path, "dir"))[1:3] == [
            "├── sub",
            "└── text.txt",
        ]
        about = json_of(run("daxfs", "tree", "--json", image_path, "dir"))
        assert isinstance(about, dict)
        assert [one["name"] for one in about["contents"]] == ["sub", "text.txt"]

    def test_what_goes_through_a_cycle_ends(self, run: Run, cyclic: Path) -> None:
        for options in (["ls", "-R"], ["tree"], ["tree", "--json"]):
            done = run("daxfs", *options, "--trusted", cyclic, status=1)
            assert done.stderr == (
                b"daxfs: image is not sound: directory '/dir/sub' is reached twice\n"
            )
        # So far it does not go.
        assert run("daxfs", "tree", "-L", "2", "--trusted", cyclic).stdout

    def test_extract_and_diff(self, run: Run, image_path: Path, tmp_path: Path) -> None:
        run("daxfs", "extract", image_path, tmp_path / "out")
        assert run("daxfs", "diff", image_path, tmp_path / "out").stdout == b""
        (tmp_path / "out/dir/sub/deep").write_bytes(b"DEEP\n")
        os.utime(tmp_path / "out/dir/sub/deep", ns=(WHEN, WHEN))
        done = run("daxfs", "diff", image_path, tmp_path / "out", status=1)
        assert lines(done) == ["dir/sub/deep: contents differ from byte 0 on"]
        done = run("daxfs", "diff", "--json", image_path, tmp_path / "out", status=1)
        assert json_of(done) == [
            {
                "path": "dir/sub/deep",
                "kind": "content",
                "detail": "contents differ from byte 0 on",
            }
        ]
        done = run("daxfs", "extract", image_path, tmp_path / "out", status=1)
        assert b"--force" in done.stderr
        run("daxfs", "extract", "--force", image_path, tmp_path / "out")
        run("daxfs", "diff", image_path, tmp_path / "out")
        run("daxfs", "extract", image_path, status=2)

    def test_extract_as_an_archive(self, run: Run, image_path: Path, tmp_path: Path) -> None:
        run("daxfs", "extract", image_path, "--tar", tmp_path / "x.tar")
        done = run("daxfs", "extract", image_path, "--tar", "-")
        assert done.stdout == (tmp_path / "x.tar").read_bytes()
        run("daxfs", "extract", image_path, "--tar", "-", "--json", status=2)
        done = run("daxfs", "extract", image_path, "--tar", "-", "--path", "dir/text.txt", status=1)
        assert done.stderr == b"daxfs: not a directory: dir/text.txt\n"
        with tarfile.open(tmp_path / "x.tar") as archive:
            assert archive.getmember("link").linkname == "dir/text.txt"

    def test_an_archive_takes_its_name_when_it_is_whole(
        self, run: Run, image_path: Path, tmp_path: Path
    ) -> None:
        before = image_path.read_bytes()
        there = tmp_path / "there.tar"
        there.write_text("precious")
        for target in (image_path, there):
            assert (
                b"--force" in run("daxfs", "extract", image_path, "--tar", target, status=1).stderr
            )
        run("daxfs", "extract", image_path, "--path", "big", "--tar", there, "--force", status=1)
        assert there.read_text() == "precious"
        assert image_path.read_bytes() == before
        run("daxfs", "extract", image_path, "--tar", there, "--force")
        assert tarfile.is_tarfile(there)
        run("daxfs", "extract", image_path, "--tar", "/dev/null")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["there.tar"]

    def test_extracts_what_a_container_may_restore(self, run: Run, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "mine").write_text("text")
        os.setxattr(tree / "mine", "user.a", b"value")
        os.chown(tree / "mine", 1000, 1000)
        os.mknod(tree / "zero", 0o644 | stat.S_IFCHR, os.makedev(1, 5))
        run("mkdaxfs", "-q", "-d", tree, "-o", tmp_path / "x")
        script = (
            f"mkdir {tmp_path}/ram && mount -t ramfs none {tmp_path}/ram && "
            f"{Path(sys.executable).with_name('daxfs')} extract {tmp_path}/x {tmp_path}/ram/out && "
            f"cat {tmp_path}/ram/out/mine"
        )
        done = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "text"), done
        assert "2 files without owner, set-ID bits, attributes or device node" in done.stderr

    def test_inspect(self, run: Run, image_path: Path) -> None:
        text = run("daxfs", "inspect", image_path).stdout.decode()
        assert "label:     a label\n" in text
        assert "sound:     yes\n" in text
        assert re.search(r"base image +0x1000 +0x\w+ +\d+\n", text)
        assert "in the base image" not in text
        assert b"in the base image" in run("daxfs", "inspect", VECTORS / "delta.daxfs").stdout
        about = json_of(run("daxfs", "inspect", "--json", VECTORS / "delta.daxfs"))
        assert isinstance(about, dict)
        assert [branch["name"] for branch in about["branches"]] == ["main", "b1"]
        assert about["errors"] == 0

    def test_inspect_dump(self, run: Run, image_path: Path) -> None:
        text = run("daxfs", "inspect", "--dump", image_path).stdout.decode()
        assert text.startswith("superblock at 0x0\n")
        assert "0x64617833" in text
        done = run("daxfs", "inspect", "--dump", "--json", image_path)
        assert all(isinstance(json.loads(line), dict) for line in lines(done))

    @pytest.mark.parametrize("field", ["name", "state", "delta_log_size"])
    def test_inspect_of_branches_with_errors(self, run: Run, tmp_path: Path, field: str) -> None:
        image = bytearray((VECTORS / "delta.daxfs").read_bytes())
        dumped = run("daxfs", "inspect", "--dump", "--json", VECTORS / "delta.daxfs").stdout
        records = [json.loads(line) for line in dumped.splitlines() if b'"branch record"' in line]
        for record in records:
            (offset,) = (one["offset"] for one in record["fields"] if one["name"] == field)
            image[offset] = 0xFF
        (tmp_path / "x").write_bytes(image)
        told = run("daxfs", "inspect", tmp_path / "x").stdout.decode()
        assert "unknown:   size, label" in told
        assert re.search(r"\ninodes: +16: 10 files, .*\nsound: +no, \d error", told, re.DOTALL)
        about = json_of(run("daxfs", "inspect", "--json", tmp_path / "x"))
        assert isinstance(about, dict)
        assert about["size"] is about["branches"] is None
        assert f"error: {about['findings'][0]['what']} at offset " in told

    def test_inspect_takes_limits_that_are_numbers_of_the_format(
        self, run: Run, image_path: Path
    ) -> None:
        dump = ("daxfs", "inspect", "--dump", image_path, "--limit")
        assert run(*dump, str(2**64 - 1)).stdout
        assert b"not in the range" in run(*dump, str(2**64), status=2).stderr

    def test_inspect_of_what_is_cut_off(self, run: Run, image_path: Path, tmp_path: Path) -> None:
        (tmp_path / "short").write_bytes(image_path.read_bytes()[:-MIB])
        # As the help says.
        assert b"total size" in run("daxfs", "inspect", tmp_path / "short", status=1).stderr
        assert b"total_size" in run("daxfs", "inspect", "--dump", tmp_path / "short").stdout

    def test_fmap(self, run: Run, image_path: Path) -> None:
        about = json_of(run("daxfs", "fmap", "--json", image_path, "big"))
        with daxfs.open(image_path) as image:
            (extent,) = image.extents("big")
        assert about == {
            "path": "big",
            "in": "image",
            "extents": [
                {
                    "file_offset": 0,
                    "offset": extent.image_offset,
                    "length": 3 * MIB,
                    "alignment": 2 * MIB,
                }
            ],
        }
        assert "2M" in lines(run("daxfs", "fmap", image_path, "big"))[1]
        assert "tree.daxfs" in lines(run("daxfs", "fmap", "--dev", image_path, "big"))[0]

    def test_doctor(self, run: Run) -> None:
        assert run("daxfs", "doctor").stdout
        assert isinstance(json_of(run("daxfs", "doctor", "--json")), dict)

    def test_trusted_images_are_not_proved(
        self, run: Run, image_path: Path, tmp_path: Path
    ) -> None:
        data = bytearray(image_path.read_bytes())
        # Permissions of the root, which the checksum no longer matches.
        data[8192 + 4] ^= 1
        (tmp_path / "x").write_bytes(data)
        done = run("daxfs", "ls", tmp_path / "x", status=1)
        assert b"not sound" in done.stderr
        assert run("daxfs", "ls", "--trusted", tmp_path / "x").stdout

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["ls", "IMAGE", "nope"], "no such file or directory: nope"),
            (["cat", "IMAGE", "dir"], "is a directory: dir"),
            (["tree", "IMAGE", "big"], "not a directory: big"),
            (["fmap", "IMAGE", "fifo"], "not a regular file"),
            (["ls", "IMAGE", "-b", "nope"], "no such branch: nope"),
            (["ls", "/no/such/image"], "/no/such/image"),
            (["ls", "/etc/hostname"], "/etc/hostname: superblock"),
            (["inspect", "/etc/hostname"], "/etc/hostname: superblock"),
            (["ls", "phys:nonsense"], "nonsense"),
            (["ls", "fd:99"], "fd:99"),
            (["diff", "IMAGE", "/no/such/directory"], "/no/such/directory"),
        ],
    )
    def test_errors_are_one_line(
        self, run: Run, image_path: Path, arguments: list[str], words: str
    ) -> None:
        command = [str(image_path) if one == "IMAGE" else one for one in arguments]
        done = run("daxfs", *command, status=1)
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("daxfs: ")
        assert words in line

    def test_wrong_usage(self, run: Run) -> None:
        for arguments in (["nonsense"], ["ls"], ["cat", "x"], ["ls", "x", "--nonsense"]):
            done = run("daxfs", *arguments, status=2)
            assert len(done.stderr.decode().splitlines()) == 1
        for group in (["daxfs"], ["daxfs", "module"], ["daxfs-branch"]):
            told = run(*group, "--help").stdout
            assert b"\nCommands:\n" in told
            assert run(*group, status=2).stderr == told
        # One option a line.
        lines = run("daxfs", "mount", "--help").stdout.decode().splitlines()
        assert [line.split()[0] for line in lines if "=NAME " in line] == [
            "branch=NAME",
            "parent=NAME",
        ]

    def test_json_is_as_deep_as_the_tree(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        daxfs.build(tmp_path / "in", tmp_path / "x", branches=True)
        with daxfs.open(tmp_path / "x", writable=True) as image, image.branch("deep") as branch:
            branch.makedirs("d/" * 1500)
        told = run("daxfs", "tree", tmp_path / "x", "--json").stdout
        assert told.count(b'"name": "d"') == told.count(b"]") - 1 == 1500

    def test_json_is_laid_out_as_usual(self, capsys: pytest.CaptureFixture[str]) -> None:
        value = {"a": [], "b": {}, "c": [1, [None, {"d": "\udcff", "e": [True]}], {"f": 0.5}]}
        for one in (value, [value, 2], [], "x"):
            print_json(one)
            assert capsys.readouterr().out == json.dumps(one, indent=2) + "\n"
        for some in ([], [value], [1, {"a": ", "}, [], value]):
            print_json(iter(some))
            assert capsys.readouterr().out == json.dumps(some, indent=2) + "\n"

    @pytest.mark.parametrize(
        ("name", "paths", "told", "rows"),
        [
            ("ls", ["nope", "dir", "no", "big"], "big\n\ndir:\nsub\ntext.txt\n", 3),
            ("ls", ["nope", "dir", "no"], "dir:\nsub\ntext.txt\n", 2),
            ("stat", ["nope", "empty", "no"], "  File: empty\n", 1),
            ("cat", ["nope", "dir/sub/deep", "no", "hard"], "deep\nfirst\n", None),
        ],
    )
    def test_what_is_missing_keeps_nothing_back(
        self, run: Run, image_path: Path, name: str, paths: list[str], told: str, rows: int | None
    ) -> None:
        done = run("daxfs", name, image_path, *paths, status=1)
        assert done.stdout.decode().startswith(told)
        missing = [f"daxfs: no such file or directory: {path}" for path in ("nope", "no")]
        assert done.stderr.decode().splitlines() == missing
        if rows is not None:
            found = json_of(run("daxfs", name, image_path, *paths, "--json", status=1))
            assert isinstance(found, list)
            assert len(found) == rows

    def test_umount_goes_on(self, run: Run, tmp_path: Path) -> None:
        done = run("daxfs", "umount", tmp_path / "1", tmp_path / "2", status=1)
        assert [line[:7] for line in done.stderr.decode().splitlines()] == ["daxfs: "] * 2

    def test_images_of_any_name(self, run: Run, tree: Path, tmp_path: Path) -> None:
        path = os.fsencode(tmp_path) + b"/" + ODD_NAME

        def said(*command: str | bytes) -> bytes:
            return run(*command, env={"PYTHONIOENCODING": "utf-8:strict"}).stdout

        assert said("mkdaxfs", "-w", "-d", os.fsencode(tree), "-v", "-o", path).startswith(path)
        assert said("fsck.daxfs", path).startswith(path)
        assert said("daxfs", "compact", path).startswith(path)
        assert said("daxfs-branch", "gc", "-i", path).startswith(path)
        assert b"sound:     yes" in said("daxfs", "inspect", path)
        assert b"main" in said("daxfs-branch", "list", "-i", path)
        said("daxfs", "extract", path, path + b".out")
        listed = on_terminal("daxfs", "extract", os.fsdecode(path), os.fsdecode(path + b".again"))
        assert listed.startswith(escape(os.fsdecode(path)))

    def test_an_image_is_named_once(self, run: Run) -> None:
        done = run("daxfs", "ls", b"n\xff", status=1)
        assert done.stderr.decode() == "daxfs: n\\xff: cannot open: No such file or directory\n"

    @pytest.mark.parametrize("command", [("daxfs", "ls"), ("daxfs-branch", "log")])
    def test_branches_of_no_possible_name(
        self, run: Run, image_path: Path, command: tuple[str, str]
    ) -> None:
        image = ("-i", image_path) if command[0] == "daxfs-branch" else (image_path,)
        done = run(*command, *image, "-b", b"\xff", status=1)
        assert done.stderr == command[0].encode() + b": \\xff: is not UTF-8\n"

    def test_terminals_are_not_given_orders(self, tree: Path, tmp_path: Path) -> None:
        path = tmp_path / "\x1b[31mred"
        daxfs.build(tree, path, label="\x1b[2Jlabel", branches=True)
        for command in (["daxfs", "inspect"], ["fsck.daxfs"], ["daxfs-branch", "gc", "-i"]):
            written = on_terminal(*command, path)
            assert "\x1b" not in written
            assert "\\x1b[31mred" in written
        assert "\\x1b[2Jlabel" in on_terminal("daxfs", "inspect", path)

    def test_dumps_give_terminals_no_orders(self, run: Run, tmp_path: Path) -> None:
        kept = "x\u0301é漢😀'\\"
        name = kept + "\n\x7f\x85\x9b\u200b\u2028\u202e\u2066\ufeff\U000e0001"
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / name).touch()
        daxfs.build(tmp_path / "tree", tmp_path / "x")
        text = run("daxfs", "inspect", "--dump", tmp_path / "x").stdout.decode()
        assert f'"{escape(name)}"' in text
        assert kept in text
        dumped = run("daxfs", "inspect", "--dump", "--json", tmp_path / "x").stdout
        assert re.fullmatch(rb"[ -~\n]*", dumped)
        structures = [json.loads(line) for line in dumped.splitlines()]
        assert name in [field["value"] for one in structures for field in one["fields"]]

    def test_names_in_messages_forge_no_others(self, run: Run, tmp_path: Path) -> None:
        name = "f\r\x85\u2028\n/fsck.daxfs: sound"
        source, image = tmp_path / "tree", tmp_path / "x\ny"
        source.mkdir()
        (source / "f\r\x85\u2028\n").mkdir()
        (source / name).write_bytes(bytes(8192))
        daxfs.build(source, image)
        program = Path(sys.executable).with_name("daxfs")
        extract = subprocess.run(
            ["prlimit", "--fsize=4096", program, "extract", image, tmp_path / "out"],
            capture_output=True,
            text=True,
            check=False,
        )
        missing = run("daxfs", "cat", image, "a\nb", status=1).stderr.decode()
        absent = run("fsck.daxfs", tmp_path / "y\nz", status=8).stderr.decode()
        usage = run("daxfs", "ls", image, "--a\nb", status=2).stderr.decode()
        for said, shown in (
            (extract.stderr, escape(f"{tmp_path}/out/{name}")),
            (missing, r"a\nb"),
            (absent, escape(f"{tmp_path}/y\nz") + ": cannot open: No such file"),
            (usage, r"--a\nb"),
        ):
            assert re.fullmatch(r"[ -~]+\n", said)
            assert said.count(shown) == 1
        # What is wrong with several files is several lines.
        for number in (1, 2):
            (source / f"{number}\n{'x' * 200}").touch()
        said = run("mkdaxfs", "-d", source, "-o", tmp_path / "z", status=1).stderr.decode()
        assert [line[:14] for line in said.splitlines()] == [r"mkdaxfs: 1\nxx", r"mkdaxfs: 2\nxx"]

    def test_text_of_an_image_stays_within_its_line(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/file").touch()
        os.setxattr(tmp_path / "tree/file", "user.a\nx", b"value\n")
        daxfs.build(tmp_path / "tree", tmp_path / "x", label="x\nsound:     maybe")
        told = lines(run("daxfs", "inspect", tmp_path / "x"))
        assert "label:     x\\nsound:     maybe" in told
        told = lines(run("daxfs", "stat", tmp_path / "x", "file"))
        assert told[-1] == " Xattr: user.a\\nx=value\\n"

    def test_names_of_branches_stay_within_their_lines(self, run: Run, tmp_path: Path) -> None:
        # Other implementations may give them any names.
        image = (VECTORS / "delta.daxfs").read_bytes().replace(b"b1\0", b"b\n\0")
        (tmp_path / "x").write_bytes(image)
        for command in (["daxfs", "inspect"], ["daxfs-branch", "list", "-i"]):
            assert b"b\\n  " in run(*command, tmp_path / "x").stdout
        (tmp_path / "x").write_bytes(image.replace(b"main\0", b"b\n\0\0\0"))
        assert lines(run("fsck.daxfs", tmp_path / "x", status=4))[0].endswith("found b\\n")

    @pytest.mark.parametrize(
        ("typed", "completed"),
        [
            ("daxfs um", ["plain,umount"]),
            ("daxfs ls im", ["file,im"]),
            ("daxfs extract image d", ["dir,d"]),
            ("daxfs-branch gc -i im", ["file,im"]),
            ("fsck.daxfs --re", ["plain,--repair"]),
            ("mkdaxfs --ta", ["plain,--tar"]),
        ],
    )
    def test_completion(self, run: Run, typed: str, completed: list[str]) -> None:
        command = typed.split()[0]
        variable = f"_{command}_COMPLETE".upper().replace("-", "_").replace(".", "_")
        assert b"complete " in run(command, env={variable: "bash_source"}).stdout
        asked = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        assert lines(run(command, env={variable: "bash_complete", **asked})) == completed

    @pytest.mark.parametrize("command", ["ls IMAGE", "cat IMAGE big", "ls IMAGE --json", "--help"])
    def test_full_disk(self, image_path: Path, command: str) -> None:
        program = Path(sys.executable).with_name("daxfs")
        arguments = command.replace("IMAGE", str(image_path)).split()
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [program, *arguments], stdout=full, stderr=subprocess.PIPE, check=False
            )
        assert done.returncode == 1
        # Not an image that is full.
        assert done.stderr == b"daxfs: standard output: No space left on device\n"

    @pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
    @pytest.mark.parametrize(
        ("command", "status"),
        [
            ("daxfs ls IMAGE", 1),
            ("daxfs cat IMAGE big", 1),
            ("daxfs inspect IMAGE", 1),
            ("daxfs inspect --dump IMAGE", 1),
            ("daxfs tree --json IMAGE", 1),
            ("daxfs extract --tar - IMAGE", 1),
            ("daxfs doctor --json", 1),
            ("daxfs --help", 1),
            ("daxfs --version", 1),
            ("daxfs fsck IMAGE", 8),
            ("fsck.daxfs IMAGE", 8),
            (f"mkdaxfs --dry-run -d {VECTORS}", 1),
            ("daxfs-branch list -i IMAGE", 1),
        ],
    )
    def test_closed_output(self, image_path: Path, command: str, status: int, closed: str) -> None:
        done = with_closed(closed, *command.replace("IMAGE", str(image_path)).split())
        assert (done.returncode, done.stdout) == (status, b"")
        (line,) = done.stderr.splitlines()
        assert line.endswith(b"Bad file descriptor")

    def test_closed_output_that_is_not_needed(self, image_path: Path, tmp_path: Path) -> None:
        for command in (
            ("daxfs", "extract", image_path, tmp_path / "out"),
            ("daxfs", "extract", image_path, "--tar", tmp_path / "x.tar"),
            ("fsck.daxfs", "-q", image_path),
        ):
            done = with_closed("<&- >&- 2>&-", *command)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert tarfile.is_tarfile(tmp_path / "x.tar")
        done = with_closed("2>&-", "daxfs", "ls", "missing")
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")

    def test_closed_input(self, path: Path, tmp_path: Path) -> None:
        for command in (
            ("mkdaxfs", "--tar", "-", "-o", tmp_path / "new"),
            ("daxfs-branch", "put", "-b", "main", "-i", path, "-", "/new"),
        ):
            done = with_closed("<&-", *command)
            assert done.returncode == 1
            assert done.stderr.endswith(b"Bad file descriptor\n")


class TestFsck:
    @pytest.fixture
    def damaged(self, tmp_path: Path, image_path: Path) -> Path:
        data = bytearray(image_path.read_bytes())
        data[8192 + 8] ^= 1
        (tmp_path / "damaged").write_bytes(data)
        return tmp_path / "damaged"

    def test_sound(self, run: Run, image_path: Path) -> None:
        done = run("fsck.daxfs", image_path)
        assert lines(done) == [
            f"{image_path}: sound: 6 files, 4 directories, 3.0 MiB in the base image"
        ]
        assert run("fsck.daxfs", "-q", image_path).stdout == b""
        assert run("daxfs", "fsck", image_path).stdout == done.stdout

    def test_errors_are_listed(self, run: Run, damaged: Path) -> None:
        found = lines(run("fsck.daxfs", damaged, status=4))
        assert re.match(rf"{damaged}: error: .* at offset 0x\w+: expected .*, found .*", found[0])
        assert re.fullmatch(rf"{damaged}: \d+ errors?", found[-1])
        about = json_of(run("fsck.daxfs", "--json", damaged, status=4))
        assert isinstance(about, dict)
        assert about["sound"] is False
        assert about["errors"] == len(about["findings"]) == len(found) - 1
        assert about["findings"][0].keys() == {"severity", "what", "offset", "expected", "found"}

    def test_what_cannot_be_examined(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(bytes(8192))
        for source in (tmp_path / "x", tmp_path / "nope"):
            done = run("fsck.daxfs", source, status=8)
            (line,) = done.stderr.decode().splitlines()
            assert line.startswith(f"fsck.daxfs: {source}: ")

    @pytest.mark.parametrize("command", [("fsck.daxfs",), ("daxfs", "fsck")])
    def test_what_cannot_be_told(self, image_path: Path, command: tuple[str, ...]) -> None:
        program = Path(sys.executable).with_name(command[0])
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run([program, *command[1:], image_path], stdout=full, check=False)
        assert done.returncode == 8
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([program, *command[1:], image_path], stdout=writer, check=False)
        os.close(writer)
        assert done.returncode == 8

    def test_options_of_boot_scripts(self, run: Run, image_path: Path) -> None:
        for option in ("-a", "-p", "-n", "-f", "-y"):
            run("fsck.daxfs", option, image_path)
        run("fsck.daxfs", "-Z", image_path, status=16)
        run("fsck.daxfs", status=16)
        run("daxfs", "fsck", status=16)

    def test_data(self, run: Run, tree: Path, tmp_path: Path) -> None:
        run("mkdaxfs", "-d", tree, "-o", tmp_path / "x", "--data-checksums")
        with daxfs.open(tmp_path / "x") as image:
            at = image.extents("big")[0].image_offset
        with (tmp_path / "x").open("r+b") as file:
            file.seek(at)
            file.write(b"\xff")
        run("fsck.daxfs", tmp_path / "x")
        run("fsck.daxfs", "--data", tmp_path / "x", status=4)


@pytest.mark.parametrize(("command", "status"), [("daxfs", 130), ("mkdaxfs", 130), ("fsck", 32)])
def test_an_interrupt_while_modules_are_imported_is_quiet(
    tmp_path: Path, command: str, status: int
) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", f"import daxfs.cli; daxfs.cli.{command}_main()"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


def test_heavy_modules_are_not_imported_to_start() -> None:
    code = (
        "import sys; import daxfs.cli.mkdaxfs, daxfs.cli.daxfs;"
        "print(*(name for name in ('rich', 'json', 'importlib.metadata', 'daxfs._daxfs')"
        " if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_name_that_is_empty_can_be_seen(run: Run, path: Path, tree: Path, tmp_path: Path) -> None:
    output = tmp_path / "image"
    for command in (
        ("daxfs", "ls", ""),
        ("mkdaxfs", "--tar", "", "-o", output),
        ("mkdaxfs", "-d", tree, "-o", ""),
        ("daxfs-branch", "list", "-m", ""),
        ("daxfs-branch", "put", "-i", path, "-b", "main", "", "/x"),
    ):
        done = run(*command, status=1)
        assert done.stderr.startswith(f"{command[0]}: '': ".encode()), done.stderr
