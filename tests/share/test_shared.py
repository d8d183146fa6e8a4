"""``Shared`` against the plain layout: the same numbers wherever a program looks, once per distinct prefix."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from memograd import Shared

IDS = torch.tensor([[1, 2, 3], [1, 2, 4], [1, 5, 0], [6, 0, 0]])
LENGTHS = torch.tensor([3, 3, 2, 0])


@st.composite
def tables(draw, shortest=0):
    """(B, T) ids with few letters, and their lengths (or None for whole rows)."""
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 6))
    letters = draw(st.sampled_from([[3], [0, 1], [0, 1, 2, 3, 4, 5], [-(10**15), 7, 10**15]]))
    seed = draw(st.integers(0, 2**16))
    ids = torch.from_numpy(np.random.default_rng(seed).choice(np.array(letters), shape))
    lengths = st.lists(st.integers(shortest, shape[1]), min_size=shape[0], max_size=shape[0])
    return ids, draw(st.none() | lengths.map(torch.tensor))


def padded(ids, lengths, padding=0):
    """Give the plain layout: padding after a row's end, as long as the longest row."""
    if lengths is None:
        return ids
    ended = torch.arange(ids.shape[1]) >= lengths[:, None]
    return ids.masked_fill(ended, padding)[:, : int(lengths.max())]


@given(tables(), st.booleans())
def test_dense_is_the_padded_batch(table, batch_first):
    ids, lengths = table
    s = Shared.prefixes(ids if batch_first else ids.t(), lengths, batch_first)
    expected = padded(ids, lengths, 9)
    assert torch.equal(s.dense(9), expected if batch_first else expected.t())
    assert s.dense().dtype == ids.dtype


@given(tables(shortest=1), st.booleans())
def test_packed_is_the_packed_batch(table, batch_first):
    ids, lengths = table
    s = Shared.prefixes(ids if batch_first else ids.t(), lengths, batch_first)
    whole = torch.full((len(ids),), ids.shape[1])
    expected = pack_padded_sequence(ids, whole if lengths is None else lengths, batch_first=True, enforce_sorted=False)
    for ours, theirs in zip(s.packed(), expected, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@given(tables())
def test_there_is_a_node_for_each_distinct_prefix(table):
    ids, lengths = table
    s = Shared.prefixes(ids, lengths)
    lengths = [ids.shape[1]] * len(ids) if lengths is None else lengths.tolist()
    rows = [row[:length] for row, length in zip(ids.tolist(), lengths, strict=True)]
    distinct = {tuple(row[: t + 1]) for row in rows for t in range(len(row))}
    assert len(s) == len(s.values) == len(distinct)
    assert s.steps == sum(lengths) == int(s.multiplicity.sum())
    assert s.lengths.tolist() == lengths
    assert s.ratio == pytest.approx(s.steps / max(len(s), 1))


def test_what_stands_after_a_rows_end_is_not_read():
    noisy = IDS.clone()
    noisy[2, 2], noisy[3] = -7, 10**12
    assert len(Shared.prefixes(noisy, LENGTHS)) == len(Shared.prefixes(IDS, LENGTHS)) == 5


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_ids_may_be_any_integers(dtype):
    s = Shared.prefixes(IDS.to(dtype), LENGTHS.to(dtype))
    assert s.values.dtype == dtype
    assert len(s) == 5


def test_ids_in_any_layout_in_memory():
    assert torch.equal(Shared.prefixes(IDS.t().contiguous().t()).dense(), IDS)
    assert torch.equal(Shared.prefixes(IDS.repeat_interleave(2, 1)[:, ::2]).dense(), IDS)


def test_map_runs_once_per_distinct_row():
    calls = []
    s = Shared.prefixes(IDS, LENGTHS).map(lambda v: calls.append(len(v)) or v * 10)
    assert calls == [len(IDS[LENGTHS[:, None] > torch.arange(3)].unique())]
    assert torch.equal(s.dense(), padded(IDS * 10, LENGTHS))


def test_map_may_add_and_remove_dimensions():
    s = Shared.prefixes(IDS).map(lambda v: v[:, None, None].float().expand(-1, 2, 3))
    assert s.dense().shape == (4, 3, 2, 3)
    assert torch.equal(s.map(lambda v: v[:, 0, 0]).dense(), IDS.float())


@given(tables())
def test_the_gradient_of_what_is_mapped_is_that_of_the_plain_program(table):
    """An embedding's weight gets one gradient a token, summed over all positions."""
    ids, lengths = table
    ids = ids % 7
    torch.manual_seed(0)
    plain = nn.Embedding(7, 3, dtype=torch.float64)
    mine = copy.deepcopy(plain)
    dense = Shared.prefixes(ids, lengths).map(mine).dense()
    incoming = torch.randn_like(dense)
    mask = torch.ones_like(dense) if lengths is None else (padded(ids * 0 + 1, lengths)[..., None]).double()
    dense.backward(incoming)
    (plain(ids[:, : dense.shape[1]]) * mask).backward(incoming)
    torch.testing.assert_close(mine.weight.grad, plain.weight.grad)


def test_total_length_pads_further():
    s = Shared.prefixes(IDS, LENGTHS)
    assert s.dense(5, total_length=4).tolist() == [[1, 2, 3, 5], [1, 2, 4, 5], [1, 5, 5, 5], [5, 5, 5, 5]]


def test_a_total_length_shorter_than_a_row_is_refused():
    with pytest.raises(ValueError, match=r"got total_length=2; expected at least 3"):
        Shared.prefixes(IDS, LENGTHS).dense(total_length=2)


def test_repr_says_how_much_is_shared():
    assert repr(Shared.prefixes(IDS, LENGTHS)) == "Shared(5 nodes for 8 steps of 4 rows, values ())"


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda s: s.to("cpu"), lambda s: pickle.loads(pickle.dumps(s))],  # noqa: S301 - our own
)
def test_a_copy_holds_the_same(copied):
    """A trie is built where the data is loaded, which may be another process."""
    s = Shared.prefixes(IDS.t(), LENGTHS, batch_first=False)
    other = copied(s)
    assert torch.equal(other.dense(), s.dense())
    assert other.batch_first == s.batch_first
    assert other.multiplicity.tolist() == s.multiplicity.tolist()


