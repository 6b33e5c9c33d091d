# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects branches as a whole: whatever is done, they are what plain trees in memory become.

One list of operations drives an image, through the package, and a model: a tree of Python objects
for each branch. Each operation succeeds in both or fails in both, and after every end of a branch
and every reopening the trees are compared as text. That of an image is read by fresh openers, too.
"""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import daxfs
from daxfs.errors import BranchStaleError, DaxfsError

BIG = b"base" * 5000


class RefusedError(Exception):
    """The model does not allow it."""


class Node:
    """A file of the model; several names share one object."""

    def __init__(self, kind: str, mode: int, data: bytes = b"", target: str = "") -> None:
        self.kind, self.mode, self.data, self.target = kind, mode, data, target
        self.names: dict[str, Node] = {}
        self.xattrs: dict[str, bytes] = {}


class Tree:
    """A file system of nodes."""

    def __init__(self) -> None:
        self.root = Node("d", 0o755)

    def resolve(self, path: str, *, follow: bool = True) -> Node:
        trail = [self.root]
        todo = [part for part in path.split("/") if part]
        for _ in range(200):
            if not todo:
                return trail[-1]
            part = todo.pop(0)
            if trail[-1].kind != "d":
                raise RefusedError
            if part == "..":
                trail = trail[:-1] or trail
                continue
            node = trail[-1].names.get(part)
            if node is None:
                raise RefusedError
            if node.kind == "l" and (todo or follow):
                todo = [part for part in node.target.split("/") if part] + todo
            else:
                trail.append(node)
        raise RefusedError

    def place(self, path: str) -> tuple[Node, str]:
        above, _, name = path.rpartition("/")
        directory = self.resolve(above)
        if directory.kind != "d" or name in ("", ".."):
            raise RefusedError
        return directory, name

    def dump(self) -> str:
        counts: dict[int, int] = {}
        found: list[tuple[str, Node]] = []
        pending = [("/", self.root)]
        while pending:
            path, node = pending.pop()
            found.append((path, node))
            counts[id(node)] = counts.get(id(node), 0) + 1
            if node.kind == "d":
                pending += [(path.rstrip("/") + "/" + name, n) for name, n in node.names.items()]
        lines = []
        for path, node in sorted(found, key=lambda pair: pair[0]):
            nlink = counts[id(node)]
            if node.kind == "d":
                nlink = 2 + sum(below.kind == "d" for below in node.names.values())
            mode = "" if node.kind == "l" else f"{node.mode:o}"
            xattrs = sorted(node.xattrs.items())
            lines.append(f"{path} {node.kind} {mode} {nlink} {node.data!r} {node.target} {xattrs}")
        return "\n".join(lines)

    # The operations, named as those of `daxfs.Branch`.

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        node = self.file(path)
        if data:
            node.data = (
                node.data[:offset].ljust(offset, b"\0") + data + node.data[offset + len(data) :]
            )

    def append(self, path: str, data: bytes) -> None:
        node = self.file(path)
        node.data += data

    def file(self, path: str) -> Node:
        node = self.resolve(path)
        if node.kind != "f":
            raise RefusedError
        return node

    def write_bytes(self, path: str, data: bytes) -> None:
        for _ in range(50):
            directory, name = self.place(path)
            node = directory.names.get(name)
            if node is None:
                node = directory.names[name] = Node("f", 0o644)
            if node.kind == "l":
                path = path.rpartition("/")[0] + "/" + node.target
                continue
            if node.kind != "f":
                raise RefusedError
            node.data = data
            return
        raise RefusedError

    def truncate(self, path: str, size: int) -> None:
        node = self.file(path)
        node.data = node.data[:size].ljust(size, b"\0")

    def punch_hole(self, path: str, offset: int, length: int) -> None:
        node = self.file(path)
        end = min(offset + length, len(node.data))
        if offset < end:
            node.data = node.data[:offset] + bytes(end - offset) + node.data[end:]

    def new(self, path: str, node: Node) -> None:
        directory, name = self.place(path)
        if name in directory.names:
            raise RefusedError
        directory.names[name] = node

    def mkdir(self, path: str) -> None:
        self.new(path, Node("d", 0o755))

    def symlink(self, target: str, path: str) -> None:
        self.new(path, Node("l", 0o777, target=target))

    def link(self, source: str, path: str) -> None:
        node = self.resolve(source)
        if node.kind == "d":
            raise RefusedError
        self.new(path, node)

    def unlink(self, path: str) -> None:
        directory, name = self.place(path)
        if name not in directory.names or directory.names[name].kind == "d":
            raise RefusedError
        del directory.names[name]

    def rmdir(self, path: str) -> None:
        directory, name = self.place(path)
        node = directory.names.get(name)
        if node is None or node.kind != "d" or node.names:
            raise RefusedError
        del directory.names[name]

    def contains(self, above: Node, below: Node) -> bool:
        return above is below or any(self.contains(n, below) for n in above.names.values())

    def move(self, source: str, target: str, how: str) -> None:
        old, old_name = self.place(source)
        new, new_name = self.place(target)
        node, other = old.names.get(old_name), new.names.get(new_name)
        if node is None or (node.kind == "d" and self.contains(node, new)):
            raise RefusedError
        if how == "exchange":
            if other is None or (other.kind == "d" and self.contains(other, old)):
                raise RefusedError
            old.names[old_name], new.names[new_name] = other, node
            return
        if other is not None:
            if how == "noreplace":
                raise RefusedError
            if other is node:
                return
            if (node.kind == "d") != (other.kind == "d") or other.names:
                raise RefusedError
        del old.names[old_name]
        new.names[new_name] = node

    def rename(self, source: str, target: str) -> None:
        self.move(source, target, "noreplace")

    def replace(self, source: str, target: str) -> None:
        self.move(source, target, "replace")

    def exchange(self, source: str, target: str) -> None:
        self.move(source, target, "exchange")

    def chmod(self, path: str, mode: int) -> None:
        self.resolve(path).mode = mode

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        self.resolve(path).xattrs[name] = value

    def removexattr(self, path: str, name: str) -> None:
        if self.resolve(path).xattrs.pop(name, None) is None:
            raise RefusedError


def write_at(branch: daxfs.Branch, path: str, offset: int, data: bytes) -> None:
    with branch.open(path, "r+b", 0) as file:
        file.seek(offset)
        file.write(data)


def append(branch: daxfs.Branch, path: str, data: bytes) -> None:
    if not branch.exists(path):
        raise FileNotFoundError(path)
    with branch.open(path, "ab", 0) as file:
        file.write(data)


# How an operation is done to a branch, where it is no method of the same name.
HOW: dict[str, Callable[..., object]] = {"write_at": write_at, "append": append}


def dump(tree: Any) -> str:
    """Return a tree of an image in the model's words."""
    lines = []
    for path in ["/", *sorted(tree.glob("**/*"))]:
        info = tree.lstat(path)
        kind = "d" if info.is_dir() else "l" if info.is_symlink() else "f"
        mode = "" if kind == "l" else f"{stat.S_IMODE(info.st_mode):o}"
        data = tree.read_bytes(path) if kind == "f" else b""
        assert kind != "f" or len(data) == info.st_size
        target = tree.readlink(path) if kind == "l" else ""
        xattrs = sorted(tree.xattrs(path, follow_symlinks=False).items())
        lines.append(f"{path} {kind} {mode} {info.st_nlink} {data!r} {target} {xattrs}")
    return "\n".join(lines)


