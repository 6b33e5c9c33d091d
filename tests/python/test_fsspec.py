# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects reading through fsspec: URLs, the methods others build on, and pandas, pyarrow, dask."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, ClassVar

import dask.dataframe
import fsspec
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest

import daxfs
from daxfs.fsspec import DaxfsFileSystem

FRAME = pd.DataFrame({"a": range(10), "b": list("abcdefghij")})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an image of tables."""
    root = tmp_path_factory.mktemp("tables")
    source = root / "in"
    (source / "parts/more").mkdir(parents=True)
    FRAME.to_csv(source / "t.csv", index=False)
    FRAME.to_csv(source / "odd?name=x.csv", index=False)
    FRAME.to_parquet(source / "t.parquet")
    FRAME.to_parquet(source / "parts/1.parquet")
    FRAME.to_parquet(source / "parts/more/2.parquet")
    (source / "link.csv").symlink_to("t.csv")
    (source / "up").symlink_to(".")
    (source / "dangling").symlink_to("nowhere")
    daxfs.build(source, root / "t.daxfs")
    return root / "t.daxfs"


@pytest.fixture
def files(tables: Path) -> DaxfsFileSystem:
    found = fsspec.filesystem("daxfs", image=tables)
    assert isinstance(found, DaxfsFileSystem)
    return found


@pytest.mark.parametrize(
    "url",
    [
        "daxfs://t.csv::{}",
        "daxfs:///t.csv::{}",
        "daxfs://t.csv::file://{}",
        "daxfs:///t.csv?image={}",
        "daxfs://t.csv?image={}&trusted=1",
        "daxfs://odd?name=x.csv::{}",
        "daxfs:///odd?name=x.csv?image={}",
    ],
)
def test_urls(tables: Path, url: str) -> None:
    with fsspec.open(url.format(tables), "rt") as file:
        assert file.readline() == "a,b\n"
    assert pd.read_csv(url.format(tables)).equals(FRAME)


def test_listing(files: DaxfsFileSystem) -> None:
    names = ["dangling", "link.csv", "odd?name=x.csv", "parts", "t.csv", "t.parquet", "up"]
    assert files.ls("", detail=False) == names
    assert files.ls("/", detail=False) == names
    assert [one["name"] for one in files.ls("parts")] == ["parts/1.parquet", "parts/more"]
    assert files.ls("t.csv", detail=False) == ["t.csv"]
    assert files.glob("**/*.parquet") == [
        "parts/1.parquet",
        "parts/more/2.parquet",
        "t.parquet",
    ]
    assert files.find("parts") == ["parts/1.parquet", "parts/more/2.parquet"]
    # A link to a directory above does not make a walk endless.
    assert len(files.find("")) == 8
    assert files.du("parts") == sum(files.sizes(files.find("parts")))


@pytest.mark.parametrize("options", [{}, {"maxdepth": 1}, {"maxdepth": 2}, {"withdirs": True}])
def test_it_walks_as_other_file_systems_do(
    image: daxfs.Image, tree: Path, options: dict[str, Any]
) -> None:
    files, host = DaxfsFileSystem(image.name), fsspec.filesystem("file")

    def walked(system: Any, top: str, **how: Any) -> list[tuple[str, list[str], list[str]]]:
        return [
            (path.removeprefix(str(tree)).lstrip("/"), sorted(directories), sorted(others))
            for path, directories, others in system.walk(top, **how)
        ]

    assert [path.removeprefix(f"{tree}/") for path in host.find(tree, **options)] == [
        *([str(tree)] if "withdirs" in options else []),
        *files.find("", **options),
    ]
    depth = {key: value for key, value in options.items() if key == "maxdepth"}
    for top in ("", "dir", "big", "nope"):
        for topdown in (True, False):
            expected = walked(host, f"{tree}/{top}".rstrip("/"), topdown=topdown, **depth)
            found = walked(files, top, topdown=topdown, **depth)
            # Their order is the host's.
            assert sorted(found) == sorted(expected)
            if "dir/sub" in (paths := [path for path, _, _ in found]):
                assert (paths.index("dir") < paths.index("dir/sub")) == topdown


def test_what_a_walk_is_told(files: DaxfsFileSystem) -> None:
    seen = []
    for path, directories, _ in files.walk(""):
        seen.append(path)
        if "more" in directories:
            directories.remove("more")
    assert seen == ["", "parts"]
    for _, found, others in files.walk("parts", detail=True):
        assert all(one == files.info(one["name"]) for one in [*found.values(), *others.values()])
    with pytest.raises(FileNotFoundError):
        list(files.walk("nope", on_error="raise"))
    failed: list[OSError] = []
    assert list(files.walk("nope", on_error=failed.append)) == []
    assert isinstance(failed[0], FileNotFoundError)
    with pytest.raises(ValueError, match="maxdepth"):
        files.find("", maxdepth=0)


def test_a_walk_ends_however_deep_the_tree_is(tmp_path: Path, cyclic: Path) -> None:
    (tmp_path / "in").mkdir()
    daxfs.build(tmp_path / "in", tmp_path / "x", branches=True)
    with daxfs.open(tmp_path / "x", writable=True) as image, image.branch("deep") as branch:
        branch.makedirs("d/" * 1500)
    files = fsspec.filesystem("daxfs", image=tmp_path / "x")
    assert len(files.find("", withdirs=True)) == 1500
    assert len(list(files.walk("", topdown=False))) == 1501
    files = fsspec.filesystem("daxfs", image=cyclic, trusted=True)
    with pytest.raises(daxfs.errors.UnsoundImageError, match="'dir/sub' is reached twice"):
        files.find("")


def test_information(files: DaxfsFileSystem) -> None:
    assert files.info("parts")["type"] == "directory"
    assert files.info("t.csv") | {"name": "link.csv", "islink": True} == {
        key: value for key, value in files.info("link.csv").items() if key != "destination"
    } | {"name": "link.csv"} | {"ino": files.info("t.csv")["ino"]}
    assert files.info("up")["type"] == "link"
    assert files.info("dangling")["destination"] == "nowhere"
    assert files.isdir("up")
    assert files.isfile("link.csv")
    assert files.exists("t.csv")
    assert not files.exists("dangling")
    assert files.size("t.csv") == len(files.cat("t.csv"))
    assert files.modified("t.csv").timestamp() == pytest.approx(files.info("t.csv")["mtime"])
    with pytest.raises(FileNotFoundError):
        files.info("nope")
    with pytest.raises(FileNotFoundError):
        files.ls("nope")


def test_ranges(files: DaxfsFileSystem) -> None:
    data = FRAME.to_csv(index=False).encode()
    for start, end in [(None, None), (2, 9), (-4, None), (None, -4), (5, 2), (0, 10**9)]:
        assert files.cat_file("t.csv", start, end) == data[start:end]
    assert files.cat_ranges(["t.csv"] * 2, [0, 4], [3, 8]) == [data[0:3], data[4:8]]
    assert files.head("t.csv", 3) == data[:3]


# The cache of fsspec leaves its file open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_callers_ask_of_open_files(files: DaxfsFileSystem, tmp_path: Path) -> None:
    data = FRAME.to_csv(index=False).encode()
    with files.open("t.csv") as file:
        assert (file.size, file.path, file.mode) == (len(data), "t.csv", "rb")
    assert files.read_block("t.csv", 5, 8, b"\n") == b"1,b\n2,c\n"
    cached = fsspec.filesystem("blockcache", fs=files, cache_storage=str(tmp_path))
    for _ in range(2):
        with cached.open("t.csv") as file:
            assert file.read() == data


def test_parameters_of_urls(tables: Path, tmp_path: Path) -> None:
    image = tmp_path / "a+b &?.daxfs"
    image.symlink_to(tables)
    escaped = str(image).replace("&", "%26").replace("?", "%3F")
    with fsspec.open(f"daxfs:///t.csv?image={escaped}", "rt") as file:
        assert file.readline() == "a,b\n"
    for wrong in ("bogus=1", "trusted"):
        with pytest.raises(ValueError, match=rf"unknown parameter '{wrong[:5]}.*trusted"):
            fsspec.open(f"daxfs:///t.csv?image={tables}&{wrong}")
    for name in ("odd?name=x.csv", "odd?trusted", "image=x", "a%20b+c?d=e&branch=f"):
        assert DaxfsFileSystem._strip_protocol(f"daxfs://{name}") == name
        assert DaxfsFileSystem._get_kwargs_from_urls(f"daxfs://{name}") == {}


def test_read_only(files: DaxfsFileSystem) -> None:
    with pytest.raises(OSError, match="read-only"):
        files.open("new", "wb")


def linked(path: Path) -> DaxfsFileSystem:
    """Put links into the branch."""
    files = fsspec.filesystem("daxfs", image=path, branch="b")
    assert isinstance(files, DaxfsFileSystem)
    files.pipe({"data": b"data", "odd?": b"", "odd_": b""})
    files.mkdir("dir")
    files.mkdir("more")
    files.pipe("dir/one", b"1")
    with files._changing() as branch:
        branch.symlink("dir", "to_dir")
        branch.symlink("data", "to_file")
        branch.symlink("nowhere", "dangling")
        branch.symlink("../dir", "more/to_dir")
        branch.symlink("nowhere", "more/dangling")
    return files


class TestWriting:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Build an image with room for branches, and a branch."""
        source = tmp_path / "in"
        source.mkdir()
        FRAME.to_csv(source / "t.csv", index=False)
        daxfs.build(source, tmp_path / "w.daxfs", branches=True, delta_size="8M")
        with daxfs.open(tmp_path / "w.daxfs", writable=True) as image:
            image.branch("b").close()
        return tmp_path / "w.daxfs"

    @pytest.mark.parametrize("read_first", [False, True])
    def test_a_branch_that_has_ended_is_made_again(self, path: Path, read_first: bool) -> None:
        files = fsspec.filesystem("daxfs", image=path, branch="new", parent="main")
        for content in (b"1", b"2"):
            if read_first:
                assert not files.exists("nothing")
            files.pipe("file", content)
            assert files.cat("file") == content
            with daxfs.open(path, writable=True) as image:
                image.commit_branch("new")
            if read_first:
                assert files.cat("file") == content

    def test_links_that_lead_nowhere_are_there(self, path: Path) -> None:
        with (
            daxfs.open(path, writable=True) as image,
            image.branch("b", keep=True) as branch,
        ):
            branch.mkdir("d")
            branch.symlink("nowhere", "d/a*")
            branch.touch("d/abc")
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        assert files.lexists("d/a*")
        assert not files.exists("d/a*")
        assert not files.lexists("d/b")
        assert not files.lexists("t.csv/b")
        files.rm("d/a*")
        assert files.ls("d", False) == ["d/abc"]
        with pytest.raises(OSError, match="directory"):
            files.rm("/")
        files.rm("/", recursive=True)
        assert files.ls("", False) == []
        made = fsspec.filesystem("daxfs", image=path, branch="b", auto_mkdir=True)
        with pytest.raises(FileNotFoundError):
            made.open("new/file", "r+b")
        assert made.ls("", False) == []

    def test_what_is_written_is_in_the_branch(self, path: Path) -> None:
        url = f"daxfs:///out/new.csv?image={path}&branch=b"
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        files.mkdirs("out")
        FRAME.to_csv(url, index=False)
        assert pd.read_csv(url).equals(FRAME)
        with fsspec.open(url, "ab") as file:
            file.write(b"10,k\n")
        assert len(pd.read_csv(url)) == 11
        FRAME.to_parquet(f"daxfs://out/p.parquet?image={path}&branch=b")
        assert files.ls("out", detail=False) == ["out/new.csv", "out/p.parquet"]
        with daxfs.open(path, writable=True) as image:
            assert not image.exists("out")
            image.commit_branch("b")
            assert image.read_text("out/new.csv").endswith("10,k\n")
        assert daxfs.validate(path).errors == 0

    def test_the_methods_that_change(self, path: Path) -> None:
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        files.makedirs("a")
        files.pipe("a/one", b"1")
        files.cp_file("a/one", "a/two")
        files.mv("a/one", "a/three")
        files.touch("a/empty")
        files.touch("a/two", truncate=False)
        assert files.cat("a/*") == {"a/two": b"1", "a/three": b"1", "a/empty": b""}
        with files.open("a/two", "r+b") as file:
            file.seek(1)
            file.write(b"2")
        assert files.cat("a/two") == b"12"
        files.copy("a", "c/", recursive=True)
        assert len(files.find("c")) == 3
        files.rm("a", recursive=True)
        files.rm_file("c/a/empty")
        assert not files.exists("a")
        with pytest.raises(FileExistsError):
            files.makedirs("c")
        with pytest.raises(FileExistsError):
            files.open("t.csv", "xb")

    def test_others_can_write_in_between(self, path: Path) -> None:
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        with files.open("one", "wb") as file:
            file.write(b"1")
        with (
            daxfs.open(path, writable=True) as image,
            image.branch("b", keep=True) as branch,
        ):
            branch.write_text("two", "2")
            with pytest.raises(daxfs.errors.BranchBusyError):
                files.pipe("three", b"3")
        files.pipe("three", b"3")
        assert files.cat(["one", "two", "three"]) == {"one": b"1", "two": b"2", "three": b"3"}

    def test_links_are_removed_not_followed(self, path: Path) -> None:
        files = linked(path)
        names = files.find("", withdirs=True)
        for link in ("to_dir", "to_file", "dangling"):
            files.rm(link, recursive=True)
            names.remove(link)
            assert files.find("", withdirs=True) == names
        files.rm("more", recursive=True)
        assert files.find("", withdirs=True) == ["data", "dir", "dir/one", "odd?", "odd_", "t.csv"]
        files.rm("odd?")
        assert files.exists("odd_")

    def test_links_are_copied_as_links(self, path: Path) -> None:
        files = linked(path)
        files.copy("more", "copy", recursive=True)
        files.copy("to_dir", "again", recursive=True)
        for link in ("copy/to_dir", "copy/dangling", "again"):
            source = link.replace("copy", "more").replace("again", "to_dir")
            assert files.info(link)["destination"] == files.info(source)["destination"]
        assert files.find("dir") == ["dir/one"]
        # One that is named stands for what it leads to.
        files.copy("to_file", "plain")
        assert not files.info("plain")["islink"]
        assert files.cat("plain") == b"data"

    @pytest.mark.parametrize("what", ["to_dir", "to_dir/", "more"])
    def test_links_that_are_named_are_taken_out_as_directories(
        self, path: Path, tmp_path: Path, what: str
    ) -> None:
        files = linked(path)
        files.rm("more/dangling")
        with files._changing() as branch:
            branch.extract(tmp_path / "tree", "/")
        HOST.get(f"{tmp_path}/tree/{what}", f"{tmp_path}/theirs", recursive=True)
        files.get(what, f"{tmp_path}/ours", recursive=True)
        assert copied(tmp_path / "ours") == copied(tmp_path / "theirs")

    def test_a_file_is_not_copied_onto_itself(self, path: Path) -> None:
        files = linked(path)
        with files._changing() as branch:
            branch.link("data", "hard")
        for source, target in [("data", "data"), ("data", "to_file"), ("hard", "data")]:
            for follow in (True, False):
                with pytest.raises(shutil.SameFileError):
                    files.cp_file(source, target, follow_symlinks=follow)
        assert files.cat("data") == b"data"

    def test_moves(self, path: Path) -> None:
        files = linked(path)
        inode = files.info("data")["ino"]
        files.mv("data", "dir/")
        files.mv("t.csv", "dir")
        assert files.info("dir/data")["ino"] == inode
        files.mv("dir/*", "more")
        assert not files.ls("dir")
        files.mv(["more/data", "more/one"], "dir")
        files.mv(["dir/data"], ["data"])
        files.mkdir("d2")
        files.mv("dir", "d2/", recursive=True)
        assert files.cat("d2/dir/one") == b"1"
        files.mv("d2/d*", "", recursive=True)
        files.mv("dir/", "d2")
        files.mv("d2", "d2")
        assert files.find("d2") == ["d2/one"]
        # A name that is there is no pattern.
        files.mv("odd?", "even")
        assert files.exists("odd_")
        files.mv("to_dir", "d2/")
        assert files.info("d2/to_dir")["islink"]
        with pytest.raises(FileNotFoundError):
            files.mv("nope", "x")

    def test_the_last_use_ends_the_hold(self, path: Path) -> None:
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        others = fsspec.filesystem("daxfs", image=path, branch="b")
        with files.open("one", "wb") as one:
            one.write(b"1")
            with files.open("two", "wb"):
                pass
            files.touch("three")
            with pytest.raises(FileNotFoundError):
                files.open("nope/four", "wb")
            with pytest.raises(daxfs.errors.BranchBusyError):
                others.touch("five")
        others.touch("five")
        assert files.cat("one") == b"1"

    def test_threads_share_a_branch(self, path: Path) -> None:
        for number in range(8):
            files = fsspec.filesystem("daxfs", image=path, branch=f"n{number}", parent="main")
            barrier = Barrier(4)

            def write(
                name: str, files: DaxfsFileSystem = files, barrier: Barrier = barrier
            ) -> None:
                barrier.wait()
                for turn in range(4):
                    files.pipe(f"{name}{turn}", name.encode())

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(write, "wxyz"))
            assert len(files.glob("[w-z][0-3]")) == 16
            # None has it for longer than its change.
            fsspec.filesystem("daxfs", image=path, branch=f"n{number}").touch("other")

    def test_partitioned_tables(self, path: Path) -> None:
        FRAME.to_parquet(f"daxfs:///pandas?image={path}&branch=b", partition_cols=["b"])
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        table = pyarrow.Table.from_pandas(FRAME)
        pyarrow.parquet.write_to_dataset(table, "arrow", partition_cols=["b"], filesystem=files)
        for name in ("pandas", "arrow"):
            assert len(files.ls(name)) == 10
            assert pyarrow.dataset.dataset(name, filesystem=files).count_rows() == 10

    def test_transactions(self, path: Path) -> None:
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        others = fsspec.filesystem("daxfs", image=path, branch="b")
        files.mkdir("d")
        files.pipe("d/one", b"before")
        with files.transaction:
            files.pipe("d/one", b"after")
            with files.open("d/two", "xb") as file:
                file.write(b"2")
            left_open = files.open("three", "w+b")
            left_open.write(b"3")
            assert files.cat("d/one") == b"before"
            assert not files.exists("d/two")
            # So that nothing can come in between.
            with pytest.raises(daxfs.errors.BranchBusyError):
                others.touch("x")
            with pytest.raises(NotImplementedError, match="ab"):
                files.open("t.csv", "ab")
        assert files.cat(["d/one", "d/two", "three"]) == {
            "d/one": b"after",
            "d/two": b"2",
            "three": b"3",
        }
        assert [files.ls("d", detail=False), files.ls("", detail=False)] == [
            ["d/one", "d/two"],
            ["d", "t.csv", "three"],
        ]
        names = files.find("")
        with pytest.raises(FileExistsError), files.transaction, files.open("three", "xb"):
            pass
        with pytest.raises(ZeroDivisionError), files.transaction, files.open("d/one", "wb"):
            raise ZeroDivisionError
        assert files.find("") == names
        assert files.cat("d/one") == b"after"
        others.touch("x")

    def test_what_cannot_be_committed_is_discarded(self, path: Path) -> None:
        """By the file itself: not every fsspec does it."""
        files = fsspec.filesystem("daxfs", image=path, branch="b")
        others = fsspec.filesystem("daxfs", image=path, branch="b")
        files.pipe("there", b"before")
        names = files.find("")
        file = files.open("there", "xb", autocommit=False)
        file.write(b"after")
        with pytest.raises(FileExistsError):
            file.commit()
        assert files.find("") == names
        assert files.cat("there") == b"before"
        others.touch("x")
        file.discard()

    def test_which_branch(self, path: Path) -> None:
        with pytest.raises(daxfs.errors.NoBranchError):
            fsspec.filesystem("daxfs", image=path, branch="nope")
        url = f"daxfs://made?image={path}&branch=new&parent=main"
        with fsspec.open(url, "wb") as file:
            file.write(b"x")
        with daxfs.open(path, branch="new") as image:
            assert image.read_bytes("made") == b"x"
        with pytest.raises(OSError, match="read-only"):
            fsspec.filesystem("daxfs", image=path).pipe("x", b"")


