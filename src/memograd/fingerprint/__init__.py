"""What a value *is*: its content, written so that no two different values write the same bytes."""

from __future__ import annotations

from memograd.fingerprint._digest import Digest
from memograd.fingerprint._file import File
from memograd.fingerprint._public import fingerprint, register

__all__ = ["Digest", "File", "fingerprint", "register"]
