"""A hit on tensors, beside the bare hashing of their bytes, and beside joblib."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import torch
from harness.calls import installed, many, remembered
from harness.figure import Figure, Line, Quantity, noise, us
from harness.timing import race

from memograd import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting
    from torch import Tensor

TENSORS_OF_A_CALL = 16
FLOATS = 1024


def total(*tensors: Tensor) -> float:
    return float(sum(float(tensor.sum()) for tensor in tensors))


def lines(setting: Setting) -> Iterator[Line]:
    """Race a hit against the hashing that no key by content can do without."""
    calls = 2 if setting.quick else 20
    args = tuple(torch.randn(FLOATS) for _ in range(TENSORS_OF_A_CALL))
    with tempfile.TemporaryDirectory() as folder:
        programs: dict[str, Callable[..., Any]] = {"ours": remembered(Memo()(total), *args), **_others(folder)}
        if "joblib" in programs:
            programs["joblib"](*args)
        runs = {name: many(f, args, calls if name != "joblib" else max(1, calls // 20)) for name, f in programs.items()}
        times = race(runs, setting.rounds(51, 51), setting.device)
    line: Line = {"arguments": f"{TENSORS_OF_A_CALL} tensors of 4 KiB", "memo": us(times.median("ours") / calls)}
    if "bare" in programs:
        line["numpy() and xxh3"] = us(times.median("bare") / calls)
        line["memo ÷ bare"] = Quantity(times.ratio(["ours"], ["bare"]), "x", at_most=1.6)
        line["±"] = noise(times.noise(["ours"], ["bare"]))
    if "joblib" in programs:
        part = calls / max(1, calls // 20)
        line["joblib"] = us(times.median("joblib") * part / calls)
        line["joblib ÷ memo"] = Quantity(part * times.ratio(["joblib"], ["ours"]), "x", at_least=20.0)
    yield line


def _others(folder: str) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    if installed("xxhash"):
        found["bare"] = _bare()
    if installed("joblib"):
        import joblib

        found["joblib"] = joblib.Memory(folder, verbose=0).cache(total)
    return found


def _bare() -> Callable[..., None]:
    from xxhash import xxh3_128_digest

    def hashed(*tensors: Tensor) -> None:
        for tensor in tensors:
            xxh3_128_digest(tensor.numpy())

    return hashed


TENSORS = Figure("a hit on tensors", "beside what a key by content must do; columns of what is installed", lines)