class Both:
    """An image and its model, side by side."""

    def __init__(self, source: Path | int) -> None:
        self.source = source
        self.image = daxfs.open(source, writable=True)
        base = Tree()
        base.root.names = {
            "a": Node("d", 0o755),
            "b": Node("f", 0o644, BIG),
            "e": Node("l", 0o777, target="a"),
        }
        base.root.names["c"] = base.root.names["b"]
        base.root.names["a"].names = {"b": Node("f", 0o644, b"deep"), "d": Node("d", 0o755)}
        self.trees = {"main": base}
        self.parents: dict[str, str] = {}
        self.handles: dict[str, daxfs.Branch] = {}
        self.made = 0

    def frozen(self, name: str) -> bool:
        return name in self.parents.values()

    def handle(self, name: str) -> daxfs.Branch:
        if name not in self.handles:
            self.handles[name] = self.image.branch(name, keep=True)
        return self.handles[name]

    def chosen(self, number: int) -> str:
        names = list(self.trees)
        return names[number % len(names)]

    def change(self, number: int, what: str, *arguments: object) -> None:
        name = self.chosen(number)
        allowed = copy.deepcopy(self.trees[name])
        try:
            getattr(allowed, what)(*arguments)
        except RefusedError:
            allowed = None  # type: ignore[assignment]
        if allowed is None or self.frozen(name):
            with pytest.raises((DaxfsError, FileNotFoundError)):
                self.do(name, what, *arguments)
        else:
            self.do(name, what, *arguments)
            self.trees[name] = allowed

    def do(self, name: str, what: str, *arguments: object) -> None:
        branch = self.handle(name)
        if what in HOW:
            HOW[what](branch, *arguments)
        else:
            getattr(branch, what)(*arguments)

    def create(self, number: int) -> None:
        parent = self.chosen(number)
        if len(self.trees) > 6:
            return
        self.made += 1
        name = f"n{self.made}"
        self.handles[name] = self.image.branch(name, parent=parent, create=True, keep=True)
        self.trees[name] = copy.deepcopy(self.trees[parent])
        self.parents[name] = parent

    def commit(self, number: int) -> None:
        name = self.chosen(number)
        if name == "main" or self.frozen(name):
            with pytest.raises(DaxfsError):
                self.handle(name).commit()
            return
        self.handle(name).commit()
        for other, handle in self.handles.items():
            if other != "main":
                with pytest.raises(BranchStaleError):
                    handle.listdir()
        self.trees = {"main": self.trees[name]}
        self.parents = {}
        self.handles = {k: handle for k, handle in self.handles.items() if k == "main"}
        self.compare()

    def abort(self, number: int) -> None:
        name = self.chosen(number)
        if name == "main" or self.frozen(name):
            with pytest.raises(DaxfsError):
                self.handle(name).abort()
            return
        self.handle(name).abort()
        with pytest.raises(BranchStaleError):
            self.handles.pop(name).listdir()
        del self.trees[name], self.parents[name]
        self.compare()

    def release(self, number: int) -> None:
        self.handle(self.chosen(number)).release() if not self.frozen(self.chosen(number)) else None

    def close(self) -> None:
        for handle in self.handles.values():
            handle.close()
        self.handles = {}
        self.image.close()

    def reopen(self) -> None:
        self.close()
        assert daxfs.validate(self.source).errors == 0
        self.image = daxfs.open(self.source, writable=True)
        self.compare()
        for name, tree in self.trees.items():
            with daxfs.open(self.source, branch=name) as image:
                assert dump(image) == tree.dump()

    def maintain(self) -> None:
        self.image.maintain()
        self.compare()

    def compare(self) -> None:
        assert set(self.image.branches.names) == set(self.trees)
        for name, tree in self.trees.items():
            with self.image.branch(name, writable=False) as branch:
                assert dump(branch) == tree.dump(), name


