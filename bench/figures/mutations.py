"""Edits of a model, of its modes and of its inputs after which no stored row may be given: how often one was."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from harness.figure import Figure, Line, Quantity
from torch import nn

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

ROWS = 48


class Edit(NamedTuple):
    """One edit.

    Attributes:
        kind: what it is an edit of.
        model: changes the model in place.
        x: gives other inputs.
        mode: what the calls after it are made in.
    """

    kind: str
    model: Callable[[Any], object] = lambda _: None
    x: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
    mode: Callable[[], AbstractContextManager[Any]] = nullcontext


class Net(nn.Module):
    """A frozen backbone that reads settings of its own, and a live head."""

    def __init__(self, revision: int = 0) -> None:
        super().__init__()
        numbers = torch.random.get_rng_state()
        torch.manual_seed(revision)
        layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.GELU()]
        self.backbone = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 16)).requires_grad_(False).eval()
        self.head = nn.Linear(16, 4)
        torch.random.set_rng_state(numbers)
        self.scale, self.mean = 1.5, 0.25

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone((x - self.mean) * self.scale))


def edits() -> Iterator[Edit]:
    """Go through the edits."""
    yield from _of_weights()
    yield from _of_statistics()
    yield from _of_modes()
    yield from _of_preprocessing()
    yield from _of_revisions()


def _of_weights() -> Iterator[Edit]:
    for name, _ in Net().backbone.named_parameters():
        for place in (0, -1):
            yield Edit("weights", lambda m, n=name, p=place: m.backbone.get_parameter(n).view(-1)[p].add_(0.5))
            yield Edit("weights", lambda m, n=name, p=place: _through_data(m.backbone.get_parameter(n), p))
        yield Edit("weights", lambda m, n=name: m.backbone.get_parameter(n).neg_())
        yield Edit("weights", lambda m, n=name: m.backbone.get_parameter(n).numpy().fill(0.125))


def _of_statistics() -> Iterator[Edit]:
    for layer in (1, 4):
        for buffer in ("running_mean", "running_var"):
            for channel in range(8):
                yield Edit("statistics", lambda m, k=layer, b=buffer, c=channel: getattr(m.backbone[k], b)[c].add_(0.5))
        yield Edit("statistics", lambda m, k=layer: setattr(m.backbone[k], "eps", 0.1))


def _of_modes() -> Iterator[Edit]:
    yield Edit("dtype", lambda m: m.double(), lambda x: x.double())
    yield Edit("dtype", lambda m: m.bfloat16(), lambda x: x.bfloat16())
    yield Edit("dtype", lambda m: m.half(), lambda x: x.half())
    for kind in (torch.bfloat16, torch.float16):
        yield Edit("autocast", mode=lambda k=kind: torch.autocast("cpu", k))
    for layer in (1, 4):
        yield Edit("mode", lambda m, k=layer: m.backbone[k].train())
    yield Edit("mode", lambda m: m.backbone.train())
    yield Edit("mode", mode=torch.no_grad)
    yield Edit("mode", mode=torch.inference_mode)


def _of_preprocessing() -> Iterator[Edit]:
    for at in range(ROWS):
        yield Edit("preprocessing", x=lambda x, k=at: x.index_add(0, torch.tensor([k]), torch.full_like(x[:1], 0.01)))
    for scale in (0.5, 1.25, 2.0):
        yield Edit("preprocessing", lambda m, s=scale: setattr(m, "scale", s))
        yield Edit("preprocessing", lambda m, s=scale: setattr(m, "mean", s))
    for dim in (0, 2, 3):
        yield Edit("preprocessing", x=lambda x, d=dim: x.flip(d))
    yield Edit("preprocessing", x=lambda x: x.transpose(2, 3))


def _of_revisions() -> Iterator[Edit]:
    for revision in range(1, 41):
        yield Edit("revision", lambda m, r=revision: m.load_state_dict(Net(r).state_dict()))
    for layer in (2, 5):
        for other in (nn.Tanh, nn.Sigmoid, nn.ELU, nn.SiLU):
            yield Edit("revision", lambda m, k=layer, o=other: m.backbone.__setitem__(k, o()))


def _through_data(weight: torch.Tensor, place: int) -> None:
    weight.data.view(-1)[place] += 0.5


def lines(setting: Setting) -> Iterator[Line]:
    """Edit, call, and compare with the plain model."""
    made, wrong = Counter[str](), Counter[str]()
    for number, edit in enumerate(edits()):
        if setting.quick and number % 10:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for memo, named in ((Memo(), {}), (Memo(folder), {"dataset": "d", "count": ROWS})):
                made[edit.kind] += 1
                wrong[edit.kind] += _is_wrong(edit, memo, named)
    for kind, count in made.items():
        yield {"edits of": kind, "edits": Quantity(count, "n"), "wrong": Quantity(wrong[kind], "n", at_most=0)}
    yield {"edits of": "all", "edits": Quantity(made.total(), "n"), "wrong": Quantity(wrong.total(), "n", at_most=0)}


def _is_wrong(edit: Edit, memo: Memo, named: dict[str, Any]) -> bool:
    """Tell whether a call after an edit gives what the plain model does not give, but for rounding."""
    model = Net()
    x = torch.randn(ROWS, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    features = memo.rows(model, frozen=True, always=True, **named)
    index = {"index": range(ROWS)} if named else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            features(x, **index)
        if features.receipt.hits != ROWS:
            raise RuntimeError("nothing was known before the edit, so that nothing is tried")
        with torch.no_grad():
            edit.model(model)
        other = edit.x(x)
        with edit.mode():
            state = {name: value.clone() for name, value in model.state_dict().items()}
            ours = features(other, **index)
            model.load_state_dict(state)  # a plain call that moves statistics moves them from where they were
            plain = model(other)
    return ours.dtype != plain.dtype or not torch.allclose(ours, plain, rtol=1e-2 if ours.dtype.itemsize < 4 else 1e-5)


MUTATIONS = Figure(
    "Edits after which no stored row may be given", "wrong: a result that is not the plain model's", lines
)
