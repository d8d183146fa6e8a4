"""One prompt, many answers: dense tensors in, dense tensors out, against the plain module and against a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from harness.agreement import agree
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import Times, race
from torch import Tensor, nn

from memograd import Shared, memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

INPUTS = 64


@dataclass(frozen=True)
class Shape:
    """A prompt of some steps and answers of some steps, and the speed-ups that were asked for."""

    prompt: int
    answers: int
    steps: int
    asked: dict[str, float]

    def __str__(self) -> str:
        return f"{self.prompt:,} + {self.answers} x {self.steps}"

    @property
    def ideal(self) -> float:
        return self.answers * (self.prompt + self.steps) / (self.prompt + self.answers * self.steps)

    def tensors(self, device: torch.device) -> Tensor:
        """Draw the batch: (answers, prompt + steps, E), its rows equal up to the prompt's end."""
        prompt = torch.randn(1, self.prompt, INPUTS, device=device).expand(self.answers, -1, -1)
        return torch.cat([prompt, torch.randn(self.answers, self.steps, INPUTS, device=device)], 1)


SHAPES = (
    Shape(512, 16, 32, {"LSTM": 5.0, "GRU": 4.0}),
    Shape(256, 64, 32, {"LSTM": 6.0, "GRU": 5.0}),
    Shape(2048, 64, 64, {"LSTM": 16.0, "GRU": 12.0}),
)


def shapes(setting: Setting) -> tuple[Shape, ...]:
    return (Shape(12, 6, 4, {"LSTM": 5.0, "GRU": 4.0}),) if setting.quick else SHAPES


def hidden(setting: Setting) -> int:
    return 16 if setting.quick else 256


def lines(setting: Setting) -> Iterator[Line]:
    """Race the plain module, ours, and the prompt and the answers alone."""
    for kind in (nn.LSTM, nn.GRU):
        for shape in shapes(setting):
            plain = kind(INPUTS, hidden(setting), batch_first=True).to(setting.device)
            runs = _runs(plain, shape, setting.device)
            agree({name: runs[name] for name in ("plain", "ours", "Shared out")}, plain.parameters())
            yield _line(kind.__name__, shape, race(runs, setting.rounds(), setting.device))


def _runs(plain: nn.RNNBase, shape: Shape, device: torch.device) -> dict[str, Callable[[], None]]:
    x = shape.tensors(device)
    dy = torch.randn(*x.shape[:2], plain.hidden_size, device=device)
    ours, levels = memo.scan(plain), memo.scan(plain, engine="levels")
    prompt, answers = (x[:1, : shape.prompt], dy[:1, : shape.prompt]), (x[:, shape.prompt :], dy[:, shape.prompt :])
    return {
        "plain": step(plain, x, dy),
        "ours": step(ours, x, dy),
        "Shared out": _shared_out(levels, x, dy),
        "prompt, plain": step(plain, *prompt),
        "prompt, levels": step(levels, *prompt),
        "answers, plain": step(plain, *answers),
        "answers, levels": step(levels, *answers),
    }


def step(rnn: nn.Module, x: Tensor, dy: Tensor) -> Callable[[], None]:
    """Give a forward and backward pass of dense tensors, with a given gradient of the output."""
    x, dy = x.contiguous(), dy.contiguous()

    def run() -> None:
        rnn.zero_grad(set_to_none=True)
        x.grad = None
        rnn(x)[0].backward(dy)

    return run


def _shared_out(rnn: nn.Module, x: Tensor, dy: Tensor) -> Callable[[], None]:
    """Give a pass whose output stays shared: its gradient is given node by node."""
    with torch.no_grad():
        y, _ = rnn(x, shared=True)
    leaf = torch.zeros_like(y.values).requires_grad_()
    Shared(leaf, y.trie, None, y.batch_first).dense().backward(dy)

    def run() -> None:
        rnn.zero_grad(set_to_none=True)
        rnn(x, shared=True)[0].values.backward(leaf.grad)

    return run


def _line(cell: str, shape: Shape, times: Times) -> Line:
    parts = [times.faster(f"{part}, plain", f"{part}, levels") for part in ("prompt", "answers")]
    speed = times.ratio(["plain"], ["ours"])
    return {
        "cell": cell,
        "prompt + answers": str(shape),
        "plain": ms(times.median("plain")),
        "ours": ms(times.median("ours")),
        "speed-up": Quantity(speed, "x", at_least=shape.asked[cell]),
        "ideal": Quantity(shape.ideal, "x"),
        "÷ ideal": Quantity(speed / shape.ideal),
        "bound": Quantity(times.ratio(["plain"], parts), "x"),
        "÷ bound": Quantity(times.ratio(parts, ["ours"]), at_least=0.9),
        "Shared out": Quantity(times.ratio(["plain"], ["Shared out"]), "x"),
        "±": noise(times.noise(["plain"], ["ours"])),
    }


RL = Figure(
    "rl: one prompt, many answers, dense in and out",
    f"forward and backward of weights, E={INPUTS}, H=256, input without gradient; bound: plain ÷ (prompt alone + "
    "answers alone), each by the faster of the plain module and ours",
    lines,
)
