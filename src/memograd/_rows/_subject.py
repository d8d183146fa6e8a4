"""What is wrapped by `memo.rows`, and what it is at the moment: what the keys of all rows have in common."""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from memograd._errors import NoIdentityError
from memograd._key import Key, is_log
from memograd._replay._trees import is_plain
from memograd._rows._classes import anchor_for
from memograd._rows._copies import copied
from memograd._rows._judge import is_graded, is_users, kept_by, on_the_side, why_not
from memograd._rows._look import look_at
from memograd._rows._structure import Unfit, parse
from memograd._subject import Subject, full_name
from memograd._voice import Voice
from memograd.fingerprint import fingerprint
from memograd.fingerprint._content import identify
from memograd.fingerprint._digest import hash_of
from memograd.fingerprint._form import Unidentified, Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from memograd._rows._structure import Column, Parsed

    Quick = Callable[[Any], bytes | None]


def _call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


def _weights(value: Any) -> set[int]:
    """Tell tensors of a value apart by identity; what cannot be looked into has itself."""
    if isinstance(value, nn.Module):
        return set(map(id, value.parameters()))
    if isinstance(value, torch.Tensor):
        return {id(value)} if value.requires_grad else set()
    return set() if is_plain(value) or is_log(value) else {id(value)}


@cache
def _acts_on_the_side(kind: type[nn.Module]) -> bool:
    return is_users(kind) and bool(on_the_side(kind.forward))


def _places(rows: torch.Tensor) -> int:
    """Count the places of a row that have a vector each, or an integer that stands for one."""
    shape = rows.shape[1:] if not (rows.is_floating_point() or rows.is_complex()) else rows.shape[1:-1]
    return math.prod(shape)


def _shape(value: torch.Tensor) -> bytes:
    said = f"{value.dtype} {tuple(value.shape)} {value.device} {value.requires_grad}".encode()
    # A flag, a gate, a limit: what is trained has other numbers in every step, and these say what is done.
    is_switch = not value.requires_grad and value.numel() <= _SWITCH and not value.is_meta
    return said + bytes(fingerprint(value.detach())) if is_switch else said


_STATES = 8  # of which keys are held
_SWITCH = 1024  # numbers, up to which a tensor that is not trained is taken for one that switches something

# How a module is written for what does not depend on the numbers in its weights: whether it mixes rows.
_SHAPES = Writing(hash_of("xxh3"), aspects=True, holds=True)
identify(torch.zeros(()), _SHAPES)  # what writes tensors comes first, and this in its place
for _kind in (torch.Tensor, nn.Parameter):
    _SHAPES.learn(_kind, lambda _: _shape)


