"""A recurrent module's calls as rows whose prefixes can be remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from memograd._ambient._torch import build, read_modes
from memograd._scan._batch import Batch
from memograd._scan._remember._prefixes import Rows
from memograd._scan._states import States, first_states
from memograd._scan._torch import weight_names
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
    if torch.is_autocast_enabled(getattr(module, weight_names(module)[0]).device.type):
        return "autocast is on"
    batch = Batch.of(module, input)
    first = None if batch is None else first_states(module, batch.x, len(batch.rows), hx)
    if batch is None or first is None:
        return "the plain module judges this input"
    x = input if module.batch_first else input.transpose(0, 1)
    return Rows(
        x.detach().contiguous(),
        [t.detach() for t in first.states.tensors],
        hash(b"|".join((_FORMAT, *said(module)))),
        _Runs(module, plain),
        module.proj_size or module.hidden_size,
        type(module).__mro__[1].__name__,
        _kind(module),
    )


def said(module: nn.RNNBase) -> list[bytes]:
    """Say all that the results depend on, besides inputs and first states."""
    weights = [getattr(module, name).detach() for name in weight_names(module)]
    return [repr(_kind(module)).encode(), *(bytes(fingerprint(w)) for w in weights)]


def _kind(module: nn.RNNBase) -> Hashable:
    """Say what the module's kernels are, and in which modes."""
    weights = [getattr(module, name) for name in weight_names(module)]
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