def test_no_rows_and_no_steps_are_a_batch_too():
    assert Shared.prefixes(torch.zeros(0, 4, dtype=torch.long)).dense().shape[0] == 0
    assert Shared.prefixes(torch.zeros(4, 0, dtype=torch.long)).dense().shape == (4, 0)
    empty = Shared.prefixes(IDS, torch.zeros(4, dtype=torch.long))
    assert (len(empty), empty.steps, empty.dense().shape) == (0, 0, (4, 0))


# cross-entropy


@st.composite
def losses(draw):
    ids, lengths = draw(tables())
    seed = draw(st.integers(0, 2**16))
    targets = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, ids.shape))
    ignored = draw(st.sampled_from([-100, 2, 0]))
    return ids % 7, lengths, targets, ignored, draw(st.sampled_from(["mean", "sum"])), draw(st.booleans())


@given(losses())
def test_cross_entropy_is_that_of_the_dense_logits(loss):
    ids, lengths, targets, ignored, reduction, batch_first = loss
    torch.manual_seed(0)
    plain = nn.Embedding(7, 4, dtype=torch.float64)
    mine = copy.deepcopy(plain)
    s = Shared.prefixes(ids if batch_first else ids.t(), lengths, batch_first).map(mine)
    ours = s.cross_entropy(targets if batch_first else targets.t(), ignored, reduction)
    horizon = s.trie.rows.horizon
    wanted = (
        targets if lengths is None else targets.masked_fill(torch.arange(ids.shape[1]) >= lengths[:, None], ignored)
    )
    theirs = functional.cross_entropy(
        plain(ids[:, :horizon]).flatten(0, 1), wanted[:, :horizon].flatten(), ignore_index=ignored, reduction=reduction
    )
    torch.testing.assert_close(ours, theirs, equal_nan=True)
    if theirs.isfinite():
        ours.backward()
        theirs.backward()
        torch.testing.assert_close(mine.weight.grad, plain.weight.grad)


def test_a_masked_class_does_not_spoil_the_loss_of_an_ignored_position():
    """Logits of -inf mean a class that cannot be; an ignored position is not asked for it."""
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masked = logits.masked_fill(torch.tensor([True, False, False, False]), -torch.inf)
    targets = torch.tensor([[1, 2, -100], [2, 1, 3], [-100, 3, 1], [1, 1, 1]])
    s = Shared.prefixes(IDS).map(lambda ids: masked[ids])
    ours, theirs = s.cross_entropy(targets), functional.cross_entropy(masked[IDS].flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours, theirs)
    (mine,) = torch.autograd.grad(ours, logits, retain_graph=True)
    (plain,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_loss_has_the_type_of_the_logits(dtype):
    s = Shared.prefixes(IDS).map(nn.Embedding(7, 4, dtype=dtype))
    assert s.cross_entropy(IDS % 4).dtype == functional.cross_entropy(torch.zeros(1, 4, dtype=dtype), IDS[0, :1]).dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_mean_of_many_halves_does_not_overflow_on_its_way(dtype):
    ids = torch.arange(7).repeat(30_000, 1)
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours = Shared.prefixes(ids).map(lambda v: logits[v]).cross_entropy(ids % 4)
    theirs = functional.cross_entropy(logits, torch.arange(7) % 4)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_under_autocast_the_loss_is_taken_in_float32_at_least_as_the_plain_one(dtype):
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = Shared.prefixes(IDS).map(lambda v: logits[v]).cross_entropy(IDS % 4)
        theirs = functional.cross_entropy(logits[IDS].flatten(0, 1), (IDS % 4).flatten())
    assert ours.dtype == theirs.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(ours, theirs)


def test_targets_may_be_longer_than_the_longest_row():
    s = Shared.prefixes(IDS, LENGTHS.clamp(max=2)).map(nn.Embedding(7, 4))
    assert torch.equal(s.cross_entropy(IDS % 4), s.cross_entropy(IDS[:, :2] % 4))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("rows", "steps"), [(5, 3), (3, 3), (4, 2)])
