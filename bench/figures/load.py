"""One large tensor: read back and summed, and stored, beside bare safetensors."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from harness.calls import installed, remembered
from harness.figure import Figure, Line, Quantity, ms, noise
from harness.timing import race
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from memograd import Memo
from memograd.codec import encode
from memograd.store import About, Disk, Entry
from memograd.store._disk import _files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.setting import Setting
    from torch import Tensor

FLOATS = 50_000_000
_NAME = "tensor.safetensors"


def made(floats: int) -> Tensor:
    return torch.arange(floats, dtype=torch.float32) % 1000


def lines(setting: Setting) -> Iterator[Line]:
    """Race a hit on a disk against whatever else can read a tensor from one. All is in the page cache."""
    floats = FLOATS // 1000 if setting.quick else FLOATS
    with tempfile.TemporaryDirectory() as folder, Disk(Path(folder, "disk")) as disk:
        runs, expected = _readers(Path(folder), disk, floats), float(made(floats).sum())
        for name, run in runs.items():
            assert run() == expected, name
        times = race(runs, setting.rounds(11, 25), setting.device)
    raw = times.faster("load_file", "safe_open")
    for name in runs:
        line: Line = {"read by": name, "time": ms(times.median(name)), "safetensors ÷ it": "", "±": "", "it ÷ memo": ""}
        if name not in {"load_file", "safe_open"}:
            asked = {"memo": 0.9, "memo, verifying": 0.35}.get(name)
            line["safetensors ÷ it"] = Quantity(times.ratio([raw], [name]), "x", at_least=asked)
            line["±"] = noise(times.noise([raw], [name]))
        if not name.startswith("memo"):
            line["it ÷ memo"] = Quantity(times.ratio([name], ["memo"]), "x", at_least=3.0 if name == "joblib" else None)
        yield line


def _readers(folder: Path, disk: Disk, floats: int) -> dict[str, Callable[[], float]]:
    tensor, raw, zipped = made(floats), folder / _NAME, folder / "tensor.pt"
    save_file({"x": tensor}, raw)
    torch.save(tensor, zipped)
    Memo(disk)(made, always=True)(floats)
    ours = remembered(Memo(disk)(made, always=True), floats)  # as another process: it was not computed for its memory

    def verifying() -> float:
        _files._verified.clear()  # as another process
        return float(ours(floats).sum())

    def opened() -> float:
        with safe_open(raw, "pt") as file:
            return float(file.get_tensor("x").sum())

    runs: dict[str, Callable[[], float]] = {
        "memo": lambda: float(ours(floats).sum()),
        "memo, verifying": verifying,
        "load_file": lambda: float(load_file(raw)["x"].sum()),
        "safe_open": opened,
        "torch.load(mmap)": lambda: float(torch.load(zipped, mmap=True).sum()),
    }
    if installed("joblib"):
        import joblib

        theirs = joblib.Memory(folder / "joblib", verbose=0).cache(made)
        runs["joblib"] = lambda: float(theirs(floats).sum())
    return runs


def stored(setting: Setting) -> Iterator[Line]:
    """Race a put against bare safetensors. Each round stores another tensor: equal ones are stored once."""
    tensor = made(FLOATS // 1000 if setting.quick else FLOATS)
    with tempfile.TemporaryDirectory() as folder, Disk(Path(folder, "disk")) as disk:
        runs = {
            "put": lambda: _put(disk, tensor),
            "hashing": lambda: disk._files.digest(encode(("value", tensor))),
            "safetensors": lambda: _save(Path(folder), tensor),
        }
        times = race(runs, setting.rounds(7, 15), setting.device)
    put, hashing, raw = (np.array(times.seconds[name]) for name in runs)
    ratios = raw / np.maximum(put - hashing, 1e-9)
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    yield {
        "result": f"{tensor.nbytes / 1e6:.3g} MB of float32",
        "put": ms(times.median("put")),
        "of it hashing": ms(times.median("hashing")),
        "safetensors, fsynced": ms(times.median("safetensors")),
        "safetensors ÷ put without hashing": Quantity(float(middle), "x", at_least=0.85),
        "±": noise(float((high - low) / middle / 2)),
    }


def _put(disk: Disk, tensor: Tensor) -> None:
    tensor[0] += 1
    assert disk.put(b"key", Entry(About(seconds=1.0), encode(("value", tensor))))


def _save(folder: Path, tensor: Tensor) -> None:
    """Save with what a put promises: complete and on the disk before it has its name, in the place of the last one."""
    tensor[0] += 1
    new = folder / "new"
    save_file({"x": tensor}, new)
    _fsync(new)
    new.replace(folder / _NAME)
    _fsync(folder)


def _fsync(path: Path) -> None:
    descriptor: Any = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


LOAD = Figure("a large result from a disk", "200 MB of float32 and one sum over them, in the page cache", lines)
SAVE = Figure("a large result to a disk", "on the disk, under its name, in the place of the last one", stored)
