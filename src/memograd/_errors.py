"""The errors that memograd raises, one tree, and the one warning:

    MemogradError
    └── NoIdentityError (also a TypeError)   a value that has no content identity
    MemogradWarning (a UserWarning)          a call was not remembered; says which and why

A wrapped call raises none of the errors for memograd's own reasons unless it was made with `strict=True`: it
computes as the plain function would, and warns once.
"""

from __future__ import annotations

import warnings
from sys import _getframe as frame_at  # pyright: ignore[reportPrivateUsage]
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class MemogradError(Exception):
    """Root of the errors that are memograd's own; bad arguments raise TypeError and ValueError."""


class NoIdentityError(MemogradError, TypeError):
    """A value has no content identity, so nothing can be remembered under it.

    The message names the path to the value inside the arguments, such as `args.batch["mask"][2]`.
    """


class MemogradWarning(UserWarning):
    """Something was not remembered, is not repeated by a hit, or cannot be trusted; the message says what to write."""


# What is defined from source says so in place of a file.
SOURCE = "<memograd>"


def warn(message: str) -> None:
    """Warn at the line of the user's code that led here, not at a line of memograd."""
    level = 2
    frame = frame_at(1)
    while frame.f_back is not None and _ours(frame):
        frame = frame.f_back
        level += 1
    warnings.warn(message, MemogradWarning, stacklevel=level)


def _ours(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module.startswith("memograd.") or frame.f_code.co_filename == SOURCE