def test_targets_of_another_batch_are_refused(batch_first, rows, steps):
    s = Shared.prefixes(IDS if batch_first else IDS.t(), batch_first=batch_first).map(nn.Embedding(7, 4))
    targets = torch.zeros(rows, steps, dtype=torch.long)
    with pytest.raises(ValueError, match=r"cross_entropy: got targets of shape .* expected"):
        s.cross_entropy(targets if batch_first else targets.t())


@pytest.mark.parametrize("wanted", [4, -1, 10**6])
def test_a_target_that_is_no_class_is_refused(wanted):
    s = Shared.prefixes(IDS).map(nn.Embedding(7, 4))
    with pytest.raises(IndexError, match=r"outside of the 4 classes .* expected 0 to 3, or ignore_index"):
        s.cross_entropy(torch.full_like(IDS, wanted))


def one_more(v):
    return v.unsqueeze(-1)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, r"targets of torch.float32; expected class indices", lambda s: s.cross_entropy(torch.zeros(4, 3))),
        (ValueError, r"reduction='none'; expected 'mean' or 'sum'", lambda s: s.cross_entropy(IDS, reduction="none")),
        (ValueError, r"values of shape \(\d+, 4, 1\); expected logits", lambda s: s.map(one_more).cross_entropy(IDS)),
        (ValueError, r"got a tensor of shape \(1, 4\) from the function", lambda s: s.map(lambda v: v[:1])),
        (ValueError, r"got a tensor of shape \(\) from the function", lambda s: s.map(torch.sum)),
        (ValueError, r"got a tuple from the function", lambda s: s.map(lambda v: (v, v))),
        (ValueError, r"got a NoneType from the function", lambda s: s.map(lambda _: None)),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_what_was_got(error, message, call):
    with pytest.raises(error, match=message):
        call(Shared.prefixes(IDS).map(nn.Embedding(7, 4)))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, r"ids of torch.float32; expected an integer tensor", (IDS.float(),)),
        (TypeError, r"ids of torch.bool; expected an integer tensor", (IDS.bool(),)),
        (TypeError, r"ids of list; expected an integer tensor", (IDS.tolist(),)),
        (ValueError, r"ids of shape \(3,\); expected \(B, T\)", (IDS[0],)),
        (ValueError, r"ids of shape \(4, 3, 1\); expected \(B, T\)", (IDS[..., None],)),
        (TypeError, r"lengths of torch.float32; expected integers", (IDS, LENGTHS.float())),
        (ValueError, r"lengths of shape \(3,\); expected \(4,\)", (IDS, LENGTHS[:3])),
        (ValueError, r"lengths of shape \(4, 1\); expected \(4,\)", (IDS, LENGTHS[:, None])),
        (ValueError, r"length 4 for row 1 .* expected 0 to 3", (IDS, torch.tensor([3, 4, 2, 0]))),
        (ValueError, r"length -1 for row 2 .* expected 0 to 3", (IDS, torch.tensor([3, 3, -1, 0]))),
    ],
)
def test_bad_ids_and_lengths_are_refused_with_what_was_got(error, message, arguments):
    with pytest.raises(error, match=f"Shared.prefixes: got {message}"):
        Shared.prefixes(*arguments)


def test_a_default_device_elsewhere_changes_nothing():
    expected = padded(IDS, LENGTHS)
    with torch.device("meta"):
        assert torch.equal(Shared.prefixes(IDS, LENGTHS).dense(), expected)
        assert torch.equal(Shared.prefixes(IDS, [3, 3, 2, 0]).dense(), expected)


def test_lengths_may_be_a_list():
    assert torch.equal(Shared.prefixes(IDS, [3, 3, 2, 0]).dense(), padded(IDS, LENGTHS))


def test_a_row_of_no_steps_cannot_be_packed():
    with pytest.raises(ValueError, match=r"got a row of length 0; a PackedSequence holds none. Use .dense\(\)"):
        Shared.prefixes(IDS, LENGTHS).packed()
