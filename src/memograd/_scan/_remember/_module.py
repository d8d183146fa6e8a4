"""A recurrent module's calls as rows whose prefixes can be remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from memograd._ambient._torch import build, read_modes
from memograd._scan._batch import Batch
from memograd._scan._remember._prefixes import Rows
from memograd._scan._states import States, first_states, state_shapes
from memograd._scan._torch import is_readable, weight_names
from memograd.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

_FORMAT = b"memograd scan 1"


def rows_of(module: nn.RNNBase, plain: Callable[[Tensor, Any], Any], input: Any, hx: Any, hash: Any) -> Rows | str:
    """Take a call apart.

    Args:
        module: the module.
        plain: its own forward.
        input, hx: what it is called with.
        hash: digests bytes.

    Returns:
        The rows; or why no prefix of this call can be remembered.
    """
    if module.bidirectional:
        return "a bidirectional module has no prefixes: its last steps change its first outputs"
    if module.training and module.dropout and module.num_layers > 1:
        return "dropout draws anew in each call"
    if isinstance(input, PackedSequence):
        return "a packed sequence; pad it"
    weights = _weights(module)
    if torch.is_autocast_enabled(weights[0].device.type):
        return "autocast is on"
    state = _first(module, weights[0], input, hx)
    if state is None:
        return "the plain module judges this input"
    x, kind = input if module.batch_first else input.transpose(0, 1), _kind(module, weights)
    return Rows(
        x.detach().contiguous(),
        [t.detach() for t in state.tensors],
        hash(b"|".join((_FORMAT, *_said(kind, weights)))),
        _Runs(module, plain),
        module.proj_size or module.hidden_size,
        type(module).__mro__[1].__name__,
        kind,
    )


def _first(module: nn.RNNBase, weight: Tensor, x: Any, hx: Any) -> States | None:
    """Give the first states of a dense batch; None where the plain module is to judge it."""
    fits = is_readable(x) and x.dim() == 3 and x.numel() > 0 and x.shape[-1] == module.input_size
    if not fits or x.dtype != weight.dtype or x.device != weight.device:
        return None
    rows = x.shape[0 if module.batch_first else 1]
    if hx is None:
        return States.zeros(state_shapes(module, rows), x)
    batch = Batch.of(module, x)
    first = None if batch is None else first_states(module, batch.x, rows, hx)
    return None if first is None else first.states


def said(module: nn.RNNBase) -> list[bytes]:
    """Say all that the results depend on, besides inputs and first states."""
    weights = _weights(module)
    return _said(_kind(module, weights), weights)


def _said(kind: Hashable, weights: Sequence[Tensor]) -> list[bytes]:
    return [repr(kind).encode(), *(bytes(fingerprint(w)) for w in weights)]


def _weights(module: nn.RNNBase) -> list[Tensor]:
    return [getattr(module, name).detach() for name in weight_names(module)]


def _kind(module: nn.RNNBase, weights: Sequence[Tensor]) -> Hashable:
    """Say what the module's kernels are, and in which modes."""
    options = module.mode, module.num_layers, module.bias, module.proj_size, module.hidden_size
    # Inference mode computes as no_grad does: states are the same.
    modes = read_modes()._replace(grad=False, inference=False)
    kinds = tuple((str(w.dtype), w.device.type) for w in weights)
    return options, modes, build(cuda=weights[0].is_cuda), kinds


class _Runs:
    """Runs rows by the module's own forward."""

    def __init__(self, module: nn.RNNBase, plain: Callable[[Tensor, Any], Any]) -> None:
        self.module, self.plain = module, plain

    def __call__(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run (b, t, E) from (layers, b, H) states."""
        rows_first = self.module.batch_first
        last: Any
        y, last = self.plain(x if rows_first else x.transpose(0, 1).contiguous(), States.of(state).as_plain())
        return (y if rows_first else y.transpose(0, 1)), [last] if isinstance(last, Tensor) else list(last)
