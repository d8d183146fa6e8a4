"""The errors that memograd raises, one tree:

    MemogradError
    └── NoIdentityError (also a TypeError)   a value that has no content identity

A wrapped call raises none of them for memograd's own reasons unless it was made with `strict=True`.
"""

from __future__ import annotations


class MemogradError(Exception):
    """Root of every error that memograd raises of its own."""


class NoIdentityError(MemogradError, TypeError):
    """A value has no content identity, so nothing can be remembered under it.

    The message names the path to the value inside the arguments, such as `args.batch["mask"][2]`.
    """
