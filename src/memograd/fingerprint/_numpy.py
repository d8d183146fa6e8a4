"""Arrays and scalars of numpy, by content, dtype, shape and strides. Imported when numpy is loaded already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memograd.fingerprint._form import Form, Unidentified

if TYPE_CHECKING:
    from memograd.fingerprint._form import Writer


def writer(kind: type) -> Writer | None:
    """Find what takes a value of numpy apart; None if that is no matter of numpy's."""
    if kind in {np.ndarray, np.memmap}:
        return _array
    if issubclass(kind, np.generic):
        return _scalar
    if issubclass(kind, np.ndarray):
        return _unknown
    if issubclass(kind, (np.random.Generator, np.random.RandomState, np.random.BitGenerator)):
        return _stream
    return None


def _array(value: np.ndarray[Any, Any]) -> Form:
    tag = f"{type(value).__name__} {_dtype(value.dtype)} {value.shape}{_layout(value)}".encode()
    if value.dtype.kind in "OT":
        # These bytes would be addresses: the elements say what the array is.
        return Form(tag, parts=value.ravel().tolist(), label="[{}]".format)
    if value.dtype.hasobject:
        raise Unidentified(f"an array of dtype {value.dtype}, whose fields hold objects; pass its columns")
    if value.nbytes == 0:
        return Form(tag)
    plain: Any = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return Form(tag, memoryview(plain))


def _layout(value: np.ndarray[Any, Any]) -> str:
    # A function can see it, and sums in another order round otherwise. A dimension of one element has none.
    if value.flags.c_contiguous:
        return ""
    return f" strides {[step for size, step in zip(value.shape, value.strides, strict=True) if size != 1]}"


def _scalar(value: np.generic) -> Form:
    return Form(f"scalar {type(value).__name__} {_dtype(value.dtype)}".encode(), value.tobytes())


def _dtype(dtype: Any) -> str:
    return dtype.str if dtype.fields is None and dtype.kind != "T" else repr(dtype)


def _unknown(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, a subclass of ndarray; pass numpy.asarray(it)")


def _stream(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, whose state moves with every draw; pass a seed")
