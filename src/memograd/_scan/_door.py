"""The door of ``memo.scan``: what may be asked for, checked, and which kind of module that makes."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from torch import nn

from memograd._scan._cell._module import CellScan, is_cell
from memograd._scan._scan import KINDS, How, Scan
from memograd.store._units import parse_bytes

if TYPE_CHECKING:
    from memograd._scan._remember._prefixes import Prefixes

ENGINES = "auto", "levels", "plain"


def scan(
    module: Any,
    *,
    engine: str = "auto",
    budget: int | str | None = None,
    window: int | None = None,
    batch_first: bool = False,
    prefixes: Prefixes | None = None,
    spill: bool | str | PathLike[str] = False,
) -> Scan | CellScan:
    """Give a module like ``module`` that computes every shared prefix of a batch once.

    The result has the same signature, the same parameters (the very same: train either) and the same outputs.

    Args:
        module: an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, with any options; or a cell, ``cell(x_t, carry) -> (y_t,
            carry)``, to be run along a sequence.
        engine: ``"auto"`` shares where that is faster; ``"levels"`` always; ``"plain"`` never. A ``Shared`` input,
            and a call with ``shared=True``, always run over the trie, whatever the engine.
        budget: bytes for the states that a training step keeps, and for the piece of it at work; None for any number.
        window: gradients do not pass the steps that are multiples of it; None for all to pass.
        batch_first: of a cell: whether inputs and outputs are (B, T, ...).
        prefixes: where the states of prefixes are remembered; None for nowhere.
        spill: whether states are kept in a file, or the folder of that file.

    Returns:
        A ``Scan``; its call takes two more arguments, see ``Scan.forward``. Of a cell a ``CellScan``.

    Raises:
        TypeError: it is neither a recurrent module nor a cell, has a forward of its own, is a cell with prefixes or an
            engine, or a recurrent module of which another layout is asked than it has.
        ValueError: the engine is not known, the window is below 1 or of a bidirectional module, the budget cannot be
            read, or states are to be spilled without one.

    Example:
        >>> import torch
        >>> lstm = scan(nn.LSTM(64, 256, batch_first=True))
        >>> x = torch.ones(16, 100, 64)
        >>> y, (h, c) = lstm(x)
        >>> y.shape, lstm.receipt.steps, lstm.receipt.nodes
        (torch.Size([16, 100, 256]), 1600, 100)
    """
    how = _asked(engine, budget, window, prefixes, spill)
    if isinstance(module, nn.RNNBase):
        if batch_first and not module.batch_first:
            raise TypeError(
                f"memo.scan: got batch_first=True beside {type(module).__name__}, which has its own; expected it of a "
                "cell alone. Write memo.scan(nn.LSTM(64, 256, batch_first=True))."
            )
        return _of_recurrent(module, how)
    if isinstance(module, CellScan):
        module = module.__wrapped__
    if not is_cell(module):
        raise TypeError(_advice(module))
    if prefixes is not None or engine != "auto":
        name, asked = ("remember", "remember=True") if prefixes is not None else ("engine", f"engine={engine!r}")
        raise TypeError(
            f"memo.scan: got {type(module).__name__} and {asked}; expected nn.RNN, nn.LSTM or nn.GRU: a cell's steps "
            f"are shared by nothing, since nobody says what else they depend on. Leave {name} out."
        )
    return CellScan(module, how.budget, window, batch_first, how.spill)


def _asked(
    engine: str,
    budget: int | str | None,
    window: int | None,
    prefixes: Prefixes | None,
    spill: bool | str | PathLike[str],
) -> How:
    """Check what is asked for."""
    if engine not in ENGINES:
        raise ValueError(f"memo.scan: got engine={engine!r}; expected 'auto', 'levels' or 'plain'.")
    if window is not None and (type(window) is not int or window < 1):
        raise ValueError(f"memo.scan: got window={window!r}; expected a number of steps, 1 or more, or None.")
    most = None if budget is None else parse_bytes(budget, "budget", who="memo.scan")
    folder = None if spill is False else "" if spill is True else fspath(spill)
    if folder is not None and most is None:
        raise ValueError(
            "memo.scan: got spill and no budget; expected both. Write memo.scan(rnn, budget='256MiB', spill=True)."
        )
    return How(engine, most, window, prefixes, folder)


def _of_recurrent(module: nn.RNNBase, how: How) -> Scan:
    if isinstance(module, Scan):
        return module.again(how)
    for base, kind in KINDS.items():
        if isinstance(module, base):
            return kind.over(module, how)
    raise TypeError(_advice(module))


def _advice(module: object) -> str:
    name = type(module).__name__
    return (
        f"memo.scan: got {name}; expected nn.RNN, nn.LSTM or nn.GRU, or a cell that takes (x_t, carry) and gives (y_t, "
        "carry). Write memo.scan(nn.LSTM(input_size, hidden_size))."
    )
