"""Single bits that flip anywhere in a directory: no wrong value, no exception, and what is damaged can be removed.

`MEMOGRAD_FLIPS` says how many (2,000).
"""

from __future__ import annotations

import os
import random
import shutil
import warnings
from hashlib import blake2b

import pytest

from memograd._errors import MemogradWarning
from memograd.store import About, Disk, Entry
from memograd.store._disk import _files
from memograd.store._disk._check import check

FLIPS = int(os.environ.get("MEMOGRAD_FLIPS", "2000"))
KEYS = [blake2b(b"%d" % n, digest_size=16).digest() for n in range(60)]


def value(key):
    return (blake2b(key).digest() * 200)[: (20, 900, 9000)[key[0] % 3]]


def fill(root):
    store = Disk(root, inline=4096)
    for n, key in enumerate(KEYS):
        about = About(function="f", text="f(ä)", parts={"x": str(n)}, seconds=n / 7, tags=("a",), parent=KEYS[n // 2])
        store.put(key, Entry(about, [value(key)]))
    store.flush()
    return store


def flip(path, draw):
    data = bytearray(path.read_bytes())
    at = draw.randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)


def ask_everything(root):
    """Do all that can be done with a directory; give how many entries were found."""
    found = 0
    with Disk(root, inline=4096) as store:
        for key in KEYS:
            entry = store.get(key)
            if entry is not None:
                found += 1
                assert bytes(entry.body[0]) == value(key)
        list(store.scan(sort="saved"))
        list(store.infos())
        store.put(KEYS[0], Entry(About(), [value(KEYS[0])]))
        store.delete(KEYS[1])
        entry = store.get(KEYS[0])
        assert entry is None or bytes(entry.body[0]) == value(KEYS[0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("what", ["index", "log", "files"])
def test_a_flipped_bit_is_no_wrong_value(tmp_path, what):
    whole, root = tmp_path / "whole", tmp_path / "store"
    store = fill(whole)
    if what == "log":
        shutil.copytree(whole, tmp_path / "open")
        whole = tmp_path / "open"
        assert (whole / "index.sqlite-wal").stat().st_size > 10_000
    store.close()
    draw = random.Random(what)
    targets = {"index": "index.sqlite", "log": "index.sqlite-wal", "files": "files/*/*.safetensors"}[what]
    found = 0
    for turn in range(FLIPS // 3):
        shutil.copytree(whole, root)
        flip(draw.choice(sorted(root.glob(targets))), draw)
        _files._verified.clear()  # as another process
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if turn % 10 == 0:
                check(root, fix=True)
                assert check(root).sound, str(check(root))
            found += ask_everything(root)
        shutil.rmtree(root)
    # Most of what is there does not lie where the bit was.
    assert found > (FLIPS // 3) * len(KEYS) * {"index": 0.3, "log": 0.3, "files": 0.95}[what]


@pytest.mark.parametrize("end", [0, 100, 4096, 5000, -4096, -1])
@pytest.mark.parametrize("name", ["index.sqlite", "index.sqlite-wal"])
def test_a_truncated_file_is_no_wrong_value(tmp_path, name, end):
    whole, root = tmp_path / "whole", tmp_path / "store"
    store = fill(whole)
    if name == "index.sqlite":
        store.close()
    shutil.copytree(whole, root)
    store.close()
    path = root / name
    os.truncate(path, end if end >= 0 else path.stat().st_size + end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ask_everything(root)


def test_a_header_that_forbids_writing_is_damage(tmp_path):
    fill(tmp_path).close()
    path = tmp_path / "index.sqlite"
    data = bytearray(path.read_bytes())
    data[18] ^= 128
    path.write_bytes(data)
    with pytest.warns(MemogradWarning, match="damaged"), Disk(tmp_path) as store:  # noqa: PT031
        store.put(KEYS[0], Entry(About(), [value(KEYS[0])]))
        store.flush()
        store.put(KEYS[0], Entry(About(), [value(KEYS[0])]))
        store.flush()
        assert store.get(KEYS[0]) is not None


def test_noise_in_place_of_every_file_is_no_wrong_value(tmp_path):
    fill(tmp_path).close()
    draw = random.Random(0)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(draw.randbytes(path.stat().st_size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ask_everything(tmp_path) == 0
    assert check(tmp_path, fix=True).found == {"aside": 1}
    assert check(tmp_path).sound