# Makes the directories that are missing, as ours does.
HOST = fsspec.filesystem("file", auto_mkdir=True)


def copied(root: Path) -> dict[str, bytes | None]:
    """Return what is below a directory: contents of files, None for directories."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
    }


class TestCopyingToAndFromTheHost:
    """Where to is what fsspec says: it is the same from a directory of the host."""

    CASES: ClassVar[list[tuple[Any, dict[str, Any]]]] = [
        *((path, {}) for path in ("a.csv", "dir", "dir/one", "*.csv", "*", "dir/o*")),
        *((path, {"recursive": True}) for path in ("a.csv", "dir", "dir/", "dir/sub", "d*", "/")),
        *((path, {"recursive": True, "maxdepth": 1}) for path in ("dir", "*")),
        *((path, {}) for path in (["a.csv"], ["a.csv", "dir/one"])),
    ]

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        source = tmp_path / "in"
        (source / "dir/sub").mkdir(parents=True)
        for name in ("a.csv", "b", "dir/one", "dir/sub/two"):
            (source / name).write_text(name)
        return source

    @pytest.fixture
    def files(self, source: Path, tmp_path: Path) -> DaxfsFileSystem:
        path = tmp_path / "x.daxfs"
        daxfs.build(source, path, branches=True, delta_size="8M")
        with daxfs.open(path, writable=True) as image:
            image.branch("b").close()
        return DaxfsFileSystem(path, branch="b")

    @pytest.mark.parametrize("target", ["there", "there/", "new", "new/"])
    @pytest.mark.parametrize(("what", "options"), CASES)
    def test_get(
        self,
        files: DaxfsFileSystem,
        source: Path,
        tmp_path: Path,
        what: Any,
        options: dict[str, Any],
        target: str,
    ) -> None:
        def got(name: str, system: Any, top: str) -> Any:
            (tmp_path / name / "there").mkdir(parents=True)
            path = [top + one for one in what] if isinstance(what, list) else top + what
            system.get(path, f"{tmp_path}/{name}/{target}", **options)
            return copied(tmp_path / name)

        assert got("ours", files, "") == got("theirs", HOST, f"{source}/")

    @pytest.mark.parametrize("target", ["there", "there/", "new", "new/", "", "/"])
    @pytest.mark.parametrize(("what", "options"), CASES)
    def test_put(
        self,
        files: DaxfsFileSystem,
        source: Path,
        tmp_path: Path,
        what: Any,
        options: dict[str, Any],
        target: str,
    ) -> None:
        path = [f"{source}/{one}" for one in what] if isinstance(what, list) else f"{source}/{what}"
        (tmp_path / "theirs/there").mkdir(parents=True)
        HOST.put(path, f"{tmp_path}/theirs/{target}", **options)
        files.rm(files.ls("", detail=False), recursive=True)
        files.mkdir("there")
        files.put(path, target, **options)
        (tmp_path / "ours").mkdir()
        files.get("/", f"{tmp_path}/ours/", recursive=True)
        assert copied(tmp_path / "ours") == copied(tmp_path / "theirs")

    def test_names_for_each(self, files: DaxfsFileSystem, tmp_path: Path) -> None:
        files.get(["a.csv", "b"], [f"{tmp_path}/1", f"{tmp_path}/2"])
        files.get("a.csv", [f"{tmp_path}/3"])
        assert [(tmp_path / name).read_text() for name in "123"] == ["a.csv", "b", "a.csv"]
        files.copy("dir", "no")
        assert not files.exists("no")

    def test_nothing_is_put_elsewhere(self, source: Path, tmp_path: Path) -> None:
        (source / "escaped").touch()
        (source / "dir/123456escaped").touch()
        daxfs.build(source, tmp_path / "x.daxfs")
        damaged = (tmp_path / "x.daxfs").read_bytes().replace(b"123456escaped", b"../../escaped")
        (tmp_path / "x.daxfs").write_bytes(damaged)
        files = DaxfsFileSystem(tmp_path / "x.daxfs", trusted=True)
        with pytest.raises(daxfs.errors.InvalidError, match="escaped' is not in"):
            files.get("dir", f"{tmp_path}/out", recursive=True)
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "escaped").exists()


def test_only_local_images_can_be_mapped(tables: Path) -> None:
    with pytest.raises(ValueError, match="local"):
        fsspec.open("daxfs://t.csv::memory://x.daxfs", "rb")
    with pytest.raises(ValueError, match="no image"):
        fsspec.filesystem("daxfs")


def test_file_systems_can_be_pickled(files: DaxfsFileSystem) -> None:
    assert pickle.loads(pickle.dumps(files)).cat("t.csv") == files.cat("t.csv")


def test_pandas_and_pyarrow(tables: Path, files: DaxfsFileSystem) -> None:
    assert pd.read_parquet(f"daxfs://t.parquet::{tables}").equals(FRAME)
    assert pyarrow.parquet.read_table("t.parquet", filesystem=files).num_rows == 10
    assert pyarrow.dataset.dataset("parts", filesystem=files).count_rows() == 20


def test_dask(tables: Path) -> None:
    frame = dask.dataframe.read_csv(f"daxfs://*.csv::{tables}")
    assert len(frame.compute(scheduler="threads")) == 30


def test_what_is_missing_where_fsspec_is_not_installed() -> None:
    code = "import sys; sys.modules['fsspec'] = None; import daxfs.fsspec"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'daxfs[fsspec]'")
