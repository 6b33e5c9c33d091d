# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`daxfs stat`."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import click

from ._common import (
    Attempts,
    Output,
    escape,
    image_options,
    json_option,
    open_image,
    print_json,
)
from ._files import describe, full_time, group_name, is_device, kind_of, user_name

if TYPE_CHECKING:
    from ..image import Image


@click.command()
@image_options
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-L", "--dereference", is_flag=True, help="Follow links.")
@json_option
def command(
    source: str,
    paths: tuple[str, ...],
    branch: str | None,
    trusted: bool,
    dereference: bool,
    as_json: bool,
) -> int:
    """Show the attributes of files."""
    with open_image(source, branch, trusted) as image:
        attempts = Attempts()
        rows = []
        output = Output()
        for path in paths:
            with attempts.one():
                if as_json:
                    rows.append(_described(image, path, dereference))
                else:
                    _show(output, image, path, dereference)
        if as_json:
            print_json(rows)
    return attempts.status


def _described(image: Image, path: str, follow: bool) -> dict[str, object]:
    about = describe(image, path, image.stat(path, follow_symlinks=follow))
    xattrs = image.xattrs(path, follow_symlinks=follow)
    # The form of bytes in JSON everywhere: see `daxfs --help`.
    about["xattrs"] = {
        name: value.decode("utf-8", "surrogateescape") for name, value in xattrs.items()
    }
    return about


def _show(output: Output, image: Image, path: str, follow: bool) -> None:
    info = image.stat(path, follow_symlinks=follow)
    name = path
    if info.is_symlink():
        name += f" -> {image.readlink(path)}"
    mode = info.st_mode
    output.line(f"  File: {name}")
    device = ""
    if is_device(mode):
        device = f"  Device type: {os.major(info.st_rdev)},{os.minor(info.st_rdev)}"
    output.line(f"  Size: {info.st_size:<18}  {kind_of(mode)}")
    output.line(f" Inode: {info.st_ino:<18}  Links: {info.st_nlink}{device}")
    output.line(
        f"Access: ({stat.S_IMODE(mode):04o}/{stat.filemode(mode)})"
        f"  Uid: ({info.st_uid:5}/{user_name(info.st_uid):>8})"
        f"   Gid: ({info.st_gid:5}/{group_name(info.st_gid):>8})"
    )
    output.line(f"Modify: {full_time(info.st_mtime_ns)}")
    for key, value in image.xattrs(path, follow_symlinks=follow).items():
        text = value.decode("utf-8", "surrogateescape")
        output.line(f" Xattr: {escape(f'{key}={text}')}")
