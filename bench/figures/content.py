"""A tensor by its content: its fingerprint and its part of a key, beside the bare digest of its bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from harness.calls import installed, many
from harness.figure import Figure, Line, Quantity, noise, us
from harness.timing import race
from torch import nn
from xxhash import xxh3_128_digest

from memograd.fingerprint import fingerprint
from memograd.fingerprint._content import KEY, identify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting
    from torch import Tensor

DIGESTED = 1 / 0.9  # nine tenths of the speed of the digest itself


class Case(NamedTuple):
    """What is measured, what it is measured beside, how many calls a run makes of both, and what was asked for."""

    name: str
    ours: Callable[[], object]
    beside: str
    theirs: Callable[[], object]
    calls: int
    microseconds: float | None = None
    times: float | None = None


def bare(value: Tensor) -> bytes:
    return xxh3_128_digest(value.numpy())


def lines(setting: Setting) -> Iterator[Line]:
    """Race both sides of every case."""
    for case in [*_small(), *_large(1 if setting.quick else 256)]:
        calls = 1 if setting.quick else case.calls
        runs = {"ours": many(case.ours, (), calls), "theirs": many(case.theirs, (), calls)}
        times = race(runs, setting.rounds(15), setting.device)
        yield {
            "of": case.name,
            "beside": case.beside,
            "ours": replace(us(times.median("ours") / calls), at_most=case.microseconds),
            "theirs": us(times.median("theirs") / calls),
            "ours ÷ theirs": Quantity(times.ratio(["ours"], ["theirs"]), "x", at_most=case.times),
            "±": noise(times.noise(["ours"], ["theirs"])),
        }


def _small() -> Iterator[Case]:
    small, middle = torch.randn(256), torch.randn(25_600)
    several = [torch.randn(1024) for _ in range(16)]
    quick = _quick_of(small)
    digests = "bare xxh3", lambda: [bare(value) for value in several]
    yield Case("tensor of 1 KiB", lambda: fingerprint(small), "bare xxh3", lambda: bare(small), 3000, 6)
    yield Case("tensor of 100 KiB", lambda: fingerprint(middle), "bare xxh3", lambda: bare(middle), 3000, 12)
    yield Case("its part of a key, 1 KiB", lambda: identify(small), "bare xxh3", lambda: bare(small), 3000)
    yield Case(
        "16 tensors of 4 KiB, parts of a key", lambda: [quick(value) for value in several], *digests, 500, times=1.6
    )
    yield Case("a list of them", lambda: identify(several), *digests, 500)
    if installed("joblib"):
        from joblib import hash as joblib_hash

        yield Case("a list of them", lambda: identify(several), "joblib.hash", lambda: joblib_hash(several), 50)


def _large(mib: int) -> Iterator[Case]:
    large, name = torch.randn(mib << 18), f"tensor of {mib} MiB"
    module = nn.Sequential(*(nn.Linear(512, 512) for _ in range(24)))
    weights = [parameter.detach() for parameter in module.parameters()]
    of_weights = f"module of {sum(weight.nbytes for weight in weights) >> 20} MiB"
    yield Case(name, lambda: fingerprint(large), "bare xxh3", lambda: bare(large), 1, times=DIGESTED)
    yield Case(name, lambda: fingerprint(large), "reading it", large.view(torch.int64).sum, 1)
    if installed("blake3"):
        from blake3 import blake3

        array = large.view(torch.uint8).numpy()
        yield Case(
            f"{name}, blake3",
            lambda: fingerprint(large, digest="blake3"),
            "blake3 itself",
            lambda: blake3(array, max_threads=blake3.AUTO).digest(),
            1,
            times=DIGESTED,
        )
    yield Case(of_weights, lambda: identify(module), "bare xxh3", lambda: [bare(weight) for weight in weights], 3)
    if installed("joblib"):
        from joblib import hash as joblib_hash

        yield Case(name, lambda: fingerprint(large), "joblib.hash of the array", lambda: joblib_hash(large.numpy()), 1)


def _quick_of(value: Tensor) -> Callable[[Any], bytes | None]:
    """Give what writes a tensor into a key when nothing about it is out of the ordinary."""
    identify(value)
    return KEY.quick[type(value)]


CONTENT = Figure("what a tensor is, by its content", "ours and theirs in turns, in runs of many calls", lines)
