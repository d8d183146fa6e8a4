"""Values of all kinds, generated from a seed; as a program it prints their fingerprints, for other processes to do so.

Nothing in here may depend on the order of a set: that is what another hash seed changes.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from memograd import Memo, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 7
COUNT = 100
RATES = {"a": [0.5], "b": {1, 2}}


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Pair(NamedTuple):
    first: object
    second: object = 0


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0

    def scaled(self):
        return self.x, RATES["a"]


def rated(x):
    return x * RATES["a"][0], {"p", "q"}


def closing(x):
    return lambda y: (x, y, {"one", "other"} if y in {"s", "t"} else rated(y))


def _net(rng: random.Random) -> torch.nn.Module:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(rng.random()))
    for parameter in net.parameters():
        parameter.data.copy_(_tensor(rng, tuple(parameter.shape)))
    return net.train(rng.random() < 0.5)


def _tensor(rng: random.Random, shape: tuple[int, ...] | None = None) -> torch.Tensor:
    shape = tuple(rng.choices(range(4), k=rng.randrange(3))) if shape is None else shape
    return torch.tensor([rng.uniform(-9, 9) for _ in range(torch.Size(shape).numel())]).reshape(shape)


LEAVES: list[Callable[[random.Random], Any]] = [
    lambda rng: rng.randrange(-(10 ** rng.randrange(30)), 10**30),
    lambda rng: rng.choice([0.0, -0.0, 1.0, float("nan"), rng.random()]),
    lambda rng: rng.choice([None, True, False, ..., 1j, int, len, Point]),
    lambda rng: "".join(rng.choices("abcdefghijk\u00e9", k=rng.randrange(80))),
    lambda rng: rng.randbytes(rng.randrange(80)),
    lambda rng: rng.choice(list(Color)),
    lambda rng: pathlib.PurePosixPath("a", str(rng.randrange(9))),
    lambda rng: decimal.Decimal(rng.randrange(99)) / 10,
    lambda rng: dt.datetime(2024, 1, 1, rng.randrange(24), tzinfo=dt.timezone.utc),
    lambda rng: set(rng.choices("abcdefghijklmnop", k=9)),
    lambda rng: frozenset((text, frozenset(text)) for text in rng.choices(["ab", "cd", "ef", "gh"], k=3)),
    lambda rng: {Color.RED, "red", b"red", (rng.randrange(9), "red")},
    lambda rng: _tensor(rng).to(rng.choice([torch.float64, torch.bfloat16, torch.int32, torch.bool])),
    lambda rng: _tensor(rng).numpy().astype(rng.choice(["f4", "i2", "U5"])),
    lambda rng: random.Random(rng.randrange(9)),
    lambda rng: torch.Generator().manual_seed(rng.randrange(9)),
    lambda rng: closing(rng.choice(["s", {"u", "v", "w"}])),
    lambda rng: Point(rng.randrange(9), {"k", "l"}).scaled,
    lambda _: Memo()(rated),
    _net,
]
CONTAINERS: list[Callable[..., Any]] = [
    lambda *parts: list(parts),
    lambda *parts: tuple(parts),
    lambda *parts: dict(zip("abc", parts, strict=False)),
    lambda *parts: collections.OrderedDict(enumerate(parts)),
    lambda *parts: collections.deque(parts, 5),
    lambda *parts: Pair(parts[0], parts[1:]),
    lambda *parts: Point(parts, parts[0]),
]


def value(rng: random.Random, depth: int = 3) -> Any:
    """Generate one value."""
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(LEAVES)(rng)
    return rng.choice(CONTAINERS)(*(value(rng, depth - 1) for _ in range(rng.randrange(1, 4))))


def values() -> list[Any]:
    """Generate one value of each kind of leaf, and nested ones."""
    rng = random.Random(SEED)
    return [*(leaf(rng) for leaf in LEAVES), *(value(rng) for _ in range(COUNT - len(LEAVES)))]


def digests() -> list[str]:
    """Give the fingerprints of all values, of each by two digests."""
    return [f"{fingerprint(each)} {fingerprint(each, digest='blake2b')}" for each in values()]


def order() -> str:
    """Give the order of a set, in which other hash seeds differ."""
    return "".join({"a", "b", "c", "d", "e", "f", "g", "h"})


if __name__ == "__main__":
    print("\n".join([order(), *digests()]))
