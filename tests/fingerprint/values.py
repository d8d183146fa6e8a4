"""What two values are to a judge that knows nothing of digests."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import struct

from memograd.fingerprint._content import identify


def exact(value):
    """Write a value so that two texts are equal only if type, bits and order are: slow, simple, independent."""
    kind = type(value)
    if kind is float:
        return f"float {struct.pack('>d', value)!r}"
    if isinstance(value, (list, tuple, collections.deque)):
        return f"{kind.__name__}{[exact(item) for item in value]!r}"
    if kind in {set, frozenset}:
        return f"{kind.__name__}{sorted(exact(item) for item in value)!r}"
    if kind is dict:
        return f"dict{[(exact(key), exact(item)) for key, item in value.items()]!r}"
    if dataclasses.is_dataclass(value) or kind.__repr__ is object.__repr__:
        return f"{kind.__name__}{[exact(item) for item in vars(value).values()]!r}"
    return f"{kind.__name__} {value!r}"


def assert_all_differ(values, content=identify):
    contents = [content(value) for value in values]
    for (value, first), (other, second) in itertools.combinations(zip(values, contents, strict=True), 2):
        assert first != second, (value, other)
