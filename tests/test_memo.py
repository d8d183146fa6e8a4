"""The door: what a Memo takes, and what it refuses with advice."""

from __future__ import annotations

import collections
import re
import subprocess
import sys
from importlib import import_module

import pytest

import memograd
from memograd import Memo, memo
from memograd.store._results import Results


def test_the_default_memo_is_a_memo_in_memory():
    assert isinstance(memo, Memo)
    assert isinstance(memo.store, Results)
    assert memograd.memo is memo


def test_the_default_memo_writes_nothing_to_disk(tmp_path):
    program = (
        "import os, sys\nfrom memograd import memo\nopened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(args) if event == 'open' else None)\n"
        "f = memo(lambda x: [x] * 1000)\nfor i in range(100): f(i), f([i])\n"
        "print([a for a in opened if a[1] and set(str(a[1])) & set('wax+')], os.listdir('.'))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_functions_of_one_memo_share_its_bound():
    small = Memo(max_bytes=30_000)
    first, second = small(lambda n: "x" * 1000 + str(n)), small(lambda n: "y" * 1000 + str(n))
    for n in range(50):
        first(n), second(n)
    assert small.store.nbytes <= 30_000
    assert 0 < first.cache_info().currsize + second.cache_info().currsize == len(small.store) < 30


def test_two_memos_know_nothing_of_each_other():
    calls = []
    for each in (Memo(), Memo()):
        each(calls.append)(1)
    assert calls == [1, 1]


@pytest.mark.parametrize(
    "store", [{}, collections.OrderedDict(), collections.UserDict(), collections.defaultdict(list)]
)
def test_any_mutable_mapping_is_a_store(store):
    f = Memo(store)(lambda x: x + 1)
    assert (f(1), f(1), f.cache_info()) == (2, 2, (1, 1, None, 1))
    assert repr(list(store)) == "[<lambda>(x=1)]"


def test_a_store_may_be_given_by_name():
    store = {}
    Memo(store=store)(lambda x: x)(1)
    assert len(store) == 1


STORES = "expected a MutableMapping, a Store, a directory or an address; write "


@pytest.mark.parametrize(
    ("make", "error", "advice"),
    [
        (lambda: Memo(3), TypeError, f"Memo() got 3 for a store, {STORES}Memo(store={{}})"),
        (lambda: memo(store=[]), TypeError, f"memo() got [] for a store, {STORES}memo(store={{}})"),
        (lambda: Memo({}, max_bytes=3), TypeError, "got both a store and max_bytes; a store of your own bounds itself"),
        (lambda: Memo(max_entries="3"), TypeError, "got max_entries='3', expected an int or None; write max_entries="),
        (lambda: Memo(max_entries=True), TypeError, "got max_entries=True"),
        (lambda: Memo(max_bytes=1.5), TypeError, "got max_bytes=1.5"),
        (lambda: memo(max_entries=-1), ValueError, "memo() got max_entries=-1, expected 0 or more"),
        (lambda: Memo(max_bytes=-1), ValueError, "got max_bytes=-1, expected 0 or more"),
    ],
)
def test_what_a_memo_does_not_take_is_refused_with_what_to_write(make, error, advice):
    with pytest.raises(error, match=re.escape(advice)):
        make()


def test_scan_is_reached_through_a_memo():
    torch = import_module("torch")
    rnn = torch.nn.GRU(2, 3)
    x = torch.zeros(4, 5, 2)
    ours, plain = memo.scan(rnn)(x), rnn(x)
    assert torch.allclose(ours[0], plain[0])
    with pytest.raises(TypeError):
        Memo().scan(torch.nn.Linear(1, 1))
