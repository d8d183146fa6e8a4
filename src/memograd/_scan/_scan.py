"""``memo.scan(rnn)``: a recurrent module that computes every shared prefix of a batch once.

Rows of a batch that begin with the same inputs, from the same state, pass through the same states. They are
merged into a trie (``_share._trie``); forward, every node is computed once; backward, what comes back from all rows is
summed onto the node first and taken back once. For a module that has seen both ends of a row (bidirectional), the
reverse direction shares suffixes, and the layers above share equal rows.

What the plain call would draw independently is not shared: in training mode the layers above a dropout run plain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from memograd._scan._batch import Batch
from memograd._scan._choice import fuses, not_worth_a_look, pays
from memograd._scan._stack import Stack, run_shared, run_spread
from memograd._scan._states import First, States, each_of, first_states, shared_first_states
from memograd._scan._torch import untraced, weight_names
from memograd._scan._within import run_trie_within, run_within
from memograd._share._arrays import off, on
from memograd._share._checks import described
from memograd._share._shared import Shared
from memograd._share._trie import Trie, chains
from memograd.store._units import parse_bytes

if TYPE_CHECKING:
    from memograd._scan._budget import Within


@dataclass(frozen=True)
class Receipt:
    """What the last call did.

    Attributes:
        steps: recurrent steps that the plain call takes, per layer and direction; 0 where the plain module ran before
            they were counted.
        nodes: how many of them were computed: one for each distinct prefix, or all (``steps``) where the plain module
            ran. A direction that reads from the end, and layers above it or above a dropout, take steps of their own.
        engine: ``"levels"`` (over the trie, by own steps or the fused kernel) or ``"plain"`` (the module's own
            forward).
        exact: ``"bits"`` where the results have the plain call's bits, else ``"rounding"``.
        reason: why the engine was chosen.
        within: how the call keeps within its budget; None where it has none, or nothing is to be taken back.
    """

    steps: int
    nodes: int
    engine: str
    exact: str
    reason: str
    within: Within | None = None


def scan(module: nn.Module, *, engine: str = "auto", budget: int | str | None = None) -> Scan:
    """Give a module like ``module`` that computes every shared prefix of a batch once.

    The result has the same signature, the same parameters (the very same: train either) and the same outputs.

    Args:
        module: an ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, with any options.
        engine: ``"auto"`` shares where that is faster; ``"levels"`` always; ``"plain"`` never. A ``Shared`` input,
            and a call with ``shared=True``, always run over the trie, whatever the engine.
        budget: bytes for the states that a training step keeps, and for the piece of it at work; None for any number.

    Returns:
        A ``Scan``; its call takes two more arguments, see ``Scan.forward``.

    Raises:
        TypeError: the module is not one of these.
        ValueError: the engine is not known.

    Example:
        >>> lstm = scan(nn.LSTM(64, 256, batch_first=True))
        >>> x = torch.ones(16, 100, 64)
        >>> y, (h, c) = lstm(x)
        >>> y.shape, lstm.receipt.steps, lstm.receipt.nodes
        (torch.Size([16, 100, 256]), 1600, 100)
    """
    if engine not in ("auto", "levels", "plain"):
        raise ValueError(f"memo.scan: got engine={engine!r}; expected 'auto', 'levels' or 'plain'.")
    most = None if budget is None else parse_bytes(budget, "budget", who="memo.scan")
    if isinstance(module, Scan):
        return module.again(engine, most)
    for base, kind in _KINDS.items():
        if isinstance(module, base):
            return kind.over(module, engine, most)
    raise TypeError(_advice(module))


def _advice(module: object) -> str:
    name = type(module).__name__
    if isinstance(module, (nn.RNNCell, nn.LSTMCell, nn.GRUCell)):
        whole = name.removesuffix("Cell")
        sizes = f"{module.input_size}, {module.hidden_size}"
        return (
            f"memo.scan: got nn.{name}, which takes one step and has no sequence to share; expected nn.RNN, nn.LSTM "
            f"or nn.GRU. Write memo.scan(nn.{whole}({sizes})) and load the cell's weights as weight_ih_l0, "
            "weight_hh_l0, ..."
        )
    return (
        f"memo.scan: got {name}; expected nn.RNN, nn.LSTM or nn.GRU. Write memo.scan(nn.LSTM(input_size, hidden_size))."
    )


class Scan(nn.RNNBase):
    """A recurrent module over shared prefixes. Made by ``memo.scan``.

    Parameters, buffers, submodules and hooks are those of the wrapped module, not copies.

    Attributes:
        engine, budget: as given to ``memo.scan``; the budget in bytes.
        receipt: what the last call did, None before the first.
    """

    engine: str
    budget: int | None
    _memograd_receipt: Receipt | None

    @classmethod
    def over(cls, module: nn.RNNBase, engine: str, budget: int | None = None) -> Scan:
        """Wrap a module: share all that it holds."""
        if type(module).forward is not cls._plain_kind().forward:
            raise TypeError(
                f"memo.scan: got {type(module).__name__} with a forward of its own; expected "
                f"{cls._plain_kind().__name__}'s own. Wrap the recurrent module inside of it: "
                "self.rnn = memo.scan(self.rnn)."
            )
        return cls._holding(module, module, engine, budget)

    def again(self, engine: str, budget: int | None = None) -> Scan:
        """Wrap the same module with another engine; the class may be one that parametrizations have made."""
        return self._holding(self, self.__wrapped__, engine, budget)

    @classmethod
    def _holding(cls, module: nn.RNNBase, wrapped: nn.RNNBase, engine: str, budget: int | None) -> Scan:
        """Make a memoized module that holds what ``module`` holds."""
        made = cls.__new__(cls)
        made.__dict__.update(module.__dict__)
        own = {"__wrapped__": wrapped, "engine": engine, "budget": budget, "_memograd_receipt": None}
        made.__dict__.update(own, _flat_weights=list(module._flat_weights))
        return made

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did, None before the first."""
        return self._memograd_receipt

    @classmethod
    def _plain_kind(cls) -> type[nn.RNNBase]:
        return next(base for base, kind in _KINDS.items() if kind is cls)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # A parametrized weight is a property of the wrapped module's class.
            wrapped = self.__dict__.get("__wrapped__")
            if wrapped is not None and name in self.__dict__.get("_flat_weights_names", ()):
                return getattr(wrapped, name)
            raise

    @untraced
    def forward(self, input: Any, hx: Any = None, *, keys: Tensor | None = None, shared: bool = False) -> Any:
        """Give what the plain module gives.

        Args:
            input: what the plain module takes, or a ``Shared``.
            hx: first states, as the plain module takes them. With a ``Shared``: (layers, 1, H) for all rows, or
                (layers, B, H) in which rows that share a prefix have equal states.
            keys: integers in the layout of the input without its last dimension (token ids, say) that name its
                vectors: equal keys mean equal inputs, whose bits are then not compared. Gradients do not change.
            shared: give the outputs as a ``Shared``.

        Returns:
            Outputs and last states as the plain module gives them; the outputs as a ``Shared`` where the input is one
            or ``shared`` is set.

        Raises:
            TypeError, ValueError: keys or states do not fit. What the plain module refuses is refused by it.
        """
        if isinstance(input, Shared):
            if keys is not None:
                raise ValueError(
                    "memo.scan: got keys beside a Shared, which has its prefixes; expected none. Write rnn(s)."
                )
            return self._of_shared(input, hx)
        if self.budget is not None and isinstance(input, Tensor) and input.dim() == 2:
            return self._of_one_row(input, hx, keys)
        batch = Batch.of(self, input)
        first = None if batch is None else first_states(self, batch.x, len(batch.rows), hx)
        if batch is None or first is None:
            return self._plain(input, hx, "the plain module judges this input", shared)
        return self._judged(batch, first, keys, shared, hx)

    def _judged(self, batch: Batch, first: First, keys: Tensor | None, shared: bool, hx: Any) -> Any:
        """Run a batch that the engines can take, as is best."""
        if self.budget is not None and not shared and self._goes_back(batch.x, first.states):
            return self._within(batch, first, keys, self.budget)
        named = None if keys is None else batch.names(keys)
        if not shared and (why := self._declined(batch)):
            return self._plain(batch.input, hx, why)
        trie = batch.trie(named, first.root)
        if not shared and not self._pays(batch, first, trie):
            return self._plain(
                batch.input, hx, f"little is shared: {trie.rows.steps} steps, {len(trie)} distinct", trie=trie
            )
        return self._of_batch(batch, first, trie, shared)

    def _declined(self, batch: Batch) -> str | None:
        if self.engine == "auto":
            return not_worth_a_look(batch.rows, self.hidden_size, self.input_size)
        return "engine='plain'" if self.engine == "plain" else None

    def _pays(self, batch: Batch, first: First, trie: Trie) -> bool:
        if self.engine == "levels":
            return True
        stack = self._stack()
        fused = fuses(stack.cell, stack.at(0, 0), batch.x) and not batch.ragged
        return pays(trie, fused, _by_row(batch, first))

    def _plain(self, input: Any, hx: Any, reason: str, shared: bool = False, trie: Trie | None = None) -> Any:
        if shared:
            raise ValueError(
                f"memo.scan: got {described(input)} with shared=True; expected a batch of float vectors that the "
                "plain module takes, (T, B, E), (B, T, E) or a PackedSequence on CPU or CUDA."
            )
        steps = 0 if trie is None else trie.rows.steps
        self._memograd_receipt = Receipt(steps, steps, "plain", "bits", reason)
        return super().forward(input, hx)

    def _of_batch(self, batch: Batch, first: First, trie: Trie, shared: bool) -> Any:
        """Run over the trie of a plain batch."""
        stack = self._stack()
        if _by_row(batch, first):
            out = run_spread(stack, batch.positions(), trie, first.states)
            nodes = chains(trie.rows)
        else:
            roots = first.states.rows(on(batch.x.device, trie.root_row))
            # A copy, as the plain module makes: the batch may be changed before backward.
            x = batch.x.index_select(0, on(batch.x.device, batch.place[trie.first]))
            out = run_shared(stack, x, None, trie, roots)
            nodes = out.trie
        self._note(trie)
        dtype, *dtypes = batch.result_dtypes(stack, first.states)
        y, last = out.y.to(dtype), out.last.to(dtypes).as_plain()
        if shared:
            return Shared(y, nodes, None, batch.batch_first), last
        return batch.laid_out(y, on(y.device, nodes.node)), last

    def _of_one_row(self, input: Tensor, hx: Any, keys: Any) -> Any:
        """Run an input without a batch as a batch of one row."""
        row = 0 if self.batch_first else 1
        states = None if hx is None else each_of(hx, lambda s: s.unsqueeze(1))
        y, last = self.forward(input.unsqueeze(row), states, keys=None if keys is None else keys.unsqueeze(row))
        return y.squeeze(row), each_of(last, lambda s: s.squeeze(1))

    def _goes_back(self, x: Tensor, first: States) -> bool:
        """Say whether there is a way back, for which states would be kept."""
        weights = (getattr(self, name).requires_grad for name in weight_names(self))
        return torch.is_grad_enabled() and (x.requires_grad or first.require_grad or any(weights))

    def _within(self, batch: Batch, first: First, keys: Any, budget: int) -> Any:
        """Run a plain batch within a budget."""
        stack, trie = self._stack(), None
        if not (stack.bidirectional or stack.dropout or _by_row(batch, first) or self._declined(batch)):
            found = batch.trie(None if keys is None else batch.names(keys), first.root)
            trie = found if self._pays(batch, first, found) else None
        out = run_within(stack, batch, trie, first, budget)
        nodes = batch.rows.steps if trie is None else len(trie)
        self._memograd_receipt = Receipt(batch.rows.steps, nodes, "levels", "rounding", "a budget", out.within)
        dtype, *dtypes = batch.result_dtypes(stack, first.states)
        return out.laid_out(batch, dtype), out.last.to(dtypes).as_plain()

    def _of_shared(self, s: Shared, hx: Any) -> Any:
        """Run over a trie that the caller has."""
        x = _checked_values(self, s)
        stack = self._stack()
        trie, first = shared_first_states(self, s, hx)
        source = None if s.source is None else off(s.source)
        if self.budget is not None and self._goes_back(x, first) and not (stack.bidirectional or stack.dropout):
            y, last, within = run_trie_within(stack, x, source, trie, first, self.budget)
            self._note(trie, within)
            return Shared(y, trie, None, s.batch_first), last.as_plain()
        out = run_shared(stack, x, source, trie, first)
        self._note(trie)
        return Shared(out.y, out.trie, None, s.batch_first), out.last.as_plain()

    def _note(self, trie: Trie, within: Within | None = None) -> None:
        reason = f"{trie.ratio:.2f} steps a node"
        self._memograd_receipt = Receipt(trie.rows.steps, len(trie), "levels", "rounding", reason, within)

    def _stack(self) -> Stack:
        directions = 2 if self.bidirectional else 1
        names = cast("list[list[str]]", self._all_weights)
        named = [[getattr(self, name) for name in of_direction] for of_direction in names]
        weights = [named[k : k + directions] for k in range(0, len(named), directions)]
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        return Stack(self.mode, weights, dropout, self.bias, self.bidirectional, self.training)


class ScanRNN(Scan, nn.RNN):
    """``memo.scan(nn.RNN(...))``."""


class ScanLSTM(Scan, nn.LSTM):
    """``memo.scan(nn.LSTM(...))``."""


class ScanGRU(Scan, nn.GRU):
    """``memo.scan(nn.GRU(...))``."""


_KINDS: dict[type[nn.RNNBase], type[Scan]] = {nn.RNN: ScanRNN, nn.LSTM: ScanLSTM, nn.GRU: ScanGRU}


def _by_row(batch: Batch, first: First) -> bool:
    """Say whether every row is to have gradients of its own."""
    return torch.is_grad_enabled() and (batch.x.requires_grad or first.states.require_grad)


def _checked_values(module: Scan, s: Shared) -> Tensor:
    x = s.distinct
    if x.dim() != 2 or x.shape[1] != module.input_size or not x.is_floating_point():
        raise ValueError(
            f"memo.scan: got a Shared with values of shape {tuple(x.shape[1:])} and {x.dtype}; expected float vectors "
            f"of {module.input_size}. Write rnn(s.map(embedding)) if s holds token ids."
        )
    module.check_input(x, x)  # as of a packed input, whose type the plain module compares with the weights'
    return x
