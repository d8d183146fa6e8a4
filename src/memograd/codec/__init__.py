"""Values as bytes, without pickle: an entry is a safetensors file, and whatever it holds, reading runs no code of it.

`encode` gives the pieces of the file, `decode` takes them back, `register` teaches it a kind. The format:
docs/formats/entry.md.
"""

from memograd.codec._base import Unencodable, Unreadable, register
from memograd.codec._read import decode
from memograd.codec._write import encode

__all__ = ["Unencodable", "Unreadable", "decode", "encode", "register"]
