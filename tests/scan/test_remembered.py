"""Prefixes of earlier calls are resumed: the bits of a cold store, and nothing stale."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from memograd import Memo
from memograd._scan._remember._book import Book, Near
from memograd._scan._remember._chain import GRID, Chain
from memograd._scan._remember._points import GAP, cuts
from memograd.store import Disk, Memory

KINDS = [nn.RNN, nn.LSTM, nn.GRU]
INPUTS, HIDDEN = 8, 16


@pytest.fixture(autouse=True)
def without_grad():
    with torch.no_grad():
        yield


def steps(count, rows=1, seed=0, inputs=INPUTS):
    return torch.randn(count, rows, inputs, generator=torch.Generator().manual_seed(seed))


def flat(result):
    y, last = result
    return [y, *(last if isinstance(last, tuple) else (last,))]


def same(a, b):
    return all(map(torch.equal, flat(a), flat(b)))


def scan_of(module, memo=None, **how):
    return (memo or Memo()).scan(module, remember=True, **how)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"batch_first": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_grows_computes_what_is_new_and_gives_the_bits_of_a_cold_store(kind, options, rows):
    module = kind(INPUTS, HIDDEN, **options)
    x = steps(700, rows)
    warm = scan_of(module)
    before = 0
    for length in (100, 300, 333, 700):
        part = x[:length].transpose(0, 1).contiguous() if module.batch_first else x[:length]
        found = warm(part)
        assert same(found, scan_of(module)(part))
        torch.testing.assert_close(found[0], module(part)[0])
        resumed = warm.receipt.resumed
        # On some machines a product over few rows rounds as their number has it: then nothing is resumed, as is said.
        before = before if resumed.least is not None else 0
        assert resumed.lengths == (before,) * rows
        assert resumed.computed == warm.receipt.nodes == rows * (length - before)
        assert resumed.least is not None or "cut at" in resumed.reason
        assert found[0].stride() == module(part)[0].stride()
        before = length


@settings(deadline=None, max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    turns=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 300), st.integers(0, 2)), min_size=1, max_size=6),
    rows=st.integers(1, 3),
    sizes=st.sampled_from([(8, 16), (5, 7), (16, 33)]),
)
def test_cold_is_warm_whatever_was_asked_before(kind, turns, rows, sizes):
    torch.manual_seed(0)
    with torch.no_grad():
        module, warm, x = kind(*sizes), None, steps(200, rows, inputs=sizes[0])
        warm = scan_of(module)
        for keep, more, seed in turns:
            x = torch.cat((x[:keep], steps(more, rows, seed, sizes[0])))
            assert same(warm(x), scan_of(module)(x))


def test_rows_are_resumed_each_as_far_as_it_is_known_where_rounding_is_allowed():
    module = nn.GRU(INPUTS, HIDDEN)
    scan, a, b = scan_of(module, exact="rounding"), steps(200, seed=1), steps(200, seed=2)
    scan(a[:150])
    scan(b[:77])
    both = torch.cat((b, a), 1)
    y, last = scan(both)
    assert scan.receipt.resumed.lengths == (77, 150)
    assert scan.receipt.exact == "rounding"
    torch.testing.assert_close(y, module(both)[0])
    torch.testing.assert_close(last, module(both)[1])


def test_a_step_at_a_time_goes_on_where_rounding_is_allowed():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(90)
    scan = scan_of(module, exact="rounding")
    for length in range(1, 91):
        y, _ = scan(x[:length])
        assert scan.receipt.resumed.computed == 1
    torch.testing.assert_close(y, module(x)[0])


def test_a_branch_is_remembered_when_it_is_seen():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(400)
    scan = scan_of(module)
    scan(x)
    for seed in (1, 2):
        other = torch.cat((x[:300], steps(100, seed=seed)))
        assert same(scan(other), scan_of(module)(other))
    assert scan.receipt.resumed.lengths == (256,)  # of 300, what lies on the grid


@settings(deadline=None)
@given(
    begin=st.integers(0, 3000),
    length=st.integers(1, 3000),
    branch=st.integers(0, 60),
    least=st.sampled_from([1, 2, 16, 64]),
)
def test_cuts_are_a_ladder_with_a_branch_and_an_end(begin, length, branch, least):
    end, branch = begin + length, branch * GRID
    found = cuts(begin, end, branch, least)
    assert found == sorted(set(found))
    assert found[-1] == end
    pieces = [b - a for a, b in zip([begin, *found], found, strict=False)]
    assert all(piece >= least for piece in pieces) or len(pieces) == 1
    assert max(pieces) <= GAP + 2 * least
    if begin + least <= branch <= end - least:
        assert branch in found


@settings(deadline=None)
@given(a=st.binary(max_size=400), b=st.binary(max_size=400), at=st.integers(0, 400))
def test_prefixes_have_one_name_if_and_only_if_they_are_equal(a, b, at):
    from xxhash import xxh3_128_digest

    one, other = (Chain(b"base", memoryview(data), len(data), xxh3_128_digest) for data in (a, b))
    if at <= min(len(a), len(b)):
        assert (one.at(at) == other.at(at)) == (a[:at] == b[:at])
    names = [one.at(n) for n in range(len(a) + 1)]
    assert len(set(names)) == len(names)
    common = other.shared_with(set(one.blocks))
    assert a[:common] == b[:common]
    assert common % GRID == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_resumes_earlier_beside_another_spoils_nothing(kind, dtype):
    module = kind(INPUTS, HIDDEN, dtype=dtype)
    a, z, y = (steps(1300, seed=seed).to(dtype) for seed in range(3))
    y[:700] = z[:700]
    scan, both = scan_of(module), torch.cat((a, z), 1)
    scan(both)
    scan(torch.cat((a, y), 1))
    assert same(scan(both), scan_of(module)(both))


def test_a_state_of_one_number_is_not_resumed():
    module, x = nn.RNN(INPUTS, 1), steps(700, 2)
    scan = scan_of(module)
    scan(x[:596])
    assert same(scan(x), scan_of(module)(x))
    assert "one number" in scan.receipt.resumed.reason


def test_new_only_gives_what_is_behind_the_prefix():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(500)
    scan = scan_of(module)
    scan(x[:400])
    y, last = scan(x, new_only=True)
    whole = scan_of(module)(x)
    assert torch.equal(y, whole[0][400:])
    assert same((y, last), (whole[0][400:], whole[1]))


def test_new_only_without_memory_says_what_to_write():
    with pytest.raises(ValueError, match=r"remember=True"):
        Memo().scan(nn.LSTM(INPUTS, HIDDEN))(steps(5), new_only=True)


def test_weights_that_change_are_never_stale():
    module, x = nn.GRU(INPUTS, HIDDEN), steps(300)
    scan = scan_of(module)
    scan(x[:200])
    for change in (lambda: module.weight_hh_l0.add_(0.1), lambda: module.bias_ih_l0.data.mul_(2)):
        change()
        assert same(scan(x), scan_of(module)(x))
        assert scan.receipt.resumed.lengths == (0,)


@pytest.mark.parametrize("what", ["first state", "dtype", "threads", "another model", "salt", "one input bit"])
def test_what_results_depend_on_is_in_the_name(what):
    memo, module, x = Memo(), nn.LSTM(INPUTS, HIDDEN), steps(200)
    hx = (torch.zeros(1, 1, HIDDEN), torch.zeros(1, 1, HIDDEN))
    scan_of(module, memo)(x, hx)
    other, how = copy.deepcopy(module), {}
    match what:
        case "first state":
            hx[1][0, 0, 3] = 1e-30
        case "dtype":
            other, x, hx = other.double(), x.double(), tuple(t.double() for t in hx)
        case "threads":
            torch.set_num_threads(1)
        case "another model":
            other.weight_hh_l0[0, 0] += 1e-6
        case "salt":
            how = {"salt": "tenant"}
        case _:
            x[0, 0, 0] += 1e-6
    threads = torch.get_num_threads()
    scan = scan_of(other, memo, **how)
    found = scan(x, hx)
    assert scan.receipt.resumed.lengths == (0,)
    assert same(found, scan_of(other)(x, hx))
    torch.set_num_threads(max(threads, 2) if what == "threads" else threads)


def test_an_equal_model_shares_what_is_remembered():
    memo, module, x = Memo(), nn.LSTM(INPUTS, HIDDEN), steps(200)
    scan_of(module, memo)(x)
    scan = scan_of(copy.deepcopy(module), memo)
    scan(x)
    assert scan.receipt.resumed.lengths == (200,)


BYPASSED = {
    "bidirectional": (lambda: nn.LSTM(INPUTS, HIDDEN, bidirectional=True), lambda: steps(100)),
    "dropout": (lambda: nn.LSTM(INPUTS, HIDDEN, 2, dropout=0.5), lambda: steps(100)),
    "packed": (lambda: nn.LSTM(INPUTS, HIDDEN), lambda: pack_sequence([steps(100)[:, 0], steps(70)[:, 0]])),
}


@pytest.mark.parametrize("kind", BYPASSED)
def test_what_has_no_prefixes_runs_plainly_and_says_so(kind):
    made, given_ = BYPASSED[kind]
    module, x = made(), given_()
    scan = scan_of(module)
    torch.manual_seed(0)
    found = scan(x)
    torch.manual_seed(0)
    expected = module(x)
    assert torch.equal(getattr(found[0], "data", found[0]), getattr(expected[0], "data", expected[0]))
    assert kind.split()[0] in scan.receipt.reason


def test_under_grad_nothing_is_remembered_and_gradients_are_plain():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(100)
    scan = scan_of(module)
    scan(x)
    with torch.enable_grad():
        y, _ = scan(x)
        y.sum().backward()
    assert scan.receipt.resumed is None
    assert module.weight_hh_l0.grad is not None


def test_results_may_be_changed_by_their_caller():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(200)
    scan = scan_of(module)
    for _ in range(3):
        y, (h, c) = scan(x)
        assert same((y, (h, c)), scan_of(module)(x))
        y.zero_()
        h.zero_()
        c.zero_()


def test_inference_mode_and_no_grad_share_and_results_are_ordinary():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(300)
    scan = scan_of(module)
    with torch.inference_mode():
        scan(x[:200])
    y, _ = scan(x)
    assert scan.receipt.resumed.lengths == (200,)
    assert not y.is_inference()
    with torch.inference_mode():
        assert torch.equal(scan(x)[0], y)


def test_an_unbatched_sequence_is_a_row():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(300)[:, 0]
    scan = scan_of(module)
    scan(x[:200])
    y, (h, c) = scan(x)
    assert scan.receipt.resumed.lengths == (200,)
    assert (y.shape, h.shape, c.shape) == ((300, HIDDEN), (1, HIDDEN), (1, HIDDEN))
    torch.testing.assert_close(y, module(x)[0])


def test_match_prefix_says_how_much_would_not_be_computed():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(300)
    scan = scan_of(module)
    assert scan.match_prefix(x).tolist() == [0]
    scan(x[:200])
    assert scan.match_prefix(x).tolist() == [200]
    assert scan.match_prefix(steps(300, seed=5)).tolist() == [0]


def test_what_is_pinned_stays_when_memory_is_full():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(200)
    scan = scan_of(module, Memo(max_bytes=200_000))
    scan.pin(x)
    for seed in range(1, 40):
        scan(steps(200, seed=seed))
        scan._memograd_receipt = None
    assert scan.match_prefix(x).tolist() == [200]


def test_a_state_is_saved_and_loaded_under_a_name_and_belongs_to_its_weights(tmp_path):
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(200)
    _, state = module(x)
    scan_of(module, Memo(tmp_path)).save("alice", state)
    scan = scan_of(module, Memo(tmp_path))
    h, c = scan.load("alice")
    assert torch.equal(h, state[0])
    assert torch.equal(c, state[1])
    h.zero_()
    assert torch.equal(scan.load("alice")[0], state[0])
    with pytest.raises(KeyError, match="no state 'bob'"):
        scan.load("bob")
    module.weight_hh_l0.add_(1)
    with pytest.raises(KeyError, match="no state 'alice'"):
        scan.load("alice")


@pytest.mark.parametrize("state", [torch.zeros(3), "text", [torch.zeros(1, 1, HIDDEN)] * 2, torch.zeros(1, 1, HIDDEN)])
def test_what_is_no_state_of_the_module_is_not_saved(state):
    with pytest.raises(ValueError, match=r"Write scan.save\(name, scan\(x\)\[1\]\)"):
        scan_of(nn.LSTM(INPUTS, HIDDEN)).save("a", state)


def test_new_only_of_what_has_no_prefixes_is_refused():
    with pytest.raises(ValueError, match="a packed sequence"):
        scan_of(nn.LSTM(INPUTS, HIDDEN))(pack_sequence([steps(5)[:, 0]]), new_only=True)


def test_a_forked_state_is_a_copy():
    scan = scan_of(nn.LSTM(INPUTS, HIDDEN))
    _, state = scan(steps(10))
    copied = scan.fork(state)
    copied[0].zero_()
    assert state[0].abs().sum() > 0


def test_another_process_resumes_from_a_store_on_disk(tmp_path):
    program = (
        "import torch; from torch import nn; from memograd import Memo; torch.manual_seed(0); m = nn.LSTM(8, 16)\n"
        f"s = Memo({str(tmp_path)!r}).scan(m, remember=True); x = torch.randn(700, 2, 8)\n"
        "with torch.no_grad():\n"
        "    for n in (300, 700): y, _ = s(x[:n]); print(s.receipt.resumed.lengths[0], y.sum().item())\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    cold, warm = (run.stdout.split() for run in runs)
    assert cold[::2] == ["0", "300"]
    assert warm[::2] == ["300", "700"]
    assert cold[1::2] == warm[1::2]


def test_processes_that_are_killed_leave_a_store_that_gives_the_bits_of_a_cold_one(tmp_path):
    program = (
        "import torch; from torch import nn; from memograd import Memo; torch.manual_seed(0); m = nn.LSTM(8, 16)\n"
        f"s = Memo({str(tmp_path)!r}).scan(m, remember=True); x = torch.randn(2000, 1, 8); print('ready', flush=True)\n"
        "with torch.no_grad():\n"
        "    for n in range(64, 2000, 7): s(x[:n])\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(2)]
    for process in running:
        process.stdout.readline()
    time.sleep(0.5)
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()
    torch.manual_seed(0)
    module, x = nn.LSTM(8, 16), torch.randn(2000, 1, 8)
    scan = scan_of(module, Memo(tmp_path))
    assert same(scan(x), scan_of(module)(x))


class Failing(Memory):
    """A store that is gone."""

    lasting = True

    def get(self, *_):
        raise OSError("gone")

    put = pin = get


def test_a_store_that_fails_costs_a_computation_and_one_warning():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(200)
    scan = scan_of(module, Memo(Failing()))
    with pytest.warns(UserWarning, match="states cannot be had"):
        found = scan(x)
    assert same(found, scan_of(module)(x))
    scan.pin(x)


@pytest.mark.parametrize(
    "value", [None, 3, [1, 2], ("a", 1, b"b"), ([torch.zeros(3)], -1, b"", b""), torch.zeros(7)], ids=str
)
def test_entries_that_say_something_else_are_not_there(value, tmp_path):
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(200)
    store = Disk(tmp_path)
    scan_of(module, Memo(store))(x)
    from memograd.codec import encode
    from memograd.store import About, Entry

    for info in list(store.infos()):
        store.put(info.key, Entry(About(), encode(value)))
    scan = scan_of(module, Memo(store))
    assert same(scan(x), scan_of(module)(x))
    assert same(scan(x), scan_of(module)(x))


def test_a_cell_that_rounds_otherwise_in_pieces_is_refused_with_the_difference(monkeypatch):
    module, x = nn.LSTM(INPUTS, HIDDEN + 1), steps(200)
    scan, plain = scan_of(module), nn.LSTM.forward

    def odd(self, x, hx=None):
        y, last = plain(self, x, hx)
        return y + 1e-3 * len(x), last

    monkeypatch.setattr(nn.LSTM, "forward", odd)
    monkeypatch.setattr(type(scan), "plain_kind", classmethod(lambda _: nn.LSTM))
    assert torch.equal(scan(x)[0], odd(module, x)[0])
    assert scan.receipt.resumed.least is None
    assert "pieces of 100 steps differ by" in scan.receipt.resumed.reason


def test_where_nothing_repeats_nothing_more_is_put_and_a_repeat_is_noticed():
    module = nn.LSTM(INPUTS, HIDDEN)
    scan = scan_of(module)
    for seed in range(12):
        scan(steps(200, seed=seed))
    assert "nothing was repeated" in scan.receipt.resumed.reason
    held = scan.prefixes.book.near.count()
    scan(steps(200, seed=99))
    assert scan.prefixes.book.near.count() == held
    scan(steps(200, seed=99))
    scan(steps(200, seed=99))
    assert scan.receipt.resumed.lengths == (200,)


def test_a_copy_and_a_pickle_begin_with_nothing_in_memory():
    scan, x = scan_of(nn.LSTM(INPUTS, HIDDEN)), steps(200)
    scan(x)
    for other in (copy.deepcopy(scan), pickle.loads(pickle.dumps(scan))):  # noqa: S301
        assert same(other(x), scan(x))
        assert other.prefixes is not scan.prefixes


def test_a_cell_of_ones_own_and_unknown_words_are_refused():
    with pytest.raises(TypeError, match="Leave remember out"):
        Memo().scan(lambda x, h: (x, h), remember=True)
    with pytest.raises(ValueError, match="exact='often'; expected 'bits' or 'rounding'"):
        Memo().scan(nn.LSTM(INPUTS, HIDDEN), exact="often")


def test_the_ends_in_a_book_are_those_of_all_who_wrote_them():
    store = Memory()
    books = [Book(Near(), store, ""), Book(Near(), store, "")]
    for k, book in enumerate(books):
        book.note_end(b"block", k + 1, "f")
    assert books[0].ends(b"block") == books[1].ends(b"block") == [1, 2]


def test_a_row_without_a_batch_is_matched_as_it_is_called():
    module, x = nn.LSTM(INPUTS, HIDDEN), steps(300)[:, 0]
    scan = scan_of(module)
    scan(x[:200])
    assert scan.match_prefix(x).tolist() == [200]
