# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Do things as somebody else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable


def as_user(work: Callable[[], object], user: int = 4321, groups: Iterable[int] = ()) -> int:
    """Do something as an ordinary user; return the errno, 0 for none."""
    child = os.fork()
    if child == 0:
        number = 255
        try:
            os.setgroups(list(groups))
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            work()
            number = 0
        except OSError as error:
            number = error.errno or 255
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
