"""Arrays, scalars and generators of numpy: content, dtype and shape. Imported when numpy is loaded already.

Where an array lies (strides, a mapped file) is an aspect: functions see it, and sums in another order round otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memograd.fingerprint._form import Form, Unidentified, kind_of

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
    for known, write in _WRITERS.items():
        if issubclass(kind, known):
            return write
    return None


def _array(value: np.ndarray[Any, Any]) -> Form:
    tag = f"array {_dtype(value.dtype)} {value.shape}".encode()
    aspect = _layout(value)
    if value.dtype.kind in "OT":
        # These bytes would be addresses: the elements say what the array is.
        return Form(tag, parts=value.ravel().tolist(), aspect=aspect)
    if value.dtype.hasobject:
        raise Unidentified(f"an array of dtype {value.dtype}, whose fields hold objects; pass its columns")
    if value.nbytes == 0:
        return Form(tag, aspect=aspect)
    return Form(tag, _bytes(value), aspect=aspect)


def _bytes(value: np.ndarray[Any, Any]) -> memoryview:
    plain: Any = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return memoryview(plain)


def _layout(value: np.ndarray[Any, Any]) -> bytes:
    mapped = "" if type(value) is np.ndarray else " mapped"
    # A dimension of one element has no order.
    steps = [step for size, step in zip(value.shape, value.strides, strict=True) if size != 1]
    return f"{mapped}{'' if value.flags.c_contiguous else steps}".encode()


def _scalar(value: np.generic) -> Form:
    if type(value).__module__ != "numpy":
        raise Unidentified(f"of type {type(value).__qualname__}, a subclass of a scalar; pass it .item()")
    return Form(f"scalar {type(value).__name__} {_dtype(value.dtype)}".encode(), value.tobytes())


def _dtype(dtype: Any) -> str:
    plain = dtype.fields is None and dtype.kind not in "TV" and not dtype.metadata
    return dtype.str if plain else f"{dtype!r} {dtype.metadata}"


def _dtype_form(value: Any) -> Form:
    return Form(b"dtype", _dtype(value).encode())


def _unknown(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, a subclass of ndarray; pass numpy.asarray(it)")


def _ufunc(value: Any) -> Form:
    name = str(value.__name__)
    if getattr(np, name, None) is not value:
        raise Unidentified(f"the ufunc {name}, which is not numpy's own; pass a Python function")
    return Form(b"ufunc", f"{np.__version__} {name}".encode())


def _function(value: Any) -> Form:
    return Form(b"function of numpy", f"{np.__version__} {value.__module__} {value.__qualname__}".encode())


def _generator(value: Any) -> Form:
    return Form(b"generator", parts=(kind_of(value), value.bit_generator), label=lambda _: "")


def _bits(value: Any) -> Form:
    # What is spawned from it depends on how many were spawned before.
    seed = getattr(value, "seed_seq", None)
    return Form(b"bit generator", parts=(kind_of(value), value.state, getattr(seed, "state", None)), label=lambda _: "")


def _legacy(value: Any) -> Form:
    return Form(b"random state", parts=(kind_of(value), value.get_state(legacy=False)), label=lambda _: "")


_WRITERS: dict[type, Writer] = {
    np.dtype: _dtype_form,
    np.ufunc: _ufunc,
    type(np.sum): _function,
    np.random.Generator: _generator,
    np.random.RandomState: _legacy,
    np.random.BitGenerator: _bits,
    np.random.SeedSequence: lambda value: Form(b"seeds", parts=(value.state,), label=lambda _: ""),
}
