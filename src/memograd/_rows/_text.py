"""Texts, with the tokenizer and the model given apart: each is padded to a length of its own, whatever its companions.

Padded to the longest of its batch, as is usual, a text's bits depend on that; among texts of its own canonical length
(`_classes.ladder`: at most a quarter is padding) they do not, and so its row is the same in every batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from memograd._ambient._streams import read_streams, set_streams, streams_put_back
from memograd._errors import NoIdentityError
from memograd._rows._classes import ladder
from memograd._rows._compare import difference
from memograd._rows._probe import rounding_of
from memograd._rows._receipt import Receipt
from memograd._rows._rows import is_traced
from memograd._rows._structure import Parsed, Unfit, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memograd._rows._receipt import RowsStats
    from memograd._rows._rows import Rows

_LEAST = 8  # tokens
_TRIED = 4  # texts of which it is measured what padding rounds
_LONGER = 8  # times as long as the longest of them is what they are padded to


class TextRows:
    """Rows of a model by texts. Made by `memo.rows(model, tokenizer=...)`.

    Args:
        rows: of the model, which takes what the tokenizer gives, by keyword.
        tokenizer: one of transformers, or what has its `__call__` and `pad`.
        max_length: the most tokens of a text; None for the tokenizer's own.

    Attributes:
        receipt: what the last call did, None before the first.
    """

    def __init__(self, rows: Rows, tokenizer: Any, max_length: int | None) -> None:
        self.rows, self._tokenizer = rows, tokenizer
        most = getattr(tokenizer, "model_max_length", 512) if max_length is None else max_length
        self._most = min(most, 1 << 20)
        self._errors: dict[object, tuple[float, float]] = {}
        self.receipt: Receipt | None = None

    def answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Answer a call with a list of texts, and what the model takes besides by keyword."""
        texts = self._texts(args)
        if is_traced():
            return self._plain(texts, kwargs)
        streams = read_streams(("torch",))
        try:
            return self._grouped(texts, kwargs)
        except (Unfit, NoIdentityError) as reason:
            if isinstance(reason, NoIdentityError) and self.rows.options.strict:
                raise
            set_streams(streams)
            self.receipt = Receipt(0, 0, 0, 0, 0, 1, "plain", "bits", 0.0, str(reason))
            said = f"{self.rows.name}(): {reason}. The batch is computed plainly"
            self.rows.voice.refuse(self.rows.voice.face, said, once=str(reason).split(", by ", maxsplit=1)[0])
            return self._plain(texts, kwargs)

    def remember(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Receipt | None:
        """Compute and keep the rows of a batch that are not there, whether that pays or not; tell what was done."""
        account = self.rows.recalling
        before, account.always = account.always, True
        try:
            self.answer(args, kwargs)
        finally:
            account.always = before
        return self.receipt

    def forget(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Forget the rows of texts, for the model as it is now; count those that were there."""
        return sum(self.rows.forget((), {**given, **kwargs}) for given, _ in self._groups(self._texts(args)))

    def _texts(self, args: Sequence[Any]) -> list[str]:
        given = cast("list[Any]", args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) else None
        if given is None or not given or not all(isinstance(text, str) for text in given):
            raise TypeError(
                f"{self.rows.name}() got {args!r}, expected a list of texts, since it has a tokenizer; write "
                'features(["a sentence", "another"])'
            )
        return list(given)

    def _grouped(self, texts: list[str], kwargs: Mapping[str, Any]) -> Any:
        number = {text: k for k, text in enumerate(dict.fromkeys(texts))}
        groups = self._groups(list(number))
        kind = self._kind(groups[0][0], kwargs)
        if kind in self._errors:
            _check(*self._errors[kind])
        parts: list[Parsed] = []
        order: list[int] = []
        receipts: list[Receipt] = []
        for given, at in groups:
            parts.append(parse(self.rows.by_rows((), {**given, **kwargs}), self.rows.options.dim))
            order += at
            receipts.append(cast("Receipt", self.rows.receipt))
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        value = _assembled(parts, back[torch.tensor([number[text] for text in texts])])
        if kind not in self._errors:
            with torch.no_grad():
                self._errors[kind] = self._measured(list(number), kwargs)
            _check(*self._errors[kind])
        self.receipt = _together(receipts, len(texts), len(number), self._errors[kind][0])
        return value

    def _groups(self, texts: list[str]) -> list[tuple[dict[str, Any], list[int]]]:
        """Give for each canonical length what the model takes, and which texts that is."""
        words = self._tokenizer(texts, truncation=True, max_length=self._most)
        ids = words["input_ids"]
        by_length: dict[int, list[int]] = {}
        for k, each in enumerate(ids):
            by_length.setdefault(self._length(len(each)), []).append(k)
        return [(self._padded(words, at, length), at) for length, at in sorted(by_length.items())]

    def _length(self, tokens: int) -> int:
        """Give the length that a text of so many tokens is padded to."""
        return max(tokens, min(ladder(max(tokens, _LEAST)), self._most))

    def _padded(self, words: Mapping[str, Any], at: list[int], length: int) -> dict[str, Any]:
        some = {name: [values[k] for k in at] for name, values in words.items()}
        padded = self._tokenizer.pad(some, padding="max_length", max_length=length, return_tensors="pt")
        return {name: self._there(value) for name, value in padded.items()}

    def _there(self, value: Tensor) -> Tensor:
        module = self.rows.wrapped.module
        place = next((p.device for p in module.parameters()), value.device) if module is not None else value.device
        return value.to(place)

    def _plain(self, texts: list[str], kwargs: Mapping[str, Any]) -> Any:
        """Compute as is usual: padded to the longest."""
        words = self._tokenizer(texts, padding=True, truncation=True, max_length=self._most, return_tensors="pt")
        return self.rows.f(**{name: self._there(value) for name, value in words.items()}, **kwargs)

    def _kind(self, given: Mapping[str, Any], kwargs: Mapping[str, Any]) -> object:
        """Say what decides by how much padding rounds: model and tokenizer, but for the numbers in weights."""
        wrapped, options = self.rows.wrapped, self.rows.options
        batch = wrapped.called_with((), {**given, **kwargs}, options.dim, options.static)
        how = (getattr(self._tokenizer, name, None) for name in ("padding_side", "pad_token_id", "truncation_side"))
        return wrapped.signature(batch._replace(columns=[]), options.exact), *how

    def _measured(self, texts: list[str], kwargs: Mapping[str, Any]) -> tuple[float, float]:
        """Measure on some texts how far results that are padded far are from those of each by itself.

        Returns:
            How far, and how far two roundings may be from each other.
        """
        dim, by_length = self.rows.options.dim, sorted(texts, key=len)
        some = list(dict.fromkeys(by_length[len(texts) * k // _TRIED] for k in range(_TRIED)))
        with streams_put_back():
            far = parse(self._plain([*some, " ".join([by_length[-1]] * _LONGER)], kwargs), dim)
            near = _joined([parse(self._plain([text], kwargs), dim) for text in some])
        among = far._replace(columns=[column.taken(range(len(some))) for column in far.columns])
        return difference(near, among), rounding_of(among)

    @property
    def name(self) -> str:
        """Name the model, as messages do."""
        return self.rows.name

    def all(self) -> list[Rows]:
        """List what remembers rows."""
        return [self.rows]

    def stats(self) -> RowsStats:
        """Count what all calls did; a call for each length of its texts."""
        return self.rows.stats()

    def cache_clear(self) -> None:
        """Forget every row and begin to count anew."""
        self.rows.cache_clear()


def _check(error: float, rounding: float) -> None:
    if not error <= rounding:
        raise Unfit(f"a text's result depends on how far it is padded, by {error:.1g} of it")


def _together(receipts: list[Receipt], rows: int, distinct: int, error: float) -> Receipt:
    """Make one receipt of those of groups."""
    total = {name: sum(getattr(one, name) for one in receipts) for name in ("hits", "computed", "padded", "batches")}
    lengths = f"texts of {len(receipts)} lengths, each padded to its own and not to the longest of the batch"
    engine = next((one.engine for one in receipts if one.engine != "plain"), "plain")
    first = replace(receipts[0], rows=rows, distinct=distinct, engine=engine, **total)
    return replace(first, exact="rounding", error=error, reason=f"{lengths}; {receipts[-1].reason}")


def _joined(parts: Sequence[Parsed]) -> Parsed:
    """Put the rows of some results one after the other. Raises `Unfit` where they are not of a kind."""
    kinds = {tuple(column.spec for column in part.columns) for part in parts}
    if len(kinds) > 1 or not all(isinstance(c.data, Tensor) for part in parts for c in part.columns):
        raise Unfit("its results are as long as the texts; give a model that gives one vector a text")
    leaves = [
        torch.cat([cast("Tensor", c.data) for c in same]) for same in zip(*(p.columns for p in parts), strict=True)
    ]
    pairs = zip(parts[0].columns, leaves, strict=True)
    return parts[0]._replace(columns=[column._replace(data=leaf) for column, leaf in pairs])


def _assembled(parts: Sequence[Parsed], at: Tensor) -> Any:
    """Put results of groups together, and their rows into the order of the batch."""
    joined = _joined(parts)
    leaves = [cast("Tensor", column.data) for column in joined.columns]
    rows = [leaf.index_select(0, at.to(leaf.device)) for leaf in leaves]
    return joined.value([c._replace(data=leaf) for c, leaf in zip(joined.columns, rows, strict=True)])
