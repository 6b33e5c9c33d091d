# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Open images."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, overload

from . import _daxfs
from .errors import BranchExistsError, InvalidError, NoBranchError
from .tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self, SupportsIndex

    from _typeshed import StrOrBytesPath

    from ._daxfs import BranchStatus
    from .branch import Branch

__all__ = ["Branches", "Image", "open"]


def open(
    source: StrOrBytesPath | int,
    *,
    branch: str | None = None,
    writable: bool = False,
    trusted: bool = False,
    invalidate: bool = False,
) -> Image:
    """Open an image.

    Parameters
    ----------
    source : str, bytes, os.PathLike or int
        Where the image lies: a path of a file or device, a descriptor (also of a memfd or a DMA
        buffer), or as `str` one of ``phys:ADDRESS[+SIZE]``, ``dmabuf:FD`` and ``fd:FD``.
    branch : str, optional
        The branch to look at; ``main`` when left out.
    writable : bool, optional
        Take part in the image's branches: see all of them as they are now, make, change and
        commit them. The image must have been built with room for branches.
    trusted : bool, optional
        Take the caller's word that the image is sound, instead of proving it. Every access is
        checked in either case.
    invalidate : bool, optional
        First drop what this processor has cached of the memory, to see what a host without cache
        coherence has published.

    Returns
    -------
    Image
        To be used as a context manager, or closed. If it is writable, it shows the tree as it is
        at each moment. Otherwise it shows the tree as it was when it was opened, but nothing
        keeps what branches had changed in it: who writes may change bytes where they lie, and
        later commits may give that space back, and reading from there raises
        `BranchStaleError` then. Files of the base image stay.

    Raises
    ------
    CorruptImageError
        It is not an image, or its superblock is damaged.
    UnsoundImageError
        It does not pass the proof.
    UnsupportedError
        It needs a feature that this version does not know, or has no room for branches.
    NoBranchError
        It has no such branch.
    NotFoundError, AccessError, BackingError
        The file or the memory cannot be opened.
    """
    # By position, as keywords cost a dictionary.
    return Image(source, branch, writable, trusted, invalidate)


class Branches(tuple["BranchStatus", ...]):
    """The branches of an image: a sequence, main first, that also goes by names."""

    def __new__(cls, statuses: Iterable[BranchStatus]) -> Self:
        """Hold what the branch table says."""
        return super().__new__(cls, statuses)

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> BranchStatus: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[BranchStatus, ...]: ...
    def __getitem__(
        self, key: SupportsIndex | slice | str
    ) -> BranchStatus | tuple[BranchStatus, ...]:
        """Return a branch by its name, or by its position."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        for status in self:
            if status.name == key:
                return status
        raise NoBranchError(errno.ENOENT, f"no such branch: {key}")

    def __contains__(self, key: object) -> bool:
        """Return whether there is a branch, by its name or as such."""
        if isinstance(key, str):
            return any(status.name == key for status in self)
        return super().__contains__(key)

    @property
    def names(self) -> list[str]:
        """Their names, in order."""
        return [status.name for status in self]


class Image(Tree, _daxfs.Image):
    """An open image; `daxfs.open` makes one.

    Paths are taken from the root of the image, with or without a slash in front. Names are bytes;
    as text they are UTF-8 with ``surrogateescape``. Symbolic links are followed inside the image.

    One that was opened by a path, or by a physical address, can be copied and pickled, for workers
    in other processes: it is opened again, with the same options, and shows what is there then.
    """

    def __reduce__(self) -> tuple[Callable[..., Image], tuple[str]]:
        """Tell pickle and copy how to open the image again."""
        if self.closed:
            raise InvalidError(errno.EINVAL, "the image is closed, so there is nothing to pickle")
        if self._origin is None:
            raise TypeError(
                f"cannot pickle {self!r}: its descriptor means nothing in another process; open "
                "the image by a path"
            )
        return partial(type(self), **self._options), (self._origin,)

    def __repr__(self) -> str:
        state = "closed" if self.closed else repr(self.name)
        return f"<daxfs.Image {state}>"

    @property
    def branches(self) -> Branches:
        """The branches there are now, main first."""
        return Branches(self.branch_statuses())

    def branch(
        self,
        name: str,
        *,
        parent: str = "main",
        create: bool | None = None,
        writable: bool = True,
        keep: bool = False,
    ) -> Branch:
        """Open a branch; it is made if there is none of that name.

        As a context manager the branch is committed at the end, or aborted if an exception ends
        the block, unless it was ended before:

        >>> with image.branch("feature") as branch:  # doctest: +SKIP
        ...     branch.write_text("config", "fast = true")

        Parameters
        ----------
        name : str
            At most 31 bytes. ``main`` can be written while no branches were made of it; it cannot
            be aborted, so a block of it keeps what was done in any case.
        parent : str, optional
            The branch that a new one is made of.
        create : bool, optional
            True: it must be new. False: it must be there. When left out, either.
        writable : bool, optional
            Open it for writing, which takes it from all others until it is closed. Otherwise it
            must be there, and is seen as it is at each moment.
        keep : bool, optional
            Neither commit nor abort at the end of a block; the branch stays, for whoever opens it
            next.

        Returns
        -------
        Branch

        Raises
        ------
        BranchExistsError
            It is to be made, and is there.
        NoBranchError
            It, or its parent, is not there.
        BranchBusyError
            Somebody else writes to it, or to the parent of the new branch.
        ReadOnlyBranchError
            Branches were made of it, so it cannot be written.
        InvalidError
            The image was not opened with ``writable=True``, or the name cannot name a branch.
        """
        from .branch import Branch

        if create or (create is None and writable and name not in self.branches):
            try:
                return Branch(self, name, parent=parent, writable=writable, keep=keep)
            except BranchExistsError:
                # Somebody may have made it meanwhile.
                if create:
                    raise
        return Branch(self, name, parent=None, writable=writable, keep=keep)
