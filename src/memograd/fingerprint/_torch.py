"""Tensors: content, dtype and shape, the same on every device and for every layout. And what else torch has a state in.

Device, strides and requires_grad are aspects: keys have them. Imported when torch is loaded already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from memograd.fingerprint._digest import CHUNK, LONGEST
from memograd.fingerprint._form import Form, Mode, Unidentified, kind_of, marshalled

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from memograd.fingerprint._form import Quick, Writer

    _Mark: TypeAlias = "tuple[bytes, Callable[[Any], bytes], bytes, bool, tuple[int, ...] | None]"


def writer(kind: type) -> Writer | None:
    """Find what takes a value of torch apart; None if that is no matter of torch's."""
    if kind in {torch.Tensor, torch.nn.Parameter}:
        return _tensor
    for known, write in _WRITERS.items():
        if issubclass(kind, known):
            return write
    return None


def _tensor(value: torch.Tensor) -> Form:
    if value.layout is torch.strided and value.device.type != "meta" and not value.is_quantized:
        return Form(_tag(value), _bytes(value), aspect=_aspect(value))
    if value.layout in _SPARSE:
        parts = [value.is_coalesced() if value.is_sparse else True]
        parts += [getattr(value.detach(), name)() for name in _SPARSE[value.layout]]
        return Form(_tag(value) + f" {value.layout}".encode(), parts=parts, label=lambda _: "", aspect=_aspect(value))
    what = "has no content" if value.device.type == "meta" else "is not looked into; pass its parts as dense tensors"
    raise Unidentified(f"a tensor of layout {value.layout} on {value.device}, which {what}")


_SPARSE = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}


def _tag(value: torch.Tensor) -> bytes:
    # Short, so that a whole tensor stands within what is not digested once more.
    kind = "T" if type(value) is torch.Tensor else "P"
    return f"{kind}{str(value.dtype)[6:]} {','.join(map(str, value.shape))}".encode()


def _aspect(value: torch.Tensor) -> bytes:
    """Write what is out of the ordinary. On the CPU, contiguous and without grad, that is nothing."""
    grad = "grad " if value.requires_grad else ""
    device = "" if value.device.type == "cpu" else f"{value.device} "
    # All strides: those of dimensions of one element, too, decide whether an output is channels-last.
    strides = value.stride() if value.layout is torch.strided and value.stride() != _usual(value.shape) else ""
    return f"{grad}{device}{strides}".encode()


def _usual(shape: torch.Size) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _bytes(value: torch.Tensor) -> memoryview | bytes:
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    array: Any = plain.reshape(-1).view(torch.uint8).numpy()
    return memoryview(array) if plain.numel() else b""


def _quick_tensor(mode: Mode, kind: bytes = b"T") -> Quick:
    """Make what writes a tensor of numpy's dtypes that lies in order on the CPU, byte for byte as a walk does."""
    graded = _quick(mode, kind, b"grad ", lambda _: None)
    return _quick(mode, kind, b"", lambda value: graded(value.detach()))


def _quick_parameter(mode: Mode) -> Quick:
    return _quick_tensor(mode, b"P")


def _quick(mode: Mode, kind: bytes, aspect: bytes, graded: Quick) -> Quick:
    """Make what writes a tensor without grad; what has one goes to `graded`."""
    digest = mode.hash
    marks: dict[object, dict[tuple[int, ...], _Mark]] = {}

    def write(value: torch.Tensor) -> bytes | None:
        # A twentieth of a microsecond counts here: 16 tensors of 4 KiB are all that many a key is made of.
        try:
            # Asked for, and not left to numpy to refuse: without grad mode it takes what requires grad.
            if value.requires_grad:
                return graded(value)
            array: Any = value.numpy()
            before, held, after, short, strides = marks[array.dtype][array.shape]
            if strides is not None and strides != array.strides:
                return None
            chunk = before + held(array) + after
        except KeyError:
            return add(value, value.numpy())
        except Exception:  # noqa: BLE001 - another device, a lazy view, not in order: the walk says what it is
            return None
        return chunk if short else b"#" + digest(chunk)

    def add(value: torch.Tensor, array: Any) -> None:
        known = marks.setdefault(array.dtype, {})
        if len(known) >= _MOST:
            known.clear()
        if array.nbytes <= CHUNK and value.stride() == _usual(value.shape):
            known[array.shape] = _marked(mode, kind + _tag(value)[1:], aspect, array)

    return write


_MOST = 4096


def _marked(mode: Mode, tag: bytes, aspect: bytes, array: Any) -> _Mark:
    """Prepare all but the data of tensors that are alike.

    Returns:
        What stands before the data, what writes those, what stands behind, whether all of it is short enough to stand
        as it is, and the strides, where a contiguous array may have others (in a dimension of one element).
    """
    long = array.nbytes > LONGEST
    length = 17 if long else array.nbytes + 1
    before = b"-" + _counted(tag) + length.to_bytes(4, "little") + (b"#" if long else b"=")
    after = _counted(aspect) if mode.aspects else b""
    short = len(before) + length - 1 + len(after) <= LONGEST
    strides = array.strides if array.size <= 1 or 1 in array.shape else None
    return before, mode.hash if long else _short, after, short, strides


def _short(array: Any) -> bytes:
    if not array.flags.c_contiguous:
        raise BufferError
    return array.tobytes()


def _counted(chunk: bytes) -> bytes:
    return len(chunk).to_bytes(4, "little") + chunk


