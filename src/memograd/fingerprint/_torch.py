"""Tensors: content, dtype and shape, the same on every device and for every layout. And what else torch has a state in.

Device, strides, requires_grad, and the flags of inference mode and of lazy views, are aspects: keys have them. Imported
when torch is loaded already.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from memograd.fingerprint._digest import CHUNK, LONGEST, hash_of
from memograd.fingerprint._form import Form, Unidentified, Writing, kind_of, marshalled
from memograd.fingerprint._trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from memograd.fingerprint._form import Quick, Writer

    _Strides: TypeAlias = "tuple[int, ...] | None"
    _Mark: TypeAlias = "tuple[bytes, Callable[[int], Any], Callable[[Any], bytes], bytes, bool, _Strides, int]"
    _Marks: TypeAlias = "dict[torch.dtype, dict[torch.Size, _Mark]]"


def writer(kind: type) -> Writer | None:
    """Find what takes a value of torch apart; None if that is no matter of torch's."""
    if kind in {torch.Tensor, torch.nn.Parameter}:
        return _tensor
    for known, write in _WRITERS.items():
        if issubclass(kind, known):
            return write
    return None


def _tensor(value: torch.Tensor) -> Form:
    notes = _notes(value)
    tag, noted = _tag(value) + (b" noted" if notes else b""), (tuple(notes), *notes.values()) if notes else ()
    if value.layout is torch.strided and value.device.type != "meta" and not value.is_quantized:
        return Form(tag, _bytes(value), noted, _label(notes, 0), _aspect(value))
    if value.layout in _SPARSE:
        parts = [value.is_coalesced() if value.is_sparse else True]
        parts += [getattr(value.detach(), name)() for name in _SPARSE[value.layout]]
        label, tag = _label(notes, len(parts)), tag + f" {value.layout}".encode()
        return Form(tag, parts=(*parts, *noted), label=label, aspect=_aspect(value))
    what = "has no content" if value.device.type == "meta" else "is not looked into; pass its parts as dense tensors"
    raise Unidentified(f"a tensor of layout {value.layout} on {value.device}, which {what}")


def _notes(value: torch.Tensor) -> dict[str, Any]:
    """Give what users have noted on a tensor, such as that a weight is not to decay; but for the compiler's own."""
    return {name: note for name, note in vars(value).items() if not name.startswith("_dynamo_")}


def _label(notes: dict[str, Any], before: int) -> Callable[[int], str]:
    return [*[""] * (before + 1), *(f".{name}" for name in notes)].__getitem__


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
    """Write what is out of the ordinary. On the CPU, contiguous, without grad and flags, that is nothing."""
    grad = f"grad {_hooks_of(value)}" if value.requires_grad else ""
    device = "" if value.device.type == "cpu" else f"{value.device} "
    # All strides: those of dimensions of one element, too, decide whether an output is channels-last.
    strides = value.stride() if value.layout is torch.strided and value.stride() != _usual(value.shape) else ""
    flags = "".join(word for word, is_set in _FLAGS.items() if is_set(value))
    return f"{grad}{device}{strides}{flags}".encode()


# Autograd refuses what was made in inference mode; the others say that values are only shown so, and are as in memory.
_FLAGS = {"inference ": torch.Tensor.is_inference, "conj ": torch.Tensor.is_conj, "neg ": torch.Tensor.is_neg}


def _hooks_of(value: Any) -> str:
    """Say what the hooks of a tensor are, by their code: only who differentiates within a call sees what they do."""
    hooks: list[Any] = [*(value._backward_hooks or {}).values(), *(value._post_accumulate_grad_hooks or {}).values()]
    return "".join(f"hook {_code_of(getattr(hook, '__memograd_hook__', hook))} " for hook in hooks)


def _code_of(hook: Any) -> str:
    from memograd.fingerprint._code import reach_of

    function = getattr(hook, "__func__", hook)
    code = reach_of(function if hasattr(function, "__code__") else kind_of(hook))
    return hash_of("xxh3")(code.stream).hex()


def _usual(shape: torch.Size) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _bytes(value: torch.Tensor) -> memoryview | bytes:
    _check_memory(value)
    plain = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if not plain.numel():
        return b""
    _check_memory(plain)
    return memoryview(_Memory.of(plain)).cast("B")


def _check_memory(value: torch.Tensor) -> None:
    """Raise `Unidentified` for a tensor whose memory was given back, or is less than its shape says."""
    if not value.numel():
        return
    last = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True))
    needed = (value.storage_offset() + last + 1) * value.element_size()
    if value._is_zerotensor() or not value.data_ptr() or value.untyped_storage().nbytes() < needed:
        raise Unidentified("a tensor without the memory that its shape needs, which has no content")


class _Memory:
    """The memory of contiguous tensors, by number of bytes.

    It is read at its address. The array that torch gives out by `numpy()` would be the end of `resize_` for the tensor.
    """

    kinds: ClassVar[dict[int, Any]] = {}

    @classmethod
    def kind(cls, nbytes: int) -> Any:
        """Give a type whose `from_address` is the memory there; it keeps nothing alive by itself."""
        found = cls.kinds.get(nbytes)
        if found is None:
            if len(cls.kinds) >= _MOST:
                cls.kinds.clear()
            found = cls.kinds[nbytes] = type("Memory", (ctypes.c_ubyte * nbytes,), {})
        return found

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Any:
        """Give the memory of a tensor, which lives as long."""
        memory = cls.kind(tensor.nbytes).from_address(tensor.data_ptr())
        memory.tensor = tensor
        return memory


