# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Protects the agreement of the two engines: the kernel's, in C, and the tools', in Rust, come to
the same verdict and show the same tree, and lay structures out as the specification says.

The C engine runs under the address and undefined-behaviour sanitizers, so a crash fails too.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import daxfs
from daxfs import _daxfs, errors
from support.small import VECTORS

ROOT = Path(__file__).parents[2]
MUTANTS = 800

Verdict = tuple[int, int, str] | None
"""Errno, offset and structure; None for a sound image."""


def test_tables(engine: Path) -> None:
    subprocess.run([engine / "tables"], check=True)


def structures() -> Iterator[tuple[str, str, int, int]]:
    """Yield structure, field, offset and size of every table of the specification."""
    sizes = {"u16": 2, "u32": 4, "u64": 8, "i64": 8}
    title = ""
    for line in (ROOT / "docs/format.md").read_text().splitlines():
        if line.startswith("### "):
            title = line.removeprefix("### ")
        elif found := re.match(r"\| (\d+) \| (\w+)(?: bytes)? \| (\w+) \|", line):
            offset, kind, field = found.groups()
            yield title, field, int(offset), sizes.get(kind) or int(kind)


def c_name(title: str) -> str:
    """Return the name in C of a structure of the specification."""
    names = {
        "log entry header": "entry_header",
        "CREATE, MKDIR": "create_body",
        "SETATTR times": "setattr_times",
    }
    if title in names:
        return names[title]
    return f"{title.lower()}_body" if title.isupper() else title.replace(" ", "_")