class Wrapped:
    """A function or module in all its states.

    Args:
        f: the function or module.
        name: as messages and keys have it.
        version: what the user says the code is; None to look at the code.
        digest: how bytes are digested.

    Attributes:
        module: f, where that is a module.
        hash: digests bytes.
        voice: says what is not remembered.
        full_name: with its module; the class of a module.
    """

    def __init__(self, f: Callable[..., Any], name: str, version: str | None, digest: str) -> None:
        self.f = f
        self.module = f if isinstance(f, nn.Module) else None
        taker = f if self.module is None else _call
        first = () if self.module is None else ("module",)
        self.subject = Subject(taker, name, (*first, "rows", "constants"), version, digest=digest)
        self.hash = hash_of(digest)
        self._keys: OrderedDict[object, Key] = OrderedDict()
        self._copy: Subject | None = None
        self._whole: tuple[object, bool] | None = None
        self.voice = Voice(self.subject.face)
        self.full_name = name if self.module is not None else full_name(f)

    def modules(self) -> list[nn.Module]:
        """List the modules that a call runs, as far as they are known."""
        return [value for value in self._reached() if isinstance(value, nn.Module)]

    def _reached(self) -> list[Any]:
        if self.module is not None:
            return [self.module]
        self.subject.settle(plain=False)
        return self.subject.reads()

    def why_not(self) -> str:
        """Say why calls are made plainly at present; nothing where nothing speaks against rows."""
        return why_not(self.modules())

    def first(self) -> object:
        """Name what is to be seen at work before it is tried; None for modules that do nothing on the side."""
        acts = self.module is None or any(_acts_on_the_side(type(each)) for each in self.module.modules())
        return self.code() if acts else None

    def code(self) -> object:
        """Name the code that runs: a function's with all that it reads, of modules the classes, and their modes."""
        if self.module is None:
            return self.subject.settle(plain=False)
        return frozenset((type(module), module.training) for module in self.module.modules())

    @property
    def is_graded(self) -> bool:
        """Whether a call now goes back to some weights, as far as they are known."""
        return is_graded(self._reached())

    def anchor(self, batch: Parsed) -> int:
        """Give the size after which the class of sizes for such rows is named."""
        numbers = sum(p.numel() for module in self.modules() for p in module.parameters())
        places = [_places(column.data) for column in batch.columns if isinstance(column.data, torch.Tensor)]
        return anchor_for(numbers * max(places, default=1))

    def key(self, batch: Parsed, option: str) -> Key:
        """Make the key of what all rows of a batch have in common. Raises `NoIdentityError`.

        Args:
            batch: what the function is called with.
            option: how it is computed, where that decides its bits.
        """
        seen = self._seen(batch, option)
        known = None if seen is None else self._keys.get(seen)
        if known is None:
            known = self.subject.key((*self._own(), *self._common(batch, option)))
            if seen is not None:
                self._keys[seen] = known
                while len(self._keys) > _STATES:
                    self._keys.popitem(last=False)
        return known

    def _seen(self, batch: Parsed, option: str) -> object:
        """Look at what a key is made of: equal looks have equal keys; None where a look says too little."""
        if self.module is None or not all(is_plain(value) for _, value in batch.constants):
            return None
        version, look = self.subject.settle(plain=False), look_at(self.module, self.subject.writings[0])
        return None if look is None else (version, look, repr(batch.constants), self._common(batch, option)[0])

    def signature(self, batch: Parsed, option: str) -> object:
        """Say what the function is but for the numbers in its weights. Raises `NoIdentityError`."""
        version = self.subject.settle(plain=False)
        try:
            return version, identify((*self._own(), *self._common(batch, option), *self.subject.reads()), _SHAPES)
        except Unidentified as error:
            raise NoIdentityError(f"{self.subject.name}(): {error.path} is {error.reason}") from error.__cause__

    def state(self, copy: Any = None) -> tuple[Key, object]:
        """Say what the function, or a copy of it, is by now. Raises `NoIdentityError`."""
        kinds = {type(module) for root in self.modules() for module in root.modules()}
        subject = self.subject if copy is None or self.module is not None else self._subject_of(copy)
        own = self._own() if copy is None or self.module is None else (copy,)
        return Key(subject.key((*own, (), ()))[1:]), [kept_by(kind) for kind in kinds]

    def let_go(self) -> None:
        """Keep no copy that was tried."""
        self._copy = None

    def _subject_of(self, copy: Any) -> Subject:
        found = self._copy
        if found is None or found.f is not copy:
            found = self._copy = Subject(copy, self.subject.name, self.subject.parameters, self.subject.stated)
        return found

    @property
    def is_whole(self) -> bool:
        """Whether a copy for trials has weights of its own, all of them."""
        if self.module is not None:
            return True
        version = self.subject.settle(plain=False)
        if self._whole is None or self._whole[0] is not version:
            self._whole = version, self._copies_all()
        return self._whole[1]

    def _copies_all(self) -> bool:
        try:
            copy = Subject(copied(self.f).f, self.subject.name, self.subject.parameters, self.subject.stated)
            copy.settle(plain=False)
        except (Unfit, NoIdentityError):
            return False
        ours, theirs = (list(map(_weights, each.reads())) for each in (self.subject, copy))
        return self.subject.stated is None and not set().union(*ours) & set().union(*theirs)

    def _own(self) -> tuple[Any, ...]:
        return () if self.module is None else (self.module,)

    def _common(self, batch: Parsed, option: str) -> tuple[Any, ...]:
        # One text, of plain values: it is written in no time.
        kinds = repr((tuple(column.spec for column in batch.columns), batch.outline, option))
        return kinds, tuple(batch.constants) or None

    def called_with(self, args: Sequence[Any], kwargs: Mapping[str, Any], dim: int, static: Sequence[object]) -> Parsed:
        """Take apart what the function is called with. Raises `Unfit`."""
        named = {str(place): value for place, value in enumerate(args)} | dict(kwargs)
        return parse(named, dim, self._static(static))

    def _static(self, static: Sequence[object]) -> set[str]:
        """Name what is constant by place and by name: it may be passed as either."""
        if not static:
            return set()
        places = {name: str(place) for place, name in enumerate(self._parameters)}
        return {str(one) for one in static} | {places[one] for one in static if isinstance(one, str) and one in places}

    @cached_property
    def _parameters(self) -> list[str]:
        try:
            return list(inspect.signature(self.f if self.module is None else self.module.forward).parameters)
        except (ValueError, TypeError):
            return []

    def runner(self, batch: Parsed, f: Callable[..., Any] | None = None) -> Callable[[Sequence[Column]], Any]:
        """Give what calls f, or another in its place, on columns."""
        called = self.f if f is None else f

        def run(columns: Sequence[Column]) -> Any:
            named = batch.value(columns)
            args = [value for name, value in named.items() if name.isdigit()]
            return called(*args, **{name: value for name, value in named.items() if not name.isdigit()})

        return run