def _quick_tensor(writing: Writing, kind: bytes = b"T") -> Quick:  # noqa: C901 - a call for each part would be dear
    """Make what writes a tensor that lies in order on the CPU, byte for byte as a walk does."""
    digest, strided = writing.hash, torch.strided
    plain: _Marks = {}
    graded: _Marks = {}
    inferred: _Marks = {}

    def write(value: Any) -> bytes | None:
        # A twentieth of a microsecond counts here: 16 tensors of 4 KiB are all that many a key is made of.
        marks = plain
        try:
            if value.requires_grad:
                marks = graded
                # Made in inference mode and with grad: so seldom that the walk may write it.
                hooked = value._backward_hooks or value._post_accumulate_grad_hooks or value.is_inference()
            else:
                hooked = None
                if value.is_inference():
                    marks = inferred
            # What has no memory of its own (a sparse one, one within a transform) raises.
            if hooked or value.__dict__ or not value.is_cpu or value.is_neg() or not value.is_contiguous():
                return None
            before, at, held, after, short, strides, nbytes = marks[value.dtype][value.shape]
            if strides is not None and strides != value.stride():
                return None
            # Memory can have been given back, or be less than the shape says. The walk looks at parts of a memory.
            address, memory = value.data_ptr(), value.untyped_storage()
            if not address or memory.data_ptr() != address or memory.nbytes() < nbytes:
                return None
            chunk = before + held(at(address)) + after
        except KeyError:
            add(value, marks)
            return None
        except Exception:  # noqa: BLE001 - whatever is out of the ordinary about it: the walk says what it is
            return None
        return chunk if short else b"#" + digest(chunk)

    def add(value: torch.Tensor, marks: _Marks) -> None:
        known = marks.setdefault(value.dtype, {})
        if len(known) >= _MOST:
            known.clear()
        ordinary = value.layout is strided and not value.dtype.is_complex and not value.is_quantized
        if ordinary and 0 < value.nbytes <= CHUNK and value.stride() == _usual(value.shape):
            aspect = b"grad " if marks is graded else b"inference " if marks is inferred else b""
            known[value.shape] = _marked(writing, kind + _tag(value)[1:], aspect, value)

    return write


def _quick_parameter(writing: Writing) -> Quick:
    return _quick_tensor(writing, b"P")


_MOST = 4096


def _marked(writing: Writing, tag: bytes, aspect: bytes, value: torch.Tensor) -> _Mark:
    """Prepare all but the data of tensors that are alike.

    Returns:
        What stands before the data, what finds those, what writes them, what stands behind, whether all of it is short
        enough to stand as it is, the strides, where a contiguous tensor may have others (in a dimension of one
        element), and the number of bytes.
    """
    nbytes = value.nbytes
    long = nbytes > LONGEST
    length = 17 if long else nbytes + 1
    before = b"-" + _counted(tag) + length.to_bytes(4, "little") + (b"#" if long else b"=")
    after = _counted(aspect) if writing.aspects else b""
    short = len(before) + length - 1 + len(after) <= LONGEST
    strides = value.stride() if 1 in value.shape or not value.shape else None
    return before, _Memory.kind(nbytes).from_address, writing.hash if long else bytes, after, short, strides, nbytes


def _counted(chunk: bytes) -> bytes:
    return len(chunk).to_bytes(4, "little") + chunk


Trust.kinds |= {torch.Tensor, torch.nn.Parameter}
Writing.quicken(torch.Tensor, _quick_tensor)
Writing.quicken(torch.nn.Parameter, _quick_parameter)


def _subclass(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, a subclass of Tensor; pass it .as_subclass(torch.Tensor)")


def _text(tag: bytes) -> Writer:
    return lambda value: Form(tag, str(value).encode())


def _generator(value: torch.Generator) -> Form:
    return Form(b"torch generator", str(value.device).encode(), (value.get_state(),), lambda _: "")


def _scripted(value: object) -> Form:
    raise Unidentified(f"of type {type(value).__qualname__}, which is compiled; pass the module that it was made from")


# What torch keeps in a module for its own sake. Hooks, parameters, buffers and modules are written by themselves.
HOOKS = (
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
OWN = frozenset(
    {*HOOKS, *_HOOK_FLAGS, "_parameters", "_buffers", "_modules", "_compiled_call_impl"}
    # What nn.LSTM and its like keep of their parameters.
    | {"_flat_weights", "_flat_weight_refs"}
    # What `memo.scan` notes of its last call: no call depends on it.
    | {"_memograd_receipt"}
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
        own = {name: value for name, value in state.items() if name not in OWN}
        hooks = {name: state[name] for name in HOOKS if state.get(name)}
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
    # Loading a state puts the parameters of a group behind its settings.
    groups: list[dict[str, Any]] = [dict(sorted(group.items())) for group in value.param_groups]
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
