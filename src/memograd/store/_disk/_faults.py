"""What goes wrong with a directory: what of it can be removed, and what is said, once, of what cannot.

A store that fails is one that has nothing: what is asked of it is a miss, and what is put is not taken.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

from memograd._errors import warn
from memograd.store._disk._connection import NewerError
from memograd.store._disk._files import DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd.store._disk._index import Index

Result = TypeVar("Result")

# What was gone or locked is tried again after so long; in between every call is a miss.
PAUSE = 1.0
FAULTS = (sqlite3.Error, OSError, NewerError, DamagedError, UnicodeDecodeError, MemoryError)
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Faults:
    """What has gone wrong with an index, and what was said of it."""

    def __init__(self, index: Index) -> None:
        self.index = index
        # When the index is tried again, 0.0 if nothing is wrong with it.
        self.again = 0.0
        self._said: set[str] = set()

    def pausing(self) -> bool:
        """Tell whether the index is left alone for now."""
        return time.monotonic() < self.again

    def safely(self, act: Callable[[], Result], otherwise: Result) -> Result:
        """Do something, a second time if what was in the way could be removed; say once what could not."""
        if self.again and self.pausing():
            return otherwise
        try:
            return act()
        except FAULTS as error:
            return self.once_more(error, act, otherwise)

    def once_more(self, error: BaseException, act: Callable[[], Result], otherwise: Result) -> Result:
        """Do what failed a second time if what was in the way can be removed."""
        try:
            if self.recover(error):
                return act()
        except FAULTS as again:
            error = again
        if self.say(error) != "full":  # which a smaller entry may not meet
            self.again = time.monotonic() + PAUSE
        return otherwise

    def recover(self, error: BaseException) -> bool:
        """Begin the index anew if it is damaged, open it again if it was exchanged; tell whether that was done."""
        index = self.index
        try:
            if not index.readonly and index.hopeless(error):
                if index.set_aside():
                    self.say_once(
                        "damaged", f"its index is damaged ({error}) and was begun anew; what it held is computed again"
                    )
                return True
            if index.moved():
                if not index.readonly:
                    index.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                index.reopen()
                return True
        except FAULTS:
            pass
        return False

    def say(self, error: BaseException) -> str:
        """Say a fault; give its kind."""
        kind, what = _fault(error)
        self.say_once(kind, what)
        return kind

    def say_once(self, kind: str, what: str) -> None:
        """Say something, the first time that there is something of its kind to say."""
        if kind not in self._said:
            self._said.add(kind)
            warn(f"Disk({os.fspath(self.index.path.parent)!r}): {what}")


def _fault(error: BaseException) -> tuple[str, str]:
    """Name the kind of a fault, and say it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    text = str(error)
    if code == 13 or number in _FULL or "is full" in text:
        return "full", f"there is no room on the disk ({text}); results are computed and not kept"
    if code in {3, 8, 14, 23} or number in _DENIED or "readonly" in text or "unable to open" in text:
        return "denied", f"it may not be written to, or not read ({text}); results are computed and not kept"
    if code in {5, 6} or "locked" in text:
        return "busy", f"another process keeps it locked ({text}); meanwhile results are computed and not kept"
    if isinstance(error, NewerError):
        return "newer", text
    return "failed", f"it cannot be used ({type(error).__name__}: {text}); results are computed and not kept"
