"""The modes of torch that results depend on: read as cheaply as possible, and entered again.

A wrapped function that can reach torch has them in its key. They seldom change, so reading them is a comparison with
those that were read last: equal modes are one object.
"""

from __future__ import annotations

import platform
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.backends import mha
from torch.nn.modules import module as _torch_modules
from torch.utils._device import DeviceContext

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType

_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]
_DEVICES = ("cpu", "cuda")

_grad: Callable[[], bool] = _C.is_grad_enabled
_inference: Callable[[], bool] = _C.is_inference_mode_enabled
_any_autocast: Callable[[], bool] = _C._is_any_autocast_enabled
_dtype: Callable[[], torch.dtype] = _C.get_default_dtype
_deterministic: Callable[[], bool] = _C._get_deterministic_algorithms
_threads: Callable[[], int] = _C.get_num_threads
# By operation, since torch 2.9; the one name for all raises where they have been set apart.
_by_operation: Callable[[str, str], str] | None = getattr(_C, "_get_fp32_precision_getter", None)
_OPERATIONS = ("matmul", "conv", "rnn")
_functions: Callable[[], int] = _C._len_torch_function_stack
_onednn: Callable[[], bool] = _C._get_mkldnn_enabled


# How attention is computed: which kernels may be taken, and whether layers of transformers take a path of their own.
_attention: tuple[Callable[[], bool], ...] = (
    _C._get_math_sdp_enabled,
    _C._get_flash_sdp_enabled,
    _C._get_mem_efficient_sdp_enabled,
)
_onednn_deterministic: Callable[[], bool] = getattr(_C, "_get_mkldnn_deterministic", bool)
_warns_only: Callable[[], bool] = _C._get_deterministic_algorithms_warn_only
_mha: dict[str, Any] = mha.__dict__
_FASTPATH = "_is_fastpath_enabled"
_modules = vars(_torch_modules)
_global_hooks: tuple[Any, ...] = (
    _modules["_global_forward_hooks"],
    _modules["_global_forward_pre_hooks"],
    _modules["_global_backward_hooks"],
    _modules["_global_backward_pre_hooks"],
)
_frames: Any = _C._dynamo.eval_frame
_dispatches: Callable[[], int] = _C._len_torch_dispatch_stack
_transform: Callable[[], object] = _C._functorch.peek_interpreter_stack
_forward_ad: Any = torch.autograd.forward_ad


@cache
def build(*, cuda: bool) -> str:
    """Say by which torch, and on which kind of processors, is computed."""
    parts = [torch.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine()]
    if cuda:
        parts += [str(torch.version.cuda), str(torch.backends.cudnn.version())]
        parts += sorted({torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())})
    return " ".join(parts)


def unusual() -> str:
    """Say which mode is in force that may change anything; nothing if there is none."""
    if _dispatches():
        return "a dispatch mode is in force (fake tensors, make_fx, one of your own)"
    if _transform() is not None:
        return "a transform of torch.func is under way"
    if _forward_ad._current_level >= 0:
        return "forward-mode differentiation is under way"
    if _functions() and any(not isinstance(mode, DeviceContext) for mode in _function_modes()):
        return "a function mode is in force"
    if any(_global_hooks):
        return "hooks of all modules are registered"
    return ""


def _function_modes() -> list[object]:
    return [_C._get_function_stack_at(place) for place in range(_functions())]


class Modes(NamedTuple):
    """What is in force. Equal modes mean that torch computes alike.

    Attributes:
        autocast: the dtype per device type for which autocast is on.
        deterministic: whether algorithms are, and whether that is only warned of; whether oneDNN's are.
        attention: which kernels it may take, and whether transformer layers take a path of their own.
        threads: how many; sums over parts round by how many parts there are.
        cuda: flags that only CUDA reads, empty while it is not in use.
    """

    grad: bool
    inference: bool
    autocast: tuple[tuple[str, torch.dtype], ...]
    dtype: torch.dtype
    device: str
    deterministic: tuple[bool, ...]
    attention: tuple[bool, ...]
    precision: tuple[str, ...]
    onednn: bool
    threads: int
    cuda: tuple[object, ...]


def _determinism() -> tuple[bool, ...]:
    # That it is only warned of counts while it is on.
    on = _deterministic()
    return on, on and _warns_only(), _onednn_deterministic()


def _attentions() -> tuple[bool, ...]:
    return (*(enabled() for enabled in _attention), bool(_mha.get(_FASTPATH)))


def _precision() -> tuple[str, ...]:
    if _by_operation is None:
        return (torch.get_float32_matmul_precision(),)
    return tuple(_by_operation("mkldnn", operation) for operation in _OPERATIONS)