def test_structures_are_laid_out_as_specified(tmp_path: Path) -> None:
    fields = list(structures())
    assert len({title for title, *_ in fields}) == 23
    rows = "".join(
        f'printf("%zu %zu\\n", offsetof(struct daxfs_{c_name(title)}, {field}),'
        f" sizeof(((struct daxfs_{c_name(title)} *)0)->{field}));\n"
        for title, field, *_ in fields
    )
    source = tmp_path / "offsets.c"
    source.write_text(f'#include "daxfs_format.h"\nint main(void) {{\n{rows}return 0;\n}}\n')
    program = tmp_path / "offsets"
    subprocess.run(["gcc", f"-I{ROOT}/kernel", "-o", program, source], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    found = [tuple(map(int, line.split())) for line in printed.splitlines()]
    assert found == [(offset, size) for *_, offset, size in fields]


def c_verdicts(engine: Path, images: list[Path]) -> list[Verdict]:
    """Return what the C engine says of images."""
    done = subprocess.run(
        [engine / "verdict", *images], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    verdicts: list[Verdict] = []
    for line in done.stdout.splitlines():
        if line == "sound":
            verdicts.append(None)
        else:
            found = re.match(r"(\d+) (\w+) (.*?): ", line)
            assert found, line
            verdicts.append((int(found[1]), int(found[2], 16), found[3]))
    assert len(verdicts) == len(images)
    return verdicts


def rust_findings(image: Path) -> tuple[int, set[tuple[int, str]]]:
    """Return the errno and the findings of the Rust engine, 0 and none for a sound image."""
    try:
        report = _daxfs.validate(image)
    except errors.UnsupportedError as error:
        return error.errno or 0, set()
    except errors.CorruptImageError as error:
        return error.errno or 0, {(error.offset, error.what)}
    found = {(item.offset, item.what) for item in report.findings if item.severity == "error"}
    return (117 if found else 0), found


def assert_agreement(engine: Path, images: list[Path]) -> list[Path]:
    """Assert that both engines say the same of static images; return those that are sound."""
    sound = []
    for image, said in zip(images, c_verdicts(engine, images), strict=True):
        errno, findings = rust_findings(image)
        if said is None:
            assert errno == 0, (image, sorted(findings)[:5])
            sound.append(image)
        else:
            assert said[0] == errno, (image, said, sorted(findings)[:5])
            assert not findings or said[1:] in findings, (image, said, sorted(findings)[:5])
    return sound


def escape(name: bytes) -> str:
    """Write a name as the C program does."""
    return "".join(
        chr(byte) if 32 < byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in name
    )


def make_crc_table() -> list[int]:
    """Return the table of CRC-32C."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data: bytes | bytearray) -> int:
    """Return the CRC-32C of bytes."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = checksum >> 8 ^ CRC_TABLE[(checksum ^ byte) & 255]
    return checksum ^ 0xFFFFFFFF


def rust_tree(image: daxfs.Image) -> list[str]:
    """Return what the Rust engine shows, in the form of the C program."""
    lines = []
    todo = [b""]
    while todo:
        path = todo.pop()
        status = image.stat(path or b"/", follow_symlinks=False)
        line = (
            f"{escape(path)} ino {status.st_ino} mode {status.st_mode:o}"
            f" {status.st_uid}:{status.st_gid} size {status.st_size} links {status.st_nlink}"
            f" time {status.st_mtime_ns}"
        )
        if status.is_file():
            line += f" sum {crc32c(image.read_bytes(path)):08x}"
        elif status.is_symlink():
            line += f" -> {escape(os.fsencode(image.readlink(path)))}"
        elif status.is_dir():
            names = [os.fsencode(name) for name in image.listdir(path or b"/")]
            todo += [path + b"/" + name for name in names]
        lines.append(line)
    return sorted(lines)


def c_tree(engine: Path, image: Path) -> list[str]:
    """Return what the C engine shows, without attributes and device numbers."""
    done = subprocess.run(
        [engine / "verdict", "--tree", image], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines()[1:] if not line.startswith("\t")]
    return sorted(re.sub(r" device \d+ time", " time", line) for line in lines)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return images of every kind, static but for the branching vector."""
    top = tmp_path_factory.mktemp("parity")
    tree = top / "tree"
    (tree / "some/where/deep").mkdir(parents=True)
    (tree / "empty").mkdir()
    for number in range(200):
        (tree / "some" / f"{'long' * (number % 31)}{number}").write_bytes(b"x" * (number * 7 % 500))
    (tree / "some/link").symlink_to("where/deep")
    (tree / "some/where/\udcff odd\n").write_text("odd")
    # The link itself, which pathlib on newer Pythons would follow.
    os.link(tree / "some/link", tree / "twice", follow_symlinks=False)
    (tree / "noted").write_text("noted")
    for attribute in ("user.one", "user.two", "trusted.three"):
        os.setxattr(tree / "noted", attribute, attribute.encode())
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "disk", 0o60600, os.makedev(8, 1))
    made = {"static": VECTORS / "static.daxfs", "branching": VECTORS / "branching.daxfs"}
    options: dict[str, dict[str, object]] = {
        "plain": {},
        "summed": {"data_checksums": True, "label": "a label"},
        "large": {"size": "1M"},
        "writable": {"branches": True, "delta_size": "1M"},
    }
    for name, chosen in options.items():
        made[name] = top / name
        daxfs.build(tree, made[name], **chosen)  # type: ignore[arg-type]
    return made


NAMES = ["static", "branching", "plain", "summed", "large", "writable"]


@pytest.mark.parametrize("name", NAMES)
def test_sound_images_show_the_same_tree(engine: Path, images: dict[str, Path], name: str) -> None:
    assert c_verdicts(engine, [images[name]]) == [None]
    with daxfs.open(images[name]) as image:
        assert c_tree(engine, images[name]) == rust_tree(image)


def checksummed(image: bytearray) -> None:
    """Set the checksums of superblocks, inodes and attribute sets right again."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    if not number(8, 4) & 8:
        return
    base = number(24, 8)
    if 4096 <= base <= len(image) - 4096:
        table, count = base + number(base + 24, 8), number(base + 32, 4)
        if count < 10000 and table + 64 * count <= len(image):
            for at in range(table, table + 64 * count, 64):
                image[at + 60 : at + 64] = crc32c(image[at : at + 60]).to_bytes(4, "little")
        at = base + number(base + 48, 8)
        end = min(at + number(base + 56, 8), len(image))
        while at < end and 16 <= number(at, 4) <= min(end - at, 1 << 20):
            size = number(at, 4)
            image[at + 4 : at + 8] = crc32c(image[at + 8 : at + size]).to_bytes(4, "little")
            at += size
        image[base + 4092 : base + 4096] = crc32c(image[base : base + 4092]).to_bytes(4, "little")
    image[1020:1024] = crc32c(image[:64] + image[72:1020]).to_bytes(4, "little")


def mutate(pristine: bytes, random_: random.Random) -> bytes:
    """Return an image with a few fields changed, its checksums mostly right."""
    image = bytearray(pristine)
    base = int.from_bytes(image[24:32], "little")
    table = base + int.from_bytes(image[base + 24 : base + 32], "little")
    count = int.from_bytes(image[base + 32 : base + 36], "little")
    places = [
        range(0, 256),
        range(1016, 1232),
        range(base, base + 72),
        range(table, table + 64 * min(count, 40)),
        range(table, table + 64 * min(count, 40)),
        range(table + 64 * count, min(len(image), table + 64 * count + 65536)),
    ]
    for _ in range(random_.choice([1, 1, 1, 2, 4])):
        width = random_.choice([1, 2, 4, 8])
        at = random_.choice(random_.choice(places)) // width * width
        old = int.from_bytes(image[at : at + width], "little")
        new = random_.choice(
            [
                *(0, old + 1, old - 1, old + 64, old + 144, 2 ** (8 * width) - 1),
                *(random_.getrandbits(8 * width), old ^ 1 << random_.randrange(8 * width)),
                *(random_.randrange(len(image)), random_.randrange(len(image)) & ~4095),
            ]
        )
        image[at : at + width] = (new % 2 ** (8 * width)).to_bytes(width, "little")
    if random_.random() < 0.85:
        checksummed(image)
    return bytes(image)


def mutants_of(image: Path, count: int, directory: Path) -> list[Path]:
    """Write damaged copies of an image, the same ones each time."""
    random_ = random.Random(image.name)
    pristine = image.read_bytes()
    mutants = [directory / f"{number}.daxfs" for number in range(count)]
    for mutant in mutants:
        mutant.write_bytes(mutate(pristine, random_))
    return mutants


@pytest.mark.parametrize("name", ["static", "plain", "summed", "large"])
def test_changed_images_get_the_same_verdict(
    engine: Path, images: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """The first contradiction that C finds is one of all that Rust finds, or there is none."""
    mutants = mutants_of(images[name], MUTANTS // 4, tmp_path)
    for start in range(0, len(mutants), 100):
        for image in assert_agreement(engine, mutants[start : start + 100]):
            with daxfs.open(image) as opened:
                assert c_tree(engine, image) == rust_tree(opened)
    # Trusted, that is, not proved: whatever it shows, it stays inside.
    subprocess.run(
        [engine / "verdict", "--tree", *mutants],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_changed_attributes_get_the_same_verdict(
    engine: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    """Their checksums are right, so that it is the sets themselves that are judged."""
    pristine = images["plain"].read_bytes()
    base = int.from_bytes(pristine[24:32], "little")
    start, size = (int.from_bytes(pristine[base + at : base + at + 8], "little") for at in (48, 56))
    mutants = []
    for at in range(base + start, base + start + size):
        image = bytearray(pristine)
        image[at] ^= 1
        checksummed(image)
        mutants.append(tmp_path / f"{at}")
        mutants[-1].write_bytes(image)
    assert_agreement(engine, mutants)


@pytest.mark.parametrize("name", ["branching", "writable"])
def test_changed_images_with_branches_do_no_harm(
    engine: Path, images: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """Where only the base tree counts, C accepts no base that Rust rejects."""
    pristine = images[name].read_bytes()
    mutants = mutants_of(images[name], 200, tmp_path)
    base = int.from_bytes(pristine[24:32], "little")
    end = base + int.from_bytes(pristine[32:40], "little")
    for image, said in zip(mutants, c_verdicts(engine, mutants), strict=True):
        _, findings = rust_findings(image)
        if said is None:
            assert not [found for found in findings if base <= found[0] < end], image
        elif said[0] == 117 and base <= said[1] < end and findings:
            assert said[1:] in findings, image


def test_main_is_the_base_for_both_or_neither(
    engine: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    """Main may have changes that are its parent's, or be a record of another's."""
    other = bytearray((VECTORS / "delta.daxfs").read_bytes())
    ours = images["writable"].read_bytes()
    for image, at, value in ((other, 8, 2), (ours, 8, 2), (ours, 0, 512)):
        changed = bytearray(image)
        table = int.from_bytes(changed[40:48], "little")
        changed[table + at : table + at + 8] = value.to_bytes(8, "little")
        (tmp_path / "image").write_bytes(changed)
        (said,) = c_verdicts(engine, [tmp_path / "image"])
        assert said is not None
        # In the older form it is for the kernel only that this is too much.
        assert image is other or rust_findings(tmp_path / "image")[0]


def test_what_the_fuzzer_begins_with_gets_the_same_verdict(engine: Path, tmp_path: Path) -> None:
    seeds = tmp_path / "corpus"
    subprocess.run(
        [
            *("cargo", "run", "--quiet", "--manifest-path"),
            *(ROOT / "crates/daxfs-core/fuzz/Cargo.toml", "--example", "seeds", seeds),
        ],
        check=True,
    )
    found = sorted(path for path in (seeds / "validate").iterdir() if path.stat().st_size)
    assert found
    for image, said in zip(found, c_verdicts(engine, found), strict=True):
        errno, _ = rust_findings(image)
        assert (said is None) == (errno == 0) or (said is not None and said[2] == "branches"), image


@pytest.mark.parametrize("what", ["directories", "files", "unsorted"])
def test_a_proof_can_be_ended_in_all_its_passes(engine: Path, tmp_path: Path, what: str) -> None:
    """Where it can be ended others run, too: after each thousand steps of each pass or so."""
    tree, image, count = tmp_path / "tree", tmp_path / "image", 20000
    tree.mkdir()
    for number in range(count):
        if what == "directories":
            (tree / f"{number}").mkdir()
        else:
            (tree / f"{number}").write_bytes(b"x" if what == "files" else b"")
    daxfs.build(tree, image)
    if what == "unsorted":
        content = bytearray(image.read_bytes())
        content[8] &= ~1
        checksummed(content)
        image.write_bytes(content)
    done = subprocess.run(
        [engine / "verdict", "--killed", image], capture_output=True, text=True, check=True
    )
    sound, places = done.stdout.splitlines()
    assert sound == "sound"
    # Over inodes, entries, names, links, and directories, claims, cycles; or extents, twice as they
    # are sorted; or the index, thrice.
    passes = {"directories": 7, "files": 6, "unsorted": 7}[what]
    assert int(places) >= passes * (count // 1024)
