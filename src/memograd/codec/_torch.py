"""Tensors of torch, and the small kinds that come with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from memograd.codec._base import Refused, Unreadable
from memograd.codec._numpy import Geometry, extent, usual
from memograd.codec._plain_read import of
from memograd.codec._write import Memory

if TYPE_CHECKING:
    from memograd.codec._plain import Build, Way
    from memograd.codec._read import Reader
    from memograd.codec._write import Writer

# What the format has a name for, as of the oldest reader that we promise.
_FORMATS = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16",
    torch.uint32: "U32", torch.int32: "I32", torch.uint64: "U64", torch.int64: "I64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
}  # fmt: skip
_DTYPES = {form: dtype for dtype, form in _FORMATS.items()}
# The others are written as numbers of the same size, and named.
_OTHERS = {
    "complex32": "F16", "complex64": "F32", "complex128": "F64",
    "float8_e5m2fnuz": "U8", "float8_e4m3fnuz": "U8", "float8_e8m0fnu": "U8",
}  # fmt: skip
_NAMED: dict[str, torch.dtype] = {name: vars(torch)[name] for name in _OTHERS if name in vars(torch)}
_NAMES = {dtype: name for name, dtype in _NAMED.items()}

_AXES_NAMED = hasattr(torch.Tensor, "names")  # gone from later versions


# Writing


def _tensor(writer: Writer, value: torch.Tensor) -> list[int]:
    if value.layout is not torch.strided or value.is_nested or value.is_quantized:
        raise Refused(f"a tensor that is nested, quantized or of the layout {value.layout}")
    facts = _marks(value)
    if value.__dict__:
        facts["buffer"] = _persistent(value)
    dtype = value.dtype
    form = _FORMATS.get(dtype)
    name = None
    if form is None:
        name = _NAMES.get(dtype)
        if name is None:
            raise Refused(f"a tensor of {dtype}")
        form = _OTHERS[name]
    return writer.memory("tensor", _memory(value, form, name, facts.get("device", "cpu")), facts)


def _persistent(value: torch.Tensor) -> bool:
    """Say of an `nn.Buffer`, which is a tensor with two attributes, whether it is persistent."""
    held: Any = value.__dict__
    persistent = held.get("persistent")
    if type(value) is not torch.Tensor or type(persistent) is not bool or held.get("_is_buffer") is not True:
        raise Refused("a tensor with attributes")
    if len(held) != 2:
        raise Refused("a buffer with attributes")
    return persistent


def _marks(value: torch.Tensor) -> dict[str, Any]:
    """Give what a tensor is besides its elements."""
    facts: dict[str, Any] = {}
    if value.requires_grad:
        if not value.is_leaf or value.grad is not None:
            raise Refused(f"a tensor that {'has' if value.is_leaf else 'requires'} a gradient, not a mere leaf")
        if value._backward_hooks or value._post_accumulate_grad_hooks:  # pyright: ignore[reportPrivateUsage]
            raise Refused("a tensor with hooks")
        facts["requires_grad"] = True
    if value.is_inference():
        facts["inference"] = True
    if value.is_conj():
        facts["conj"] = True
    if value.is_neg():
        facts["neg"] = True
    if not value.is_cpu:
        if not value.is_cuda:
            raise Refused(f"a tensor on {value.device}")
        facts["device"] = str(value.device)
    if value._is_zerotensor() or (_AXES_NAMED and any(cast("Any", value).names)):
        raise Refused("a tensor of zeros without memory, or with names")
    return facts


def _memory(value: torch.Tensor, form: str, name: str | None, place: str) -> Memory:
    shape, strides, size = value.shape, value.stride(), value.element_size()
    try:
        first = value.data_ptr()
    except RuntimeError as error:  # of functorch, fake
        raise Refused("a tensor without memory") from error
    count = value.numel()
    if count and not first:
        raise Refused("a tensor without memory")
    owner = value.untyped_storage()
    if place == "cpu" and owner.is_shared():
        raise Refused("a tensor whose memory is shared with other processes")
    if strides == usual(shape, 1):
        return Memory(place, first, first + count * size, first, True, form, name, shape, None, owner)
    _, high = extent(shape, strides)
    end = first + (high + 1) * size if count else first
    return Memory(place, first, end, first, False, form, name, shape, strides, owner)


def _parameter(writer: Writer, value: torch.nn.Parameter) -> list[int]:
    ref = _tensor(writer, value)
    writer.mark(parameter=True)
    return ref


def fetch(owners: list[Any], low: int, high: int) -> memoryview:
    """Give a copy of memory of a device."""
    storage = owners[0]
    begin = low - storage.data_ptr()
    if begin < 0 or begin + high - low > storage.nbytes():
        raise Refused("a tensor that shares memory of a device with another, by two ways")
    raw = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, begin, (high - low,), (1,))
    return raw.cpu().numpy().data


def returned(writer: Writer, value: tuple[Any, ...]) -> list[int]:
    """Write what functions such as `torch.max` return."""
    name = type(value).__name__
    if vars(torch.return_types).get(name) is not type(value):
        raise Refused(f"a torch.return_types.{name}")
    return writer.open("returned", tuple(value), {"name": name})


def _size(writer: Writer, value: torch.Size) -> list[int]:
    return writer.row("size", list(value))


def _word(writer: Writer, value: object) -> list[int]:
    return writer.row("torch", [str(value)])


WRITE: dict[type, Way] = {
    torch.Tensor: _tensor,
    torch.nn.Parameter: _parameter,
    torch.Size: _size,
    torch.dtype: _word,
    torch.layout: _word,
    torch.memory_format: _word,
    torch.device: lambda writer, value: writer.row("torch", [f"device:{value}"]),
}


# Reading


def _read_tensor(reader: Reader, items: list[Any], facts: dict[str, Any]) -> torch.Tensor:
    wanted = bool(facts and facts.get("inference"))
    if wanted is not torch.is_inference_mode_enabled():
        with torch.inference_mode(wanted):
            return _made(reader, items, facts)
    return _made(reader, items, facts)


def _made(reader: Reader, items: list[Any], facts: dict[str, Any]) -> torch.Tensor:
    (number,) = items
    if facts:
        return _marked(_seen(reader, number, facts), facts)
    span = reader.span(number)
    dtype = _DTYPES[span.dtype]
    if span.begin == span.end:
        return torch.empty(span.shape, dtype=dtype, device="cpu")
    count = (span.end - span.begin) // dtype.itemsize
    flat = torch.frombuffer(reader.data, dtype=dtype, count=count, offset=span.begin)
    return flat if len(span.shape) == 1 else flat.view(span.shape)


def _seen(reader: Reader, number: int, facts: dict[str, Any]) -> torch.Tensor:
    """Give the tensor as one of those that share its memory."""
    named = facts.get("dtype", reader.span(number).dtype)
    dtype = _DTYPES.get(named) or _NAMED[named]
    size = dtype.itemsize
    where = Geometry(reader, number, facts, size, size)
    shape = where.shape
    strides = tuple(where.strides) if where.strides is not None else usual(shape, 1)
    if any(stride < 0 for stride in strides):
        raise Unreadable("a tensor that runs backwards")
    device = facts.get("device", "cpu")
    if 0 in shape:
        return torch.empty_strided(shape, strides, dtype=dtype, device=_device(device))
    base = _base(reader, number, device)
    begin = where.at - reader.span(number).begin
    if begin % size:
        if device != "cpu":
            raise Unreadable("a tensor of a device at an odd place")
        count = extent(shape, strides)[1] + 1
        return torch.frombuffer(reader.data, dtype=dtype, count=count, offset=where.at).as_strided(shape, strides)
    # A new storage for each would do, but whoever looks for shared memory compares storages.
    empty = torch.empty(0, dtype=torch.uint8, device=base.device).view(dtype)  # complex32 warns where it is made
    return empty.set_(cast("Any", base.untyped_storage()), begin // size, shape, strides)


def _base(reader: Reader, number: int, device: Any) -> torch.Tensor:
    """Give all the memory of one tensor of the file, on a device."""
    base = reader.shared.get((number, device))
    if base is None:
        span = reader.span(number)
        base = torch.frombuffer(reader.data, dtype=torch.uint8, count=span.end - span.begin, offset=span.begin)
        if device != "cpu":
            base = base.to(_device(device))
        reader.shared[number, device] = base
    return base


def _device(name: Any) -> torch.device:
    device = torch.device(name)
    there = device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    if type(name) is not str or not there:
        raise Unreadable(f"a tensor of the device {name!r:.50}, which is not here")
    return device


def _marked(made: torch.Tensor, facts: dict[str, Any]) -> torch.Tensor:
    if facts.get("conj"):
        made = made.conj()
    if facts.get("neg"):
        made = torch._neg_view(made)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    if facts.get("parameter"):
        return torch.nn.Parameter(made, requires_grad=bool(facts.get("requires_grad")))
    if facts.get("requires_grad"):
        made.requires_grad_()
    if "buffer" in facts:  # as nn.Buffer marks it, which would detach it first
        cast("Any", made.__dict__).update(persistent=bool(facts["buffer"]), _is_buffer=True)
    return made


def _read_size(_: Reader, items: list[Any], __: dict[str, Any]) -> torch.Size:
    return torch.Size(of(int, items, len(items)))


def _read_word(_: Reader, items: list[Any], __: dict[str, Any]) -> object:
    kind, _, name = of(str, items, 1)[0].partition(":" if ":" in items[0] else ".")
    if kind == "device":
        return torch.device(name)
    word = vars(torch).get(name)
    if kind != "torch" or type(word) not in {torch.dtype, torch.layout, torch.memory_format}:
        raise Unreadable(f"a word that torch does not know: {name[:50]!r}")
    return word


def _read_returned(_: Reader, items: list[Any], facts: dict[str, Any]) -> Any:
    kind = vars(torch.return_types).get(facts["name"])
    if not isinstance(kind, type) or not issubclass(kind, tuple) or kind.__module__ != "torch.return_types":
        raise Unreadable(f"a {facts['name'][:50]!r}, which torch does not return")
    return cast("Any", kind)(items)


BUILD: dict[str, Build] = {
    "tensor": _read_tensor,
    "size": _read_size,
    "torch": _read_word,
    "returned": _read_returned,
}