def terms_of(modes: Modes) -> list[tuple[str, tuple[object, ...]]]:
    """Say in source that these modes are in force, and no unusual one: terms, with what stands in each as `{}`.

    Written out, call after call, they take half of the time of `read_modes`.
    """
    if modes.autocast or modes.device != "cpu" or modes.cuda or _by_operation is None:
        return [("{}() is {}", (read_modes, modes)), ("not {}()", (unusual,))]
    on, warns_only, onednn = modes.deterministic
    *kernels, fastpath = modes.attention
    flags = {_inference: modes.inference, _deterministic: on, _onednn: modes.onednn, _onednn_deterministic: onednn}
    flags |= {_warns_only: warns_only} if on else {}
    flags |= dict(zip(_attention, kernels, strict=True))
    return [
        (_flag(modes.grad), (_grad,)),
        *((_flag(on=False), (count,)) for count in (_any_autocast, _functions, _dispatches)),
        *((_flag(on), (read,)) for read, on in flags.items()),
        ("{}() is {}", (_dtype, modes.dtype)),
        (f"{{}}() == {modes.threads}", (_threads,)),
        ("{}() is None", (_transform,)),
        ("{}._current_level < 0", (_forward_ad,)),
        (f"{{}}[{_FASTPATH!r}] is {fastpath}", (_mha,)),
        ("not ({} or {} or {} or {})", _global_hooks),
        *(
            (f"{{}}('mkldnn', {operation!r}) == {precision!r}", (_by_operation,))
            for operation, precision in zip(_OPERATIONS, modes.precision, strict=True)
        ),
        *([("not {}()", (torch.cuda.is_initialized,))] if torch.backends.cuda.is_built() else []),
    ]


def _flag(on: bool) -> str:
    return "{}()" if on else "not {}()"


def leave_uncompiled(code: CodeType) -> None:
    """Have torch.compile leave code alone, and all that it calls: a compiled caller's graph breaks there."""
    if hasattr(_frames, "set_code_exec_strategy"):
        skip = _frames._FrameAction.SKIP
        _frames.set_code_exec_strategy(code, _frames._FrameExecStrategy(skip, skip))


_last: Modes | None = None


def read_modes() -> Modes:
    """Read the modes of the moment."""
    last = _last
    # One after the other, those that change most often first: a chain costs half of what a tuple of them does.
    if (
        last is not None
        and _grad() is last.grad
        and not _any_autocast()
        and not last.autocast
        and not _functions()
        and not _dispatches()
        and last.device == "cpu"
        and _inference() is last.inference
        and _dtype() is last.dtype
        and _determinism() == last.deterministic
        and _attentions() == last.attention
        and _threads() == last.threads
        and _onednn() is last.onednn
        and _precision() == last.precision
        and not last.cuda
        and not torch.cuda.is_initialized()
    ):
        return last
    return _read_all()


def _read_all() -> Modes:
    global _last  # noqa: PLW0603 - a race costs another reading
    modes = Modes(
        _grad(),
        _inference(),
        tuple((d, torch.get_autocast_dtype(d)) for d in _DEVICES if torch.is_autocast_enabled(d)),
        _dtype(),
        _device(),
        _determinism(),
        _attentions(),
        _precision(),
        _onednn(),
        _threads(),
        _cuda_flags() if torch.cuda.is_initialized() else (),
    )
    last = _last
    if last is not None and modes == last:
        return last
    _last = modes
    return modes


def _device() -> str:
    # Whoever sets a device enters a mode on this stack.
    return str(torch.get_default_device()) if _functions() else "cpu"


def _cuda_flags() -> tuple[object, ...]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if _by_operation is None:
        tf32: tuple[object, ...] = cudnn.allow_tf32, matmul.allow_tf32
    else:
        tf32 = tuple(_by_operation("cuda", operation) for operation in ("matmul", "conv", "rnn"))
    return (
        cudnn.enabled,
        cudnn.deterministic,
        cudnn.benchmark,
        *tf32,
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )


@contextmanager
def under(modes: Modes) -> Generator[None]:
    """Enter those modes that belong to a thread, and the default dtype and device; leave them as they were."""
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        # Inference mode first: within it, grad mode can be set apart from it.
        stack.enter_context(torch.inference_mode(modes.inference))
        stack.enter_context(torch.set_grad_enabled(modes.grad))
        on = dict(modes.autocast)
        for device in _DEVICES:
            if device in on or torch.is_autocast_enabled(device):
                dtype = on.get(device, torch.get_autocast_dtype(device))
                stack.enter_context(torch.autocast(device, dtype, enabled=device in on))
        if modes.device != _device():
            stack.enter_context(torch.device(modes.device))
        if modes.dtype is not before:
            torch.set_default_dtype(modes.dtype)
            stack.callback(torch.set_default_dtype, before)
        yield
