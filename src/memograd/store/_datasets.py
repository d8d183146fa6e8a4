"""Arrays by index below a store's directory: a folder for each state of a model, within as many bytes as the store.

A model that is trained on leaves a folder of its former state behind, which nobody asks for again: when there is no
room for a new one, those that were opened the longest ago go.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memograd.store._base import Store

HEAD = "frame.safetensors"  # says what rows look like; a folder that has it is one of these


class Folder(NamedTuple):
    """The rows of one dataset for one state of a model.

    Attributes:
        dataset: its name.
        path: the folder.
        nbytes: that it takes on the disk.
        used: when it was opened last, in seconds since the epoch.
    """

    dataset: str
    path: Path
    nbytes: int
    used: float


def root_of(store: Store | None) -> tuple[Path, int] | None:
    """Give the directory below which a store has arrays, and how many bytes they may take; None without a directory."""
    for each in (store, *getattr(store, "stores", ())):
        path = getattr(each, "path", None)
        if isinstance(path, Path):
            return path / "arrays", int(getattr(each, "max_bytes", 0))
    return None


def folders(root: Path) -> list[Folder]:
    """List what there is, what was opened last first."""
    pairs = [(path.parent.relative_to(root).as_posix(), path) for path in _paths(root)]
    found = [Folder(dataset, path, *_seen(path)) for dataset, path in pairs]
    return sorted(found, key=lambda folder: -folder.used)


def use(folder: Path) -> None:
    """Note that a folder is opened."""
    os.utime(folder / HEAD)


def make_room(root: Path, nbytes: int, max_bytes: int, keep: Path) -> list[Folder]:
    """Take out what was opened the longest ago, until there is room for so many bytes.

    Args:
        root: the directory of all.
        nbytes: that are wanted.
        max_bytes: that all may take.
        keep: the folder that wants them.

    Returns:
        What was taken out.
    """
    there = [folder for folder in folders(root) if folder.path != keep]
    gone: list[Folder] = []
    while there and nbytes + sum(folder.nbytes for folder in there) > max_bytes:
        gone.append(there.pop())
        remove(gone[-1].path)
    return gone


def remove(folder: Path) -> None:
    """Take a folder out; whoever has it open reads on in what he has."""
    shutil.rmtree(folder, ignore_errors=True)


def _paths(root: Path) -> Iterator[Path]:
    return (Path(folder) for folder, _, names in os.walk(root) if HEAD in names)


def _seen(folder: Path) -> tuple[int, float]:
    try:
        used = (folder / HEAD).stat().st_mtime
        files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    except OSError:  # it goes just now
        return 0, 0.0
    # Rows that were not written yet take no room.
    return sum(min(one.st_size, 512 * getattr(one, "st_blocks", one.st_size)) for one in files), used
