"""One safetensors file: eight bytes of length, a JSON header, and the memory of tensors without a gap.

The order of tensors keeps each aligned to what its type needs, and to 64 bytes those whose size allows it, since the
format permits no gaps between them.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from memograd.codec._base import AXES, ELEMENTS, HEADER, VERSION, Refused, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the format calls a type of numbers, and how many bytes one takes.
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
ALIGNED = 64

_Count = Annotated[int, msgspec.Meta(ge=0, le=ELEMENTS)]


class Part(NamedTuple):
    """One tensor of a file to be written."""

    dtype: str
    shape: Sequence[int]
    nbytes: int
    piece: bytes | memoryview


class Span(NamedTuple):
    """One tensor of a file that is read; its bytes are those from `begin` to `end` of the data."""

    dtype: str
    shape: list[int]
    begin: int
    end: int


class _Item(msgspec.Struct):
    """An item of the header: a tensor, or the metadata."""

    dtype: str = ""
    shape: Annotated[list[_Count], msgspec.Meta(max_length=AXES)] = []
    data_offsets: tuple[_Count, _Count] = (0, 0)
    memograd: str = ""
    value: str = ""


_encode = msgspec.json.Encoder().encode
_header = msgspec.json.Decoder(dict[str, _Item]).decode


def write(value: str, parts: Sequence[Part]) -> list[bytes | memoryview]:
    """Give the pieces of a file that holds a structure and tensors."""
    order = range(len(parts))
    if len(parts) > 1:
        needs = [SIZES[part.dtype] if part.nbytes % ALIGNED else ALIGNED for part in parts]
        if min(needs) < max(needs):
            order = sorted(order, key=needs.__getitem__, reverse=True)
    header: dict[str, object] = {"__metadata__": {"memograd": VERSION, "value": value}}
    end = 0
    for at in order:
        part = parts[at]
        begin, end = end, end + part.nbytes
        header[str(at)] = {"dtype": part.dtype, "shape": part.shape, "data_offsets": (begin, end)}
    text = _encode(header)
    text += b" " * (-(8 + len(text)) % ALIGNED)
    if len(text) > HEADER:
        raise Refused(f"a structure of {len(text)} bytes (at most {HEADER}; hold numbers in tensors or arrays)")
    first = len(text).to_bytes(8, "little") + text
    return [first, *(parts[at].piece for at in order if parts[at].nbytes)]


def read(view: memoryview) -> tuple[str, list[Span], memoryview]:
    """Give structure, tensors and data of a file, having checked that they agree."""
    size = len(view)
    length = int.from_bytes(view[:8], "little")
    if size < 8 or length > size - 8:
        raise Unreadable(f"a header of {length} bytes in an entry of {size}")
    if length > HEADER:
        raise Unreadable(f"a header of {length} bytes, of which at most {HEADER} are read")
    header = _header(view[8 : 8 + length])
    meta = header.pop("__metadata__", None)
    if meta is None or not meta.memograd:
        raise Unreadable("a safetensors file that is no entry of memograd")
    if meta.memograd != VERSION:
        raise Unreadable(f"an entry of version {meta.memograd[:20]!r}, where {VERSION!r} is read")
    data = view[8 + length :]
    return meta.value, _spans(header, len(data)), data


def _spans(header: dict[str, _Item], size: int) -> list[Span]:
    spans: list[Span] = []
    for at in range(len(header)):
        item = header.get(str(at))
        if item is None:
            raise Unreadable(f"no tensor {at} among {len(header)}")
        begin, end = item.data_offsets
        if prod(item.shape) * SIZES.get(item.dtype, -1) != end - begin:
            raise Unreadable(f"a tensor of {item.dtype[:20]!r} and shape {item.shape[:9]} in {end - begin} bytes")
        spans.append(Span(item.dtype, item.shape, begin, end))
    at = 0
    for begin, end in sorted([span[2:] for span in spans]):
        if begin != at:
            raise Unreadable(f"tensors that overlap or leave a gap at byte {at}")
        at = end
    if at != size:
        raise Unreadable(f"tensors of {at} bytes in {size}")
    return spans
