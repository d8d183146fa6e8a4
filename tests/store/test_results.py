"""Results in memory: a mapping with a bound in bytes that forgets what was used least recently."""

from __future__ import annotations

import gc
import itertools
import threading

import pytest

from memograd import Memo
from memograd._events import Evict, Refuse, subscribe
from memograd._key import Function, key_of
from memograd.store._results import ENTRY, Results

F = Function("f", ["x"])


def key(value, function=F):
    return key_of(function, [value])


def test_it_is_a_mapping():
    memory = Results()
    memory[key(1)] = "one"
    memory[key(2)] = None
    memory[key(1)] = "uno"
    assert memory == {key(1): "uno", key(2): None}
    assert (len(memory), key(1) in memory, key(3) in memory, memory.get(key(3), 7)) == (2, True, False, 7)
    del memory[key(1)]
    assert memory.pop(key(2)) is None
    assert (list(memory), memory.nbytes) == ([], 0)
    with pytest.raises(KeyError):
        del memory[key(1)]
    memory[key(1)] = 1
    memory.clear()
    assert (len(memory), memory.nbytes, memory.count_of(F)) == (0, 0, 0)


def test_the_least_recently_used_goes_first():
    memory = Results(4 * (ENTRY + 100))
    for value in range(4):
        memory[key(value)] = value
    assert memory[key(0)] == 0
    for value in range(4, 6):
        memory[key(value)] = value
    assert key(0) in memory
    assert key(1) not in memory


def test_it_never_holds_more_than_its_bound():
    memory = Results(50_000)
    for value in range(200):
        memory[key(value)] = "x" * (value * 37 % 5000)
        assert memory.nbytes <= 50_000
    assert 5 < len(memory) < 200


def test_a_result_that_alone_is_larger_than_the_bound_is_refused_and_evicts_nothing():
    memory = Results(10_000)
    memory[key(1)] = 1
    seen = []
    end = subscribe(seen.append)
    memory[key(2)] = "x" * 20_000
    end()
    assert list(memory) == [key(1)]
    assert [type(event) for event in seen] == [Refuse]
    assert "the store holds 10,000" in seen[0].reason


def test_a_large_argument_counts():
    memory = Results(100_000)
    memory[key("x" * 60_000)] = 1
    memory[key("y" * 60_000)] = 2
    assert len(memory) == 1


def test_eviction_is_told():
    memory = Results(3 * (ENTRY + 100))
    seen = []
    end = subscribe(seen.append)
    for value in range(5):
        memory[key(value)] = value
    end()
    assert seen[0] == Evict(key(0), "max_bytes")


def test_the_bytes_of_what_is_there_are_the_sum_of_what_went_in():
    """However entries go: by deletion, by eviction, by replacement."""
    memory = Results(100_000)
    rng = itertools.cycle([5, 3, 11, 7, 2, 13])
    for step in range(500):
        value = next(rng) * step % 40
        if step % 7 == 0:
            memory.pop(key(value), None)
        else:
            memory[key(value)] = [step] * (step % 50)
    left = dict(memory)
    memory.clear()
    assert memory.nbytes == 0
    for each in left.items():
        memory[each[0]] = each[1]
    again = memory.nbytes
    assert again == sum(memory._sizes[F].values())


def test_functions_are_counted_apart():
    g = Function("g", ["x"])
    memory = Results()
    memory[key(1)] = memory[key(2)] = memory[key(1, g)] = 0
    assert (memory.count_of(F), memory.count_of(g)) == (2, 1)
    assert memory.keys_of(g) == [key(1, g)]


def test_results_of_a_function_that_is_gone_are_dropped_at_the_next_put():
    memo = Memo()
    square = memo(lambda x: [x] * 100)
    other = memo(lambda x: x)
    square(1), square(2)
    assert len(memo.store) == 2
    del square
    gc.collect()
    other(1)
    assert [key.function.name for key in memo.store] == ["<lambda>"]
    assert len(memo.store) == 1


def test_it_says_how_full_it_is():
    memory = Results(5_000_000)
    memory[key(1)] = 1
    assert repr(memory) == f"<Results: 1 entries, {memory.nbytes} of 5,000,000 bytes>"


def test_iterating_while_others_put_raises_nothing():
    memory = Results(40 * (ENTRY + 100))
    stop = threading.Event()

    def put():
        for value in itertools.count():
            memory[key(value)] = value
            if stop.is_set():
                return

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        list(memory)
        memory.get(key(5))
    stop.set()
    for thread in threads:
        thread.join()
    assert memory.nbytes == sum(memory._sizes[F].values()) <= 40 * (ENTRY + 100)


def test_of_those_used_long_ago_the_cheapest_a_byte_goes_first():
    results = Results(4 * (ENTRY + 100))
    for n, seconds in enumerate([9.0, 1.0, 8.0, 7.0, 0.1]):
        results.insert(key(n), 0, seconds)
    assert list(results) == [key(0), key(2), key(3), key(4)]


def test_what_was_dear_and_is_asked_for_no_more_goes_in_the_end():
    results = Results(4 * (ENTRY + 100))
    results.insert(key(-1), 0, 1000.0)
    for n in range(100):
        results.insert(key(n), 0, 1.0)
        if key(-1) not in results:
            break
    assert 4 < n < 20
