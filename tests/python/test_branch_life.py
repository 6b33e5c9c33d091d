# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the life of branches from Python: how they are made, held, committed and aborted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import daxfs
from daxfs import errors
from support.small import VECTORS, sound


@pytest.fixture
def image(writable: daxfs.Image) -> daxfs.Image:
    return writable


class TestLife:
    def test_a_block_is_committed(self, path: Path) -> None:
        with daxfs.open(path, writable=True) as image:
            assert image.writable
            with image.branch("feature") as branch:
                branch.write_text("new", "text")
                assert branch.read_text("new") == "text"
                assert not image.exists("new")
                assert image.branches["feature"].parent == "main"
                owner = image.branches["feature"].owner
                assert owner is not None
                assert (owner.pid, owner.alive) == (os.getpid(), True)
            assert branch.closed
            assert image.read_text("new") == "text"
            assert image.branches.names == ["main"]
        assert sound(path)
        with daxfs.open(path) as again:
            assert not again.writable
            assert again.read_text("new") == "text"

    def test_what_somebody_makes_just_then_is_opened(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with daxfs.open(path, writable=True) as image, daxfs.open(path, writable=True) as other:
            before = image.branches

            def look(_: daxfs.Image) -> object:
                other.branch("b", create=True).close()
                return before

            monkeypatch.setattr(daxfs.Image, "branches", property(look))
            with image.branch("b") as branch:
                branch.write_text("new", "text")
            assert image.read_text("new") == "text"

    def test_an_exception_aborts(self, image: daxfs.Image) -> None:
        with suppress(KeyError), image.branch("b") as branch:
            branch.write_text("new", "text")
            raise KeyError
        assert branch.closed
        assert "b" not in image.branches
        assert not image.exists("new")

    def test_a_parent_is_frozen_as_long_as_children_live(self, image: daxfs.Image) -> None:
        with image.branch("parent", keep=True), image.branch("child", parent="parent") as child:
            frozen = {name: image.branches[name].frozen for name in image.branches.names}
            assert frozen == {"main": True, "parent": True, "child": False}
            child.abort()
            assert not image.branches["parent"].frozen
            assert image.branches["main"].frozen
        image.branch("parent").abort()
        assert not image.branches["main"].frozen

    def test_a_full_table_says_so(self, image: daxfs.Image) -> None:
        made: list[daxfs.Branch] = []

        def fill() -> None:
            while len(made) < 256:
                made.append(image.branch(f"b{len(made)}", keep=True))

        with pytest.raises(errors.NoSpaceError, match="no record is left") as caught:
            fill()
        assert caught.value.errno == errno.ENOSPC
        # Some are kept, so that commits can be folded.
        assert 250 < len(made) < 255
        for branch in made:
            branch.close()
        image.branch("b0").abort()
        image.branch("one more").commit()

    def test_what_is_kept_is_there_later(self, path: Path) -> None:
        with daxfs.open(path, writable=True) as image:
            with image.branch("b", keep=True) as branch:
                branch.write_text("new", "text")
            assert image.branches["b"].owner is None
        with daxfs.open(path, branch="b") as other:
            assert other.read_text("new") == "text"
            assert other.branches.names == ["main", "b"]
        with daxfs.open(path, writable=True) as image, image.branch("b") as branch:
            assert branch.read_text("new") == "text"
        with daxfs.open(path) as other:
            assert other.read_text("new") == "text"

    def test_ends_by_hand(self, image: daxfs.Image) -> None:
        with image.branch("b") as branch:
            branch.write_text("new", "1")
            branch.commit()
            with pytest.raises(errors.BranchStaleError, match="committed") as caught:
                branch.exists("new")
            assert (caught.value.errno, caught.value.branch) == (errno.ESTALE, "b")
        with image.branch("c") as branch:
            branch.write_text("new", "2")
            branch.abort()
            with pytest.raises(errors.BranchStaleError, match="aborted"):
                branch.write_text("new", "3")
        assert image.read_text("new") == "1"

    def test_one_winner(self, image: daxfs.Image) -> None:
        first, second = image.branch("first"), image.branch("second")
        nested = image.branch("nested", parent="second")
        first.write_text("by", "first")
        nested.write_text("by", "nested")
        with second.open("dir/text.txt") as file:
            first.commit()
            for use in (nested.listdir, nested.commit, second.abort, file.read):
                with pytest.raises(errors.BranchStaleError):
                    use()
        third = image.branch("third")
        with image.branch("fourth"):
            pass
        with pytest.raises(errors.BranchStaleError), third:
            third.write_text("by", "third")
        assert image.read_text("by") == "first"

    def test_a_chain_is_committed_whole(self, path: Path) -> None:
        with daxfs.open(path, writable=True) as image:
            parent = "main"
            for depth in range(12):
                with image.branch(f"d{depth}", parent=parent, keep=True) as branch:
                    branch.write_text(f"f{depth}", str(depth))
                    branch.write_text("last", str(depth))
                parent = branch.name
            with pytest.raises(errors.ReadOnlyBranchError, match="d1"), image.branch("d0") as below:
                below.write_text("x", "")
            with pytest.raises(errors.BranchBusyError):
                image.commit_branch("d3")
            image.commit_branch(parent)
            assert [image.read_text(f"f{depth}") for depth in range(12)] == [
                str(depth) for depth in range(12)
            ]
            assert image.read_text("last") == "11"
            assert image.branches.names == ["main"]
        assert sound(path)

    def test_main_can_be_written(self, image: daxfs.Image) -> None:
        with image.branch("main") as main:
            main.write_text("direct", "1")
            with pytest.raises(ValueError, match="main"):
                main.abort()
        assert image.read_text("direct") == "1"

    def test_what_cannot_be_aborted(self, image: daxfs.Image) -> None:
        with image.branch("a", keep=True) as branch, image.branch("b", parent="a", keep=True):
            with pytest.raises(errors.BranchBusyError):
                branch.abort()
            with (
                image.branch("b", writable=False) as reader,
                pytest.raises(errors.ReadOnlyBranchError),
            ):
                reader.abort()
            image.abort_branch("b")
            branch.abort()
            with pytest.raises(errors.BranchStaleError):
                branch.abort()
        with pytest.raises(errors.InvalidError, match="closed"):
            branch.abort()

    def test_who_may_open_what(self, path: Path, image: daxfs.Image, branch: daxfs.Branch) -> None:
        with pytest.raises(errors.BranchExistsError) as taken:
            image.branch("b", create=True)
        assert isinstance(taken.value, FileExistsError)
        for unknown in (
            lambda: image.branch("nope", create=False),
            lambda: image.branch("nope", writable=False),
            lambda: image.branch("x", parent="nope"),
            lambda: image.branches["nope"],
        ):
            with pytest.raises(errors.NoBranchError, match="nope"):
                unknown()
        for name in ("", "a/b", "x" * 32, "-x", "@x", ".", "a\nb"):
            with pytest.raises(errors.InvalidError):
                image.branch(name, create=True)
        with (
            daxfs.open(path, writable=True) as other,
            pytest.raises(errors.BranchBusyError, match=str(os.getpid())) as busy,
        ):
            other.branch("b")
        assert busy.value.errno == errno.EBUSY
        with image.branch("b", writable=False) as reader:
            branch.write_text("new", "1")
            assert reader.read_text("new") == "1"
            assert not reader.writable
            for write in (
                lambda: reader.write_text("new", ""),
                lambda: reader.open("new", "r+b"),
                lambda: reader.mkdir("d"),
                reader.commit,
            ):
                with pytest.raises(errors.ReadOnlyBranchError) as refused:
                    write()
                assert refused.value.errno == errno.EROFS
        with daxfs.open(path) as read_only, pytest.raises(errors.InvalidError, match="writable"):
            read_only.branch("x")

    def test_images_without_room(self, tree: Path, tmp_path: Path) -> None:
        daxfs.build(tree, tmp_path / "static")
        for source in (tmp_path / "static", VECTORS / "delta.daxfs"):
            with pytest.raises(errors.UnsupportedError):
                daxfs.open(source, writable=True)

    def test_branches_are_a_sequence_with_names(
        self, image: daxfs.Image, branch: daxfs.Branch
    ) -> None:
        branches = image.branches
        assert (len(branches), branches[0].name, branches[-1].name) == (2, "main", "b")
        assert "b" in branches
        assert branches["b"] in branches
        assert "c" not in branches
        assert branches["b"].created_ns is not None
        assert [one.frozen for one in branches] == [True, False]
        assert hash(branches["b"]) == hash(image.branches["b"])

    def test_who_only_reads_is_told_the_same(self, path: Path, image: daxfs.Image) -> None:
        for name, parent in (("one", "main"), ("two", "one")):
            with image.branch(name, parent=parent, keep=True) as made:
                made.write_text("new", name)

        def told(image: daxfs.Image) -> list[tuple[object, ...]]:
            return [
                (
                    one.id,
                    one.name,
                    one.parent,
                    one.log_size,
                    one.frozen,
                    one.quarantined,
                    one.layers,
                )
                for one in image.branches
            ]

        with daxfs.open(path) as reading:
            assert told(reading) == told(image)
            assert [one.frozen for one in reading.branches] == [True, True, False]

    def test_an_open_file_that_others_removed_is_not_found(
        self, path: Path, image: daxfs.Image
    ) -> None:
        with image.branch("main") as main, daxfs.open(path, writable=True) as other:
            main.write_text("goes", "text")
            main.sync()
            with other.open("goes") as file:
                main.unlink("goes")
                # Until main's log is begun anew, without it.
                while other.branches["main"].layers < 2:
                    for _ in range(500):
                        main.write_text("comes", "text")
                        main.unlink("comes")
                with pytest.raises(FileNotFoundError):
                    file.read()

    def test_another_process_sees_and_ends_it(self, path: Path, image: daxfs.Image) -> None:
        with image.branch("b", keep=True) as branch:
            branch.write_text("new", "1")
        script = (
            "import sys, daxfs\n"
            "with daxfs.open(sys.argv[1], writable=True) as image, image.branch('b') as b:\n"
            "    assert b.read_text('new') == '1'\n"
            "    b.write_text('new', '2')\n"
        )
        subprocess.run([sys.executable, "-c", script, path], check=True)
        assert image.read_text("new") == "2"

    def test_the_holds_of_the_dead_are_broken(self, path: Path) -> None:
        script = (
            "import os, sys, daxfs\n"
            "image = daxfs.open(sys.argv[1], writable=True)\n"
            "b = image.branch('b')\n"
            "b.write_text('kept', '1'); b.sync(); b.write_text('lost', '2')\n"
            "os._exit(0)\n"
        )
        subprocess.run([sys.executable, "-c", script, path], check=True)
        with daxfs.open(path, writable=True) as image:
            owner = image.branches["b"].owner
            assert owner is not None
            assert owner.alive is False
            with image.branch("b") as branch:
                assert branch.read_text("kept") == "1"
                branch.write_text("more", "3")
            assert image.read_text("more") == "3"
        assert sound(path)

    def test_memory_can_be_written_too(self, path: Path) -> None:
        fd = os.memfd_create("image")
        os.write(fd, path.read_bytes())
        with daxfs.open(fd, writable=True) as image:
            with image.branch("b") as branch:
                branch.write_text("new", "1")
            with daxfs.open(fd) as other:
                assert other.read_text("new") == "1"
        os.close(fd)
