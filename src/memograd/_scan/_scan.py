"""``memo.scan(rnn)``: a recurrent module that computes every shared prefix of a batch once.

Rows of a batch that begin with the same inputs, from the same state, pass through the same states. They are
merged into a trie (``_share._trie``); forward, every node is computed once; backward, what comes back from all rows is
summed onto the node first and taken back once. For a module that has seen both ends of a row (bidirectional), the
reverse direction shares suffixes, and the layers above share equal rows.

What the plain call would draw independently is not shared: in training mode the layers above a dropout run plain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from memograd._scan._batch import Batch
from memograd._scan._choice import fuses, not_worth_a_look, pays
from memograd._scan._receipt import Receipt
from memograd._scan._remember._methods import Remembering
from memograd._scan._stack import Stack, run_shared, run_spread
from memograd._scan._states import First, States, each_of, first_states, shared_first_states
from memograd._scan._stream._recurrent import Asked, recurrent_loss
from memograd._scan._torch import untraced, weight_names
from memograd._scan._within import Bounds, run_trie_within, run_within
from memograd._share._arrays import off, on
from memograd._share._checks import described
from memograd._share._shared import Shared
from memograd._share._trie import Trie, chains

if TYPE_CHECKING:
    from collections.abc import Callable

    from memograd._scan._budget import Within
    from memograd._scan._remember._prefixes import Prefixes


class How(NamedTuple):
    """What is asked of a scan; `_door.scan` says what each is."""

    engine: str
    budget: int | None
    window: int | None
    prefixes: Prefixes | None
    spill: str | None = None


class Scan(Remembering, nn.RNNBase):
    """A recurrent module over shared prefixes. Made by ``memo.scan``.

    Parameters, buffers, submodules and hooks are those of the wrapped module, not copies.

    Attributes:
        engine, budget, window, spill: as given to ``memo.scan``; the budget in bytes.
        prefixes: the remembered ones; None where none are.
        receipt: what the last call did, None before the first.
    """

    engine: str
    budget: int | None
    window: int | None
    prefixes: Prefixes | None
    spill: str | None
    _memograd_receipt: Receipt | None

    @classmethod
    def over(cls, module: nn.RNNBase, how: How) -> Scan:
        """Wrap a module: share all that it holds."""
        if type(module).forward is not cls.plain_kind().forward:
            raise TypeError(
                f"memo.scan: got {type(module).__name__} with a forward of its own; expected "
                f"{cls.plain_kind().__name__}'s own. Wrap the recurrent module inside of it: "
                "self.rnn = memo.scan(self.rnn)."
            )
        if module.bidirectional and how.window is not None:
            raise ValueError(
                f"memo.scan: got a bidirectional module and window={how.window}; expected one direction: the other one "
                "would have its windows elsewhere. Leave window out."
            )
        return cls._holding(module, module, how)

    def again(self, how: How) -> Scan:
        """Wrap the same module with another engine; the class may be one that parametrizations have made."""
        return self._holding(self, self.__wrapped__, how)

    @classmethod
    def _holding(cls, module: nn.RNNBase, wrapped: nn.RNNBase, how: How) -> Scan:
        """Make a memoized module that holds what ``module`` holds."""
        made = cls.__new__(cls)
        made.__dict__.update(module.__dict__)
        made.__dict__.update(
            how._asdict(), __wrapped__=wrapped, _memograd_receipt=None, _flat_weights=list(module._flat_weights)
        )
        return made

    @property
    def receipt(self) -> Receipt | None:
        """What the last call did, None before the first."""
        return self._memograd_receipt

    @classmethod
    def plain_kind(cls) -> type[nn.RNNBase]:
        """Give the class of the modules that this one wraps."""
        return next(base for base, kind in KINDS.items() if kind is cls)

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
    def forward(
        self, input: Any, hx: Any = None, *, keys: Tensor | None = None, shared: bool = False, new_only: bool = False
    ) -> Any:
        """Give what the plain module gives.

        Args:
            input: what the plain module takes, or a ``Shared``.
            hx: first states, as the plain module takes them. With a ``Shared``: (layers, 1, H) for all rows, or
                (layers, B, H) in which rows that share a prefix have equal states.
            keys: integers in the layout of the input without its last dimension (token ids, say) that name its
                vectors: equal keys mean equal inputs, whose bits are then not compared. Gradients do not change.
            shared: give the outputs as a ``Shared``.
            new_only: where prefixes are remembered, and without grad: give the outputs behind the shortest prefix that
                was resumed alone; ``receipt.resumed.lengths`` says how long it was.

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
        if self.prefixes is not None and not torch.is_grad_enabled() and keys is None and not shared:
            return self.of_remembered(self.prefixes, input, hx, new_only=new_only)
        if new_only:
            raise ValueError(
                "memo.scan: got new_only=True where no prefix is remembered: under grad, with keys or shared, or of a "
                "module that was not asked to. Write memo.scan(rnn, remember=True), and call it under torch.no_grad()."
            )
        if self._in_pieces and isinstance(input, Tensor) and input.dim() == 2:
            return self._of_one_row(input, hx, keys)
        batch = Batch.of(self, input)
        first = None if batch is None else first_states(self, batch.x, len(batch.rows), hx)
        if batch is None or first is None:
            return self.plainly(input, hx, "the plain module judges this input", shared)
        return self._judged(batch, first, keys, shared, hx)

    def loss(
        self,
        xs: Any,
        targets: Any,
        fn: Callable[..., Tensor],
        *,
        hx: Any = None,
        reduction: str = "mean",
        return_state: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Take a loss over a sequence of any length, read piece by piece; nothing of its length is ever in memory.

        The loss and its gradients are taken at once: going backward from it takes no time. Under `no_grad`, the loss
        alone.

        Args:
            xs: inputs (T, B, E), or (B, T, E): a tensor, an array (one that `numpy.load(path, mmap_mode="r")` maps from
                a file is read piece by piece), or chunks of some steps, in a sequence or from an iterator; chunks are
                read once, into a temporary file without a name.
            targets: the same kinds of things, (T, B, ...), or (B, T, ...); None for a function of outputs alone.
            fn: ``fn(y, target)`` gives the mean, or the sum, over the steps of a chunk, whose length is the plan's.
                What it reads and requires grad (a head's weights) has gradients, too.
            hx: first states, as the plain module takes them.
            reduction: what ``fn`` gives, and so the loss is, over steps: "mean" or "sum".
            return_state: give the last state, too, without its graph.
            progress: whether to show a bar; None for one on a terminal where it takes long.

        Returns:
            The loss; or the loss and the last state.

        Raises:
            TypeError, ValueError: what does not fit together, or the budget is too small; the message says what to
                write.
        """
        stack = self._stack()
        asked = Asked(targets, fn, reduction, self._bounds, progress)
        result, rows = recurrent_loss(self, stack, xs, hx, asked)
        steps = result.steps * rows
        self._memograd_receipt = Receipt(steps, steps, "levels", "rounding", self._reason or "a loss", result.within)
        memory = 2 if stack.cell.has_memory else 1
        last = States.of([torch.stack(result.last[k::memory]) for k in range(memory)])
        return (result.loss, last.as_plain()) if return_state else result.loss

    def _judged(self, batch: Batch, first: First, keys: Tensor | None, shared: bool, hx: Any) -> Any:
        """Run a batch that the engines can take, as is best."""
        if self._in_pieces and not shared and self._goes_back(batch.x, first.states):
            return self._within(batch, first, keys)
        named = None if keys is None else batch.names(keys)
        if not shared and (why := self._declined(batch)):
            return self.plainly(batch.input, hx, why)
        trie = batch.trie(named, first.root)
        if not shared and not self._pays(batch, first, trie):
            return self.plainly(
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

    def plainly(self, input: Any, hx: Any, reason: str, shared: bool = False, trie: Trie | None = None) -> Any:
        """Call the module's own forward, for a reason."""
        if shared:
            raise ValueError(
                f"memo.scan: got {described(input)} with shared=True; expected a batch of float vectors that the "
                "plain module takes, (T, B, E), (B, T, E) or a PackedSequence on CPU or CUDA."
            )
        steps = 0 if trie is None else trie.rows.steps
        self._memograd_receipt = Receipt(steps, steps, "plain", "bits", reason)
        result = super().forward(input, hx)
        self._check_window(dense=not result[0].requires_grad if isinstance(result[0], Tensor) else False)
        return result

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

    @property
    def _bounds(self) -> Bounds:
        return Bounds.of(self.budget, self.window, self.spill)

    @property
    def _in_pieces(self) -> bool:
        return self.budget is not None or self.window is not None

    def _within(self, batch: Batch, first: First, keys: Any) -> Any:
        """Run a plain batch within a budget."""
        stack, trie = self._stack(), None
        if self.window is not None:
            self._check_window(dense=not batch.ragged and isinstance(batch.input, Tensor))
        elif not (stack.bidirectional or stack.dropout or _by_row(batch, first) or self._declined(batch)):
            found = batch.trie(None if keys is None else batch.names(keys), first.root)
            trie = found if self._pays(batch, first, found) else None
        out = run_within(stack, batch, trie, first, self._bounds)
        nodes = batch.rows.steps if trie is None else len(trie)
        self._memograd_receipt = Receipt(batch.rows.steps, nodes, "levels", "rounding", self._reason, out.within)
        dtype, *dtypes = batch.result_dtypes(stack, first.states)
        return out.laid_out(batch, dtype), out.last.to(dtypes).as_plain()

    @property
    def _reason(self) -> str:
        cut = "" if self.window is None else f"gradients are cut every {self.window:,} steps"
        return "; ".join(filter(None, ("" if self.budget is None else "a budget", cut)))

    def _check_window(self, *, dense: bool) -> None:
        """Refuse what would silently be taken back as a whole."""
        if self.window is not None and not dense and torch.is_grad_enabled():
            raise ValueError(
                f"memo.scan: got window={self.window} and an input that is packed, shared, or the plain module's to "
                "judge; expected a batch (T, B, E) or (B, T, E) of rows of one length. Pad it, or leave window out."
            )

    def _of_shared(self, s: Shared, hx: Any) -> Any:
        """Run over a trie that the caller has."""
        x = _checked_values(self, s)
        self._check_window(dense=False)
        stack = self._stack()
        trie, first = shared_first_states(self, s, hx)
        source = None if s.source is None else off(s.source)
        if self.budget is not None and self._goes_back(x, first) and not (stack.bidirectional or stack.dropout):
            y, last, within = run_trie_within(stack, x, source, trie, first, self._bounds)
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


KINDS: dict[type[nn.RNNBase], type[Scan]] = {nn.RNN: ScanRNN, nn.LSTM: ScanLSTM, nn.GRU: ScanGRU}


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
