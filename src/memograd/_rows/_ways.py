"""How a partly frozen model is answered: in two parts, or as it is with its frozen modules by rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from memograd._rows._cut import Cut
    from memograd._rows._receipt import Receipt
    from memograd._rows._rows import Rows
    from memograd._rows._standin import StandIns


class Asked(NamedTuple):
    """What a model is called with.

    Attributes:
        args, kwargs: as given.
        bound: by the names of the forward's parameters, those that were left out, too.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    bound: Mapping[str, Any]


class Way(Protocol):
    """How calls of a model are answered with its frozen part by rows.

    Attributes:
        rows: of the frozen part, or of the greatest of the modules that it is made of.
        modules: places of its modules.
        said: what of the model this is, in words.
        until: what ends it, and why.
    """

    @property
    def rows(self) -> Rows: ...
    @property
    def modules(self) -> tuple[str, ...]: ...
    @property
    def said(self) -> str: ...
    @property
    def until(self) -> str: ...

    def all(self) -> list[Rows]:
        """List what remembers rows."""
        ...

    def answer(self, asked: Asked) -> Any:
        """Give what the model gives."""
        ...

    def remember(self, asked: Asked) -> Receipt | None:
        """Compute and keep rows; run no more of the model than that takes."""
        ...

    def forget(self, asked: Asked) -> int:
        """Forget rows; count those that were there."""
        ...


class InTwo(NamedTuple):
    """A model that is cut: the frozen part by rows, then the rest.

    Attributes:
        cut: the parts.
        rows: the frozen one, by rows.
        alive: modules that were looked at; while they are held no other has the number of one of them.
    """

    cut: Cut
    rows: Rows
    alive: tuple[nn.Module, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        return self.cut.modules

    @property
    def until(self) -> str:
        return self.cut.until

    @property
    def said(self) -> str:
        return f"{self.modules[0]} to {self.modules[-1]} are frozen, then {self.until}"

    def all(self) -> list[Rows]:
        return [self.rows]

    def answer(self, asked: Asked) -> Any:
        middle = self.rows.answer(self._taken(asked), {})
        crossing = (middle,) if self.cut.crosses == 1 else middle
        return self.cut.rest(*crossing, *(asked.bound[name] for name in self.cut.needs))

    def remember(self, asked: Asked) -> Receipt | None:
        return self.rows.remember(self._taken(asked), {})

    def forget(self, asked: Asked) -> int:
        return self.rows.forget(self._taken(asked), {})

    def _taken(self, asked: Asked) -> list[Any]:
        return [asked.bound[name] for name in self.cut.takes]


class AsItIs(NamedTuple):
    """A model that runs as it is, with its frozen modules by rows.

    Attributes:
        stand_ins: makes the calls.
        until: why it is not cut.
        alive: modules that were looked at.
    """

    stand_ins: StandIns
    until: str
    alive: tuple[nn.Module, ...]

    @property
    def rows(self) -> Rows:
        return self.stand_ins.by_rows[self.stand_ins.main]

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(self.stand_ins.by_rows)

    @property
    def said(self) -> str:
        return f"{', '.join(self.modules[:3])}{' ...' if len(self.modules) > 3 else ''} by rows, not cut: {self.until}"

    def all(self) -> list[Rows]:
        return list(self.stand_ins.by_rows.values())

    def answer(self, asked: Asked) -> Any:
        return self.stand_ins.call(asked.args, asked.kwargs)

    def remember(self, asked: Asked) -> Receipt | None:
        return self.stand_ins.at_main(lambda rows, args, kwargs: rows.remember(args, kwargs), *asked[:2])

    def forget(self, asked: Asked) -> int:
        return self.stand_ins.at_main(lambda rows, args, kwargs: rows.forget(args, kwargs), *asked[:2]) or 0
