# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the Python interface: what is read is what was built, as os, io and pathlib have it."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import stat
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, assert_type

import numpy as np
import pytest

import daxfs
from daxfs import errors
from support.small import MIB, ODD_NAME, VECTORS


def relative(path: str) -> str:
    return path.lstrip("/")


def test_stat_is_what_the_host_says(image: daxfs.Image, tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        host = path.lstat()
        info = image.lstat(os.fsencode(path.relative_to(tree)))
        for name in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_mtime_ns", "st_mtime"):
            assert getattr(info, name) == getattr(host, name), (path, name)
        if not info.is_dir():
            assert info.st_size == host.st_size
        assert info.is_dir() == stat.S_ISDIR(host.st_mode)
        assert info.is_file() == stat.S_ISREG(host.st_mode)
        assert info.is_symlink() == stat.S_ISLNK(host.st_mode)


def test_seconds_are_rounded_as_the_host_does(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(-50, 50):
        file = tmp_path / f"tree/{number}"
        file.touch()
        os.utime(file, ns=(0, number * 34_567_891_234_567_891))
    daxfs.build(tmp_path / "tree", tmp_path / "x.daxfs")
    with daxfs.open(tmp_path / "x.daxfs") as image:
        for file in (tmp_path / "tree").iterdir():
            assert image.stat(file.name).st_mtime == file.stat().st_mtime


def test_stat_objects_are_values(image: daxfs.Image) -> None:
    assert image.stat("hard") == image.stat("dir/text.txt")
    assert hash(image.stat("hard")) == hash(image.stat("dir/text.txt"))
    assert image.stat("hard") != image.stat("empty")
    assert "st_mode=0o104755" in repr(image.stat("setuid"))
    with pytest.raises(AttributeError):
        image.stat("hard").st_size = 1  # type: ignore[misc]


def test_paths_are_text_bytes_or_path_objects(image: daxfs.Image) -> None:
    assert image.read_bytes(ODD_NAME) == b"odd"
    assert image.read_bytes(os.fsdecode(ODD_NAME)) == b"odd"
    assert image.read_bytes(PurePosixPath("dir/sub/deep")) == b"deep\n"
    assert image.read_bytes("//dir/./sub/../sub/deep") == b"deep\n"
    with pytest.raises(TypeError):
        image.stat(3.0)  # type: ignore[arg-type]


def test_links_are_followed_inside_the_image(image: daxfs.Image) -> None:
    assert image.read_bytes("link") == image.read_bytes("dir/text.txt")
    assert image.read_bytes("dirlink/sub/deep") == b"deep\n"
    assert image.listdir("absolute") == ["deep"]
    assert image.readlink("absolute") == "/dir/../dir/sub"
    assert image.stat("dirlink").is_dir()
    assert not image.stat("dirlink", follow_symlinks=False).is_dir()
    with pytest.raises(errors.LoopError):
        image.stat("loop")


def test_existence(image: daxfs.Image) -> None:
    assert image.exists("dir")
    assert image.is_dir("dirlink")
    # No file can have these names, and asking is no mistake, as with os.path.
    for name in ("\ud800", "a\0b", b"\xff", "x" * 5000):
        assert not any((image.exists(name), image.is_dir(name), image.is_file(name)))
    assert image.is_file("link")
    assert not image.is_file("fifo")
    for path in ("dangling", "loop", "nope", "empty/below"):
        assert not image.exists(path)
        assert not image.is_dir(path)
        assert not image.is_file(path)


def test_listing_is_sorted_and_complete(image: daxfs.Image, tree: Path) -> None:
    names = image.listdir()
    assert names == image.listdir("/")
    assert [os.fsencode(name) for name in names] == sorted(os.listdir(os.fsencode(tree)))
    entries = {entry.name: entry for entry in image.scandir("dir")}
    assert entries.keys() == {"sub", "text.txt"}
    assert entries["sub"].path == "dir/sub"
    assert entries["sub"].is_dir()
    assert entries["text.txt"].is_file()
    assert entries["text.txt"].inode() == image.stat("hard").st_ino
    assert entries["text.txt"].stat() == image.stat("hard")


def test_entries_follow_links_unless_told(image: daxfs.Image) -> None:
    entries = {entry.name: entry for entry in image.scandir()}
    assert entries["dirlink"].is_symlink()
    assert entries["dirlink"].is_dir()
    assert not entries["dirlink"].is_dir(follow_symlinks=False)
    assert entries["dirlink"].stat().is_dir()
    assert entries["dirlink"].stat(follow_symlinks=False).is_symlink()
    assert not entries["dangling"].is_file()
    with pytest.raises(FileNotFoundError):
        entries["dangling"].stat()


@pytest.mark.parametrize("topdown", [True, False])
def test_walk_goes_where_os_walk_goes(image: daxfs.Image, tree: Path, topdown: bool) -> None:
    expected = {
        os.path.relpath(path, tree): (sorted(directories), sorted(files))
        for path, directories, files in os.walk(tree)
    }
    # On the host the link leads out of the tree.
    expected["."][0].insert(0, "absolute")
    expected["."][1].remove("absolute")
    found = {
        relative(path) or ".": (sorted(directories), sorted(files))
        for path, directories, files in image.walk(topdown=topdown)
    }
    assert found == expected
    order = list(found)
    for path in order[topdown : len(order) - (not topdown)]:
        assert (order.index(os.path.dirname(path) or ".") < order.index(path)) == topdown


def test_walk_goes_on_where_something_cannot_be_read(image: daxfs.Image) -> None:
    told: list[OSError] = []
    assert list(image.walk("big", onerror=told.append)) == []
    assert isinstance(told[0], NotADirectoryError)
    with pytest.raises(NotADirectoryError):
        list(image.walk("big"))


def test_walk_leaves_out_what_is_removed(image: daxfs.Image) -> None:
    seen = []
    for path, directories, _ in image.walk():
        seen.append(path)
        if "dir" in directories:
            directories.remove("dir")
    assert "/empty dir" in seen
    assert not any(path.startswith("/dir") for path in seen)


@pytest.mark.parametrize(
    "pattern",
    [
        *("*", "dir/*", "*/sub", "**/deep", "**/*.txt", "[de]*", "d?r", "dir/sub/deep", "nope"),
        *("hard*", "[bd]*/", "dir/*/", "dir/", "big/", "nope/", "**/s*/"),
    ],
)
def test_glob_finds_what_pathlib_finds(image: daxfs.Image, tree: Path, pattern: str) -> None:
    expected = sorted(str(path.relative_to(tree)) for path in tree.glob(pattern))
    assert sorted(relative(path) for path in image.glob(pattern)) == expected
    assert sorted(relative(str(path)) for path in image.root.glob(pattern)) == expected


@pytest.mark.parametrize("top", ["loop", "loop/x", "nope", "nope/x", "big", "big/x", "dangling"])
def test_glob_finds_nothing_where_there_is_no_directory(
    image: daxfs.Image, tree: Path, top: str
) -> None:
    for pattern in ("x", "*", "**", "**/", "**/e", "x/*", ".."):
        assert list((image / top).glob(pattern)) == list((tree / top).glob(pattern)) == []
        assert list((image / top).rglob(pattern)) == list((tree / top).rglob(pattern)) == []
        assert list(image.glob(f"{top}/{pattern}")) == []


def test_patterns_that_nothing_can_match(image: daxfs.Image, tree: Path) -> None:
    for pattern in ("\ud800", "\ud800/*", "*/\ud800", "**/\ud800", "a\0b", "x" * 5000):
        assert list(image.glob(pattern)) == list(image.root.rglob(pattern)) == []
    for find in (image.glob, image.root.glob, tree.glob):
        with pytest.raises(ValueError, match="nacceptable pattern"):
            list(find(""))
    assert sorted(relative(str(path)) or "." for path in image.root.rglob("")) == sorted(
        str(path.relative_to(tree)) for path in tree.rglob("")
    )


def test_a_slash_at_the_end_means_directories(image: daxfs.Image) -> None:
    # One leads out of the tree on the host, and to a directory in the image.
    assert list(image.glob("a*/")) == ["/absolute"]
    assert sorted(image.glob("**/")) == ["/", "/dir", "/dir/sub", "/empty dir"]
    assert list((image / "dir").glob("*/")) == [image / "dir/sub"]


def test_where_to_begin_and_patterns_have_the_forms_of_paths(image: daxfs.Image) -> None:
    for form in (PurePosixPath, os.fsencode):
        assert next(image.walk(form("dir"))) == ("dir", ["sub"], ["text.txt"])
        assert list(image.glob(form("dir/*"))) == ["/dir/sub", "/dir/text.txt"]
        assert list(image.root.rglob(form("dee*"))) == [image / "dir/sub/deep"]
    assert list(image.glob(b"*" + ODD_NAME[-3:])) == [f"/{os.fsdecode(ODD_NAME)}"]
    assert image / PurePosixPath("dir") / PurePosixPath("sub") == image / "dir/sub"


def test_glob_names_each_path_once(image: daxfs.Image) -> None:
    found = list(image.glob("**/sub/**/deep"))
    assert found == ["/dir/sub/deep"]
    everything = list(image.glob("**"))
    assert len(everything) == len(set(everything))
    assert {"/", "/dir/sub/deep", "/dirlink", "/fifo"} <= set(everything)
    assert "/dirlink/sub" not in everything


def test_contents(image: daxfs.Image, tree: Path) -> None:
    for name in ("big", "empty", "dir/text.txt"):
        assert image.read_bytes(name) == (tree / name).read_bytes()
        assert image.view(name) == (tree / name).read_bytes()
    assert image.read_text("link") == "first\nsecond\nünïcödé\n"
    assert image.xattrs("big") == {"user.note": b"\x00value\xff"}
    assert image.xattrs("empty") == {}


def test_text_has_the_lines_that_pathlib_reads(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/f").write_bytes(b"a\r\nb\rc\n\r\r\n")
    daxfs.build(tmp_path / "in", tmp_path / "x")
    expected = (tmp_path / "in/f").read_text()
    with daxfs.open(tmp_path / "x") as image:
        assert image.read_text("f") == (image / "f").read_text() == expected
        with image.open("f", "r") as file:
            assert file.read() == expected


def test_streams_have_types(image: daxfs.Image) -> None:
    with contextlib.ExitStack() as opened:
        raw = opened.enter_context(image.open("big"))
        buffered = opened.enter_context(image.open("big", "rb", 4096))
        text = opened.enter_context(image.open("dir/text.txt", "r"))
    assert_type(raw, daxfs.ImageFile)
    assert_type(buffered, "io.BufferedReader[daxfs.ImageFile]")
    assert_type(text, io.TextIOWrapper)
    assert isinstance(raw, daxfs.ImageFile)
    assert isinstance(buffered, io.BufferedReader)
    assert isinstance(text, io.TextIOWrapper)


def test_open_is_a_raw_stream(image: daxfs.Image, tree: Path) -> None:
    data = (tree / "big").read_bytes()
    with image.open("big") as file:
        assert isinstance(file, io.RawIOBase)
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.size == len(data)
        assert file.stat() == image.stat("big")
        assert file.read(10) == data[:10]
        assert file.tell() == 10
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.read() == b""
        assert file.seek(len(data) + 100) == len(data) + 100
        assert file.read(1) == b""
        assert file.seek(7) == 7
        assert file.seek(3, os.SEEK_CUR) == 10
        target = bytearray(2 * MIB)
        assert file.readinto(target) == len(target)
        assert target == data[10 : 10 + len(target)]
        with pytest.raises(ValueError):
            file.seek(-1)
        with pytest.raises(ValueError):
            file.seek(0, 9)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    assert file.closed
    with pytest.raises(ValueError):
        file.read()


def test_positions_are_those_of_files(image: daxfs.Image, tree: Path) -> None:
    for file in (image.open("big"), (tree / "big").open("rb", 0)):
        with file:
            file.seek(5)
            for offset in (1.0, 1.5, "1", None):
                with pytest.raises(TypeError):
                    file.seek(offset)  # type: ignore[arg-type]
            for offset in (1 << 63, 1 << 70):
                with pytest.raises(OverflowError):
                    file.seek(offset)
            assert file.tell() == 5
            assert file.read(1) == b"\x05"
    with image.open("big") as raw:
        raw.seek((1 << 63) - 1)
        assert raw.read() == raw.read(1) == b""
        with pytest.raises(OverflowError):
            raw.seek(1, os.SEEK_CUR)


@pytest.mark.parametrize("mode", ["r", "rt", "rb"])
def test_streams_tell_their_mode(image: daxfs.Image, tree: Path, mode: str) -> None:
    with image.open("big", mode) as file, (tree / "big").open(mode) as host:
        assert file.mode == host.mode == mode


@pytest.mark.parametrize("option", ["encoding", "errors", "newline"])
def test_bytes_have_no_encoding(image: daxfs.Image, option: str) -> None:
    options: dict[str, Any] = {option: "strict"}
    for buffering in (-1, 0, 8192):
        with pytest.raises(ValueError, match="binary mode"):
            image.open("big", "rb", buffering, **options)


def test_readinto_takes_any_contiguous_buffer(image: daxfs.Image, tree: Path) -> None:
    import array

    numbers = array.array("q", bytes(4096))
    with image.open("big") as file:
        assert file.readinto(numbers) == 4096
    assert numbers.tobytes() == (tree / "big").read_bytes()[:4096]
    assert image.open("empty").readinto(bytearray(0)) == 0
    # Arrays of numpy's may have more than one dimension and no items, or no dimension and one.
    for shape, count in ((0, 3), 0), ((), 8):
        items: Any = np.zeros(shape)
        assert image.open("big").readinto(items) == count
    # As of a file of the operating system's.
    with image.open("big") as file, (tree / "big").open("rb", buffering=0) as other:
        for unfit in (b"constant", memoryview(b"constant"), memoryview(bytearray(8))[::2], 5):
            kinds = []
            for one in (file, other):
                with pytest.raises((TypeError, BufferError)) as caught:
                    one.readinto(unfit)  # type: ignore[arg-type]
                kinds.append(caught.type)
            assert kinds[0] is kinds[1], unfit


def test_streams_work_with_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in/a.zip", "w") as archive:
        archive.writestr("inside", "zipped")
    (tmp_path / "in/a.csv").write_text("a,b\n1,2\n")
    daxfs.build(tmp_path / "in", tmp_path / "out.daxfs")
    with daxfs.open(tmp_path / "out.daxfs") as image:
        with zipfile.ZipFile(image.open("a.zip")) as archive:
            assert archive.read("inside") == b"zipped"
        with (image / "a.csv").open(newline="") as text:
            assert list(csv.reader(text)) == [["a", "b"], ["1", "2"]]
        with (image / "a.csv").open("rb") as buffered:
            assert buffered.readline() == b"a,b\n"
        with (image / "a.csv").open("rb", buffering=0) as raw:
            assert isinstance(raw, daxfs.ImageFile)
        with pytest.raises(ValueError):
            (image / "a.csv").open("w")


def test_paths_are_like_pathlib(image: daxfs.Image) -> None:
    path = image / "dir" / "text.txt"
    assert str(path) == "/dir/text.txt"
    assert (path.name, path.stem, path.suffix) == ("text.txt", "text", ".txt")
    assert path.parent == image / "dir"
    assert path.parents == (image / "dir", image.root)
    assert path.with_suffix(".bin").name == "text.bin"
    assert path.relative_to(image / "dir") == PurePosixPath("text.txt")
    assert path.is_relative_to("/dir")
    assert path.match("*.txt")
    assert image.root.joinpath("dir", "text.txt") == path
    assert image / "//dir//text.txt" == path
    assert path in {image / "dir/text.txt"}
    assert sorted([path, image / "big"]) == [image / "big", path]
    assert path.read_text() == image.read_text("dir/text.txt")
    assert path.view() == path.read_bytes()
    assert path.stat() == image.stat("hard")
    assert path.is_file()
    assert (image / "dir").is_dir()
    assert (image / "dangling").is_symlink()
    assert not (image / "dangling").exists()
    assert not (image / "nope").is_symlink()
    assert (image / "link").readlink() == "dir/text.txt"
    assert list((image / "dir").iterdir()) == [image / "dir/sub", image / "dir/text.txt"]
    assert list((image / "dir").rglob("deep")) == [image / "dir/sub/deep"]


@pytest.mark.parametrize("top_down", [True, False])
def test_walks_of_paths_are_like_those_of_pathlib(
    image: daxfs.Image, tree: Path, top_down: bool
) -> None:
    found = {str(path): (names, others) for path, names, others in image.root.walk(top_down)}
    expected = {}
    for path, names, others in os.walk(tree):
        # Unlike os.walk, pathlib takes links to directories for files.
        links = {name for name in names if os.path.islink(os.path.join(path, name))}
        where = str("/" / Path(path).relative_to(tree))
        expected[where] = (sorted({*names} - links), sorted([*others, *links]))
    assert {path: (sorted(n), sorted(o)) for path, (n, o) in found.items()} == expected
    order = list(found)
    assert order.index("/") == (0 if top_down else len(order) - 1)
    assert (order.index("/dir") < order.index("/dir/sub")) == top_down
    with pytest.raises(NotADirectoryError):
        next((image / "big").walk())
    told: list[OSError] = []
    assert list((image / "nope").walk(top_down, told.append)) == []
    assert [type(error) for error in told] == [errors.NotFoundError]
    for below, names, _ in image.root.walk():
        assert "sub" not in below.parts
        names[:] = [name for name in names if name != "sub"]


def test_paths_need_not_follow_links(image: daxfs.Image) -> None:
    assert (image / "dangling").exists(follow_symlinks=False)
    assert (image / "link").is_file()
    assert not (image / "link").is_file(follow_symlinks=False)
    assert (image / "dir").is_dir(follow_symlinks=False)
    assert not (image / "nope").exists(follow_symlinks=False)


def test_paths_know_the_types_that_pathlib_knows(image: daxfs.Image, tree: Path) -> None:
    kinds = ("is_fifo", "is_socket", "is_char_device", "is_block_device", "is_symlink")
    for name in ("fifo", "big", "dir", "link", "dangling", "loop", "loop/x", "nope", "big/x"):
        for kind in kinds:
            assert getattr(image / name, kind)() == getattr(tree / name, kind)(), (name, kind)
    assert not (image / "\ud800").is_symlink()


def test_paths_join_and_change_like_pathlib(image: daxfs.Image) -> None:
    path = image / "dir/text.txt"
    assert path.with_stem("a") == image / "dir/a.txt"
    assert path.as_posix() == "/dir/text.txt"
    assert path.is_absolute()
    assert image / path == image / "x" / path == image.root.joinpath("x", path) == path
    assert path.samefile("/hard")
    assert path.samefile(image / "link")
    assert not path.samefile(image / "big")
    with pytest.raises(FileNotFoundError):
        path.samefile("nope")


def test_paths_of_two_images_differ(image: daxfs.Image, image_path: Path) -> None:
    with daxfs.open(image_path) as other:
        assert other / (image / "dir") == other / "dir"
        assert not (image / "dir").samefile(other / "dir")
        assert image / "dir" != other / "dir"
        with pytest.raises(TypeError):
            image / "dir" < other / "dir"  # noqa: B015


def test_extents_say_where_the_bytes_are(image: daxfs.Image, image_path: Path) -> None:
    (extent,) = image.extents("big")
    assert extent.file_offset == 0
    assert extent.length == 3 * MIB
    assert extent.image_offset % (2 * MIB) == 0
    with image_path.open("rb") as file:
        file.seek(extent.image_offset)
        assert file.read(extent.length) == image.read_bytes("big")
    assert image.extents("empty") == []


def test_image_facts(image: daxfs.Image, image_path: Path) -> None:
    assert image.name == str(image_path)
    assert image.size == image_path.stat().st_size
    assert image.label == "a label"
    assert image.uuid is not None
    assert {"sorted-dirs", "inode-ext", "checksums", "identity", "xattrs"} <= set(image.features)
    assert [span.name for span in image.spans] == ["superblock", "base image"]
    assert sum(span.size for span in image.spans) == image.size
    assert not image.branches


def test_the_name_of_an_image_leads_to_it(image_path: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.daxfs"
    os.link(image_path, name)
    with daxfs.open(name) as image:
        assert os.fsencode(image.name) == name


@pytest.mark.parametrize("form", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
def test_every_form_of_source(image_path: Path, form: type) -> None:
    with daxfs.open(form(str(image_path))) as image:
        assert image.exists("dir")


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**64])
def test_what_is_too_large_for_a_descriptor_overflows(number: int) -> None:
    # As for the built-in open; no complaint that an int is no path.
    with pytest.raises(OverflowError):
        daxfs.open(number)


def test_descriptors_are_sources(image_path: Path) -> None:
    fd = os.memfd_create("image")
    try:
        os.write(fd, image_path.read_bytes())
        for source in (fd, f"fd:{fd}"):
            with daxfs.open(source, invalidate=True) as image:
                assert image.exists("dir")
    finally:
        os.close(fd)


def test_closing(image_path: Path) -> None:
    with daxfs.open(image_path) as image:
        assert not image.closed
        file = image.open("dir/text.txt")
        entry = image.scandir("dir")[0]
    assert image.closed
    assert "closed" in repr(image)
    image.close()
    with pytest.raises(errors.InvalidError):
        image.stat("/")
    # What was handed out goes on.
    assert file.read(5) == b"first"
    assert entry.stat().is_dir()


def test_branches_of_other_implementations() -> None:
    with daxfs.open(VECTORS / "delta.daxfs") as image:
        assert [(one.name, one.parent) for one in image.branches] == [
            ("main", None),
            ("b1", "main"),
        ]
        base = image.listdir()
    with daxfs.open(VECTORS / "delta.daxfs", branch="b1") as image:
        assert image.listdir() != base
    with pytest.raises(errors.NoBranchError):
        daxfs.open(VECTORS / "delta.daxfs", branch="nope")


def test_threads_read_together(image_path: Path, tree: Path) -> None:
    expected = (tree / "big").read_bytes()
    failures: list[object] = []

    def work(image: daxfs.Image) -> None:
        try:
            for _ in range(20):
                assert image.read_bytes("big") == expected
                assert list(image.glob("**/deep")) == ["/dir/sub/deep"]
        except BaseException as error:
            failures.append(error)

    with daxfs.open(image_path) as image:
        threads = [threading.Thread(target=work, args=[image]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


@pytest.mark.parametrize("writable", [False, True])
def test_a_fifo_is_no_image(tmp_path: Path, writable: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(errors.InvalidError, match="neither a file nor a device"):
        daxfs.open(tmp_path / "fifo", writable=writable)


def test_extract_and_compare(image: daxfs.Image, tree: Path, tmp_path: Path) -> None:
    done = image.extract(tmp_path / "out")
    assert done.bytes > 3 * MIB
    assert done.unrestored == 0
    assert image.compare(tmp_path / "out") == []
    assert image.compare(tree / "dir", "dir") == []
    (tmp_path / "out/dir/text.txt").write_text("changed")
    (tmp_path / "out/new").touch()
    kinds = {(one.path, one.kind) for one in image.compare(tmp_path / "out", ignore_mtime=True)}
    assert {("dir/text.txt", "size"), ("new", "only-in-directory")} <= kinds
    image.extract(tmp_path / "one", "dir/sub/deep")
    assert (tmp_path / "one").read_bytes() == b"deep\n"
    with pytest.raises(FileExistsError):
        image.extract(tmp_path / "out")
    image.extract(tmp_path / "out", force=True)


def test_what_is_there_is_replaced_by_an_argument(
    image: daxfs.Image, image_path: Path, tree: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.touch()
    for make in (
        lambda: daxfs.build(tree, there),
        lambda: image.extract_tar(there),
        lambda: daxfs.compact(image_path, there),
    ):
        with pytest.raises(errors.ExistsError) as refused:
            make()
        assert str(refused.value) == f"{there}: exists; `force` replaces it"
        assert refused.value.filename == str(there)


def test_archives_go_both_ways(image: daxfs.Image, tmp_path: Path) -> None:
    image.extract_tar(tmp_path / "x.tar")
    daxfs.build(tmp_path / "x.tar", tmp_path / "x.daxfs", tar=True)
    with daxfs.open(tmp_path / "x.daxfs") as again:
        names = {path: again.lstat(path).st_mode for path in again.glob("**")}
        assert names == {path: image.lstat(path).st_mode for path in image.glob("**")}
        assert again.read_bytes("big") == image.read_bytes("big")


def test_an_archive_may_wait_for_its_reader(image: daxfs.Image, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    waiting = threading.Event()

    def read() -> bytes:
        waiting.wait()
        return pipe.read_bytes()

    with ThreadPoolExecutor(1) as pool:
        archive = pool.submit(read)
        image.extract_tar(pipe, progress=lambda _: waiting.set())
        with tarfile.open(fileobj=io.BytesIO(archive.result())) as tar:
            assert "big" in tar.getnames()
    # Neither the lack of a reader nor one that does not read keeps it from being stopped.
    with pytest.raises(errors.CancelledError):
        image.extract_tar(pipe, progress=lambda progress: progress.cancel())
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(errors.CancelledError):
            image.extract_tar(pipe, progress=lambda progress: progress.cancel())
    finally:
        os.close(reader)


def test_reports(image_path: Path, tmp_path: Path) -> None:
    report = daxfs.validate(image_path)
    assert (report.errors, report.warnings, report.findings) == (0, 0, [])
    assert (report.files, report.directories, report.symlinks) == (6, 4, 5)
    damaged = bytearray(image_path.read_bytes())
    damaged[4096 + 4096 + 8] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    report = daxfs.validate(tmp_path / "damaged")
    assert report.errors > 0
    finding = report.findings[0]
    assert finding.severity == "error"
    assert f"{finding.offset:#x}" in str(finding)
    with pytest.raises(errors.UnsoundImageError):
        daxfs.open(tmp_path / "damaged")
    daxfs.open(tmp_path / "damaged", trusted=True).close()


def test_a_walk_through_a_cycle_ends(cyclic: Path) -> None:
    with (
        daxfs.open(cyclic, trusted=True) as image,
        pytest.raises(errors.UnsoundImageError, match="'/dir/sub' is reached twice"),
    ):
        list(image.walk())


def test_the_package_says_what_it_has() -> None:
    assert dir(daxfs) == sorted(daxfs.__all__)
    for name in daxfs.__all__:
        assert getattr(daxfs, name) is not None
    with pytest.raises(AttributeError):
        daxfs.nothing  # noqa: B018
    assert daxfs.parse_size("0x10K") == 16384


def test_a_forked_child_has_threads_of_its_own(image_path: Path) -> None:
    # The proof runs on several threads; a child that relied on its parent's would hang.
    assert daxfs.validate(image_path).errors == 0
    child = os.fork()
    if child == 0:
        os._exit(daxfs.validate(image_path).errors)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
