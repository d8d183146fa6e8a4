"""Whatever changes between two calls: results that are not the plain call's."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from harness.figure import Figure, Line, Quantity
from torch import Tensor, nn

from memograd import Memo, MemogradWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from harness.setting import Setting


class Model(nn.Module):
    """Something of everything that a result may depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0
        self.inner = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(0.0), nn.Linear(32, 8))
        self.revision = "main"

    def forward(self, x: Tensor) -> Tensor:
        """Give features, other ones for each revision."""
        return self.inner(x) * self.scale * (1 if self.revision == "main" else -1)


PREPARED = {"by": 1.0}


def prepared(x: Tensor) -> Tensor:
    """Do what is done to a batch before the model sees it."""
    return x * PREPARED["by"]


def _set(name: str, value: object) -> Callable[[Model], object]:
    return lambda model: setattr(model, name, value)


def _data(of: Callable[[Model], Tensor]) -> Callable[[Model], object]:
    return lambda model: of(model).data.add_(0.5)


def _through_numpy(model: Model) -> None:
    model.inner[0].weight.detach().numpy()[0] += 1


MUTATIONS: dict[str, Callable[[Model], object]] = {
    "a weight, .data": _data(lambda model: model.inner[0].weight),
    "a weight, through numpy": _through_numpy,
    "a weight, replaced": lambda model: setattr(
        model.inner[0], "weight", nn.Parameter(torch.ones_like(model.inner[0].weight))
    ),
    "one number of a bias": lambda model: model.inner[4].bias.data[3:4].add_(1),
    "running statistics": _data(lambda model: model.inner[1].running_var),
    "weights, loaded": lambda model: model.load_state_dict(Model().state_dict()),
    "dtype": lambda model: model.double(),
    "an attribute": _set("scale", 3.0),
    "a revision": _set("revision", "v2"),
    "mode: train": lambda model: model.train(),
    "preprocessing": lambda _: PREPARED.update(by=PREPARED["by"] + 1),
    "a layer": lambda model: setattr(model.inner, "2", nn.ReLU()),
    "a hook": lambda model: model.inner[0].register_forward_hook(lambda _m, _i, out: out + 1),
    "an activation's option": lambda model: setattr(model.inner[2], "approximate", "tanh"),
}
MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
}


def lines(setting: Setting) -> Iterator[Line]:
    """Change one thing after the other, and all pairs of them; count results that are other ones than plain."""
    x = torch.randn(24, 16)
    for name, change in MUTATIONS.items():
        others = list(MUTATIONS.values())[: 2 if setting.quick else None]
        found = [_wrong(x, [change], {}), *(_wrong(x, [change, other], {}) for other in others)]
        yield _line(name, found)
    for name, mode in MODES.items():
        yield _line(name, [_wrong(x, [change], {1: mode}) for change in [lambda _: None, *MUTATIONS.values()]])


def _line(name: str, found: list[tuple[int, int, int]]) -> Line:
    calls, hits, wrong = (sum(part) for part in zip(*found, strict=True))
    return {
        "changed": name,
        "calls": Quantity(calls, "n"),
        "rows known": Quantity(hits, "n"),
        "wrong": Quantity(wrong, "n", at_most=0),
    }


def _wrong(
    x: Tensor, changes: list[Callable[[Model], object]], modes: dict[int, Callable[[], AbstractContextManager[Any]]]
) -> tuple[int, int, int]:
    """Call before and after each change; count calls, rows that were known, and results that are wrong."""
    torch.manual_seed(0)
    model = Model().eval().requires_grad_(False)
    mine: Any = Memo().rows(lambda t: model(prepared(t)), always=True)
    module: Any = Memo().rows(model, always=True)
    calls = hits = wrong = 0
    for at, change in enumerate([lambda _: None, *changes, lambda _: None]):
        change(model)
        with modes.get(at, nullcontext)(), warnings.catch_warnings():
            warnings.simplefilter("ignore", MemogradWarning)
            given = x.to(model.inner[0].weight.dtype)
            if model.training:  # its statistics move with every call
                continue
            for _ in range(2):
                for f, batch in ((mine, prepared(given)), (module, given)):
                    wrong += not _same(f(given), model(batch))
                    calls, hits = calls + 1, hits + f.receipt.hits
    return calls, hits, wrong


def _same(one: Tensor, other: Tensor) -> bool:
    near = torch.allclose(one.float(), other.float(), rtol=1e-2 if one.dtype == torch.bfloat16 else 1e-4, atol=1e-5)
    return near and one.dtype == other.dtype and one.is_inference() == other.is_inference()


MUTATED = Figure(
    "whatever changes between two calls",
    "each change alone and in pairs, 24 rows; wrong: results that are other ones than the plain call's",
    lines,
)