Mode.quicken(torch.Tensor, _quick_tensor)
Mode.quicken(torch.nn.Parameter, _quick_parameter)


def _subclass(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, a subclass of Tensor; pass it .as_subclass(torch.Tensor)")


def _text(tag: bytes) -> Writer:
    return lambda value: Form(tag, str(value).encode())


def _generator(value: torch.Generator) -> Form:
    return Form(b"torch generator", str(value.device).encode(), (value.get_state(),), lambda _: "")


def _scripted(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, which is compiled; pass the module that it was made from")


# What torch keeps in a module for its own sake. Hooks, parameters, buffers and modules are written by themselves.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_HOOK_FLAGS = ("_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")
_OWN = frozenset(
    {*_HOOKS, *_HOOK_FLAGS, "_parameters", "_buffers", "_modules", "_compiled_call_impl"}
    # What nn.LSTM and its like keep of their parameters.
    | {"_flat_weights", "_flat_weight_refs"}
)


def _module(root: torch.nn.Module) -> Form:
    """Write a module: all modules in it, each once, which of their tensors are one, and what else each of them has."""
    if type(root).__name__ == "OptimizedModule":
        return Form(b"compiled module", parts=(root.get_submodule("_orig_mod"),), label=lambda _: "")
    return _Tree(root).form()


class _Tree:
    """The modules, parameters and buffers in a module, numbered in the order of their names."""

    def __init__(self, root: torch.nn.Module) -> None:
        self.numbers: dict[int, int] = {}
        self.parts: list[object] = []
        self.paths: list[str] = []
        self.outline: list[object] = []
        waiting = [(root, "")]
        self.number(root)
        while waiting:
            module, path = waiting.pop()
            waiting += reversed(self.describe(module, path))

    def form(self) -> Form:
        return Form(b"module", marshalled(tuple(self.outline)), self.parts, self.paths.__getitem__)

    def number(self, value: object) -> tuple[int, bool]:
        """Number a module or a tensor; tell whether it is new."""
        count = len(self.numbers)
        number = self.numbers.setdefault(id(value), count)
        return number, number == count

    def add(self, value: object, path: str) -> None:
        self.parts.append(value)
        self.paths.append(path)

    def describe(self, module: torch.nn.Module, path: str) -> list[tuple[torch.nn.Module, str]]:
        """Write down one module, and list those in it that are new."""
        state = module.__dict__
        own = {name: value for name, value in state.items() if name not in _OWN}
        hooks = {name: state[name] for name in _HOOKS if state.get(name)}
        compiled = state.get("_compiled_call_impl") is not None
        self.outline += ("module", compiled, tuple(map(str, own)), *_hook_flags(hooks, state))
        self.add(type(module), path)
        for name, value in own.items():
            self.add(value, f"{path}.{name}")
        for name, functions in hooks.items():
            self.add(list(functions.values()), f"{path}.{name}")
        if type(module).get_extra_state is not torch.nn.Module.get_extra_state:
            self.outline.append("extra state")
            self.add(module.get_extra_state(), f"{path}.get_extra_state()")
        tensors = self.named("parameter", state["_parameters"], path) + self.named("buffer", state["_buffers"], path)
        for value, where in tensors:
            self.add(value, where)
        return self.named("inner", state["_modules"], path)

    def named(self, what: str, held: dict[str, Any], path: str) -> list[tuple[Any, str]]:
        """Write down what has a name in a module, and list that which is new."""
        found: list[tuple[Any, str]] = []
        for name, value in held.items():
            number, new = (-1, False) if value is None else self.number(value)
            self.outline.append((what, str(name), number))
            if new:
                found.append((value, f"{path}.{name}"))
        return found


def _hook_flags(hooks: dict[str, Any], state: dict[str, Any]) -> list[object]:
    """Tell of every hook how it is called; the numbers that hooks have count through the whole process."""
    flags = [state.get(name, {}) for name in _HOOK_FLAGS]
    return [(name, tuple(number in flag for number in hooks[name] for flag in flags)) for name in hooks]


def _optimizer(value: torch.optim.Optimizer) -> Form:
    """Write an optimizer: its class, its parameters, what it keeps of each, its settings and whatever else it has."""
    groups: list[dict[str, Any]] = value.param_groups
    states = [value.state.get(parameter) for group in groups for parameter in group["params"]]
    own = {name: held for name, held in value.__dict__.items() if name not in _OF_OPTIMIZERS}
    hooks = [list(getattr(value, name, {}).values()) for name in _OPTIMIZER_HOOKS]
    parts = (kind_of(value), groups, states, hooks, list(own), *own.values())
    labels = ("", ".param_groups", ".state", ".hooks", "", *(f".{name}" for name in own))
    return Form(b"optimizer", parts=parts, label=labels.__getitem__)


_OPTIMIZER_HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)
_OF_OPTIMIZERS = frozenset({*_OPTIMIZER_HOOKS, "state", "param_groups", "_warned_capturable_if_run_uncaptured"})


_WRITERS: dict[type, Writer] = {
    torch.Tensor: _subclass,
    torch.jit.ScriptModule: _scripted,
    torch.nn.Module: _module,
    torch.optim.Optimizer: _optimizer,
    torch.Generator: _generator,
    torch.Size: lambda value: Form(b"torch.Size", parts=tuple(value)),
    torch.dtype: _text(b"torch.dtype"),
    torch.device: _text(b"torch.device"),
    torch.layout: _text(b"torch.layout"),
    torch.memory_format: _text(b"torch.memory_format"),
}