# Few names, so that operations meet; those that begin as files come first, for what needs one.
_FILES = ["b", "c", "a/b"]
_OTHERS = ["a", "d", "e", "f", "a/c", "a/d", "a/d/b", "d/b", "d/c", "d/d", "e/b", "e/c", "b/c"]
PATHS = st.sampled_from(_FILES * 4 + _OTHERS)
DATA = st.builds(
    lambda byte, size: bytes([byte]) * size,
    st.integers(1, 255),
    st.sampled_from([0, 1, 100, 4095, 4096, 4097, 9000]),
)
OFFSETS = st.sampled_from([0, 1, 100, 4095, 4096, 4097, 8192, 19_999, 20_000, 30_000])
BRANCH = st.integers(0, 6)
MODES = st.sampled_from([0o644, 0o600, 0o4755, 0o1777])


def change(what: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just("change"), BRANCH, st.just(what), *arguments)


OPERATIONS = st.one_of(
    change("write_at", PATHS, OFFSETS, DATA),
    change("append", PATHS, DATA),
    change("write_bytes", PATHS, DATA),
    change("truncate", PATHS, OFFSETS),
    change("punch_hole", PATHS, OFFSETS, st.sampled_from([1, 4096, 10_000])),
    change("mkdir", PATHS),
    change("symlink", st.sampled_from(["a", "../b", "d", "a/b", "zz", "e"]), PATHS),
    change("link", PATHS, PATHS),
    change("unlink", PATHS),
    change("rmdir", PATHS),
    change("rename", PATHS, PATHS),
    change("replace", PATHS, PATHS),
    change("exchange", PATHS, PATHS),
    change("chmod", PATHS, MODES),
    change("setxattr", PATHS, st.sampled_from(["user.a", "user.b"]), DATA),
    change("removexattr", PATHS, st.sampled_from(["user.a", "user.b"])),
    st.tuples(st.sampled_from(["create", "commit", "abort", "release"]), BRANCH),
    st.tuples(st.just("create"), BRANCH),
    st.tuples(st.sampled_from(["reopen", "maintain"])),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Build what every run begins with."""
    root = tmp_path_factory.mktemp("model")
    tree = root / "in"
    (tree / "a/d").mkdir(parents=True)
    (tree / "a/b").write_bytes(b"deep")
    (tree / "b").write_bytes(BIG)
    (tree / "c").hardlink_to(tree / "b")
    (tree / "e").symlink_to("a")
    for path in (tree, tree / "a", tree / "a/d"):
        path.chmod(0o755)
    for path in (tree / "a/b", tree / "b"):
        path.chmod(0o644)
    daxfs.build(tree, root / "x", branches=True, delta_size="16M")
    return (root / "x").read_bytes()


@pytest.mark.parametrize("backing", ["file", "memory"])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(OPERATIONS, min_size=20, max_size=80))
def test_branches_are_what_the_model_says(
    base: bytes, tmp_path: Path, backing: str, operations: list[tuple[Any, ...]]
) -> None:
    source: Path | int
    if backing == "memory":
        source = os.memfd_create("model")
        os.write(source, base)
    else:
        source = tmp_path / "model"
        source.write_bytes(base)
    try:
        with closing(Both(source)) as both:
            both.compare()
            for operation, *arguments in operations:
                note(f"{operation} {arguments}")
                getattr(both, operation)(*arguments)
            both.reopen()
    finally:
        if isinstance(source, int):
            with suppress(OSError):
                os.close(source)
