"""Nothing hidden: after a call of a memoized recurrent module the program is where the plain call would leave it."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from tests.promises.small import TABLE, few
from tests.scan.judge import shape_of
from tests.scan.pairs import CELLS, module
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from memograd import Shared, memo


def streams():
    numpy = np.random.get_state()
    return (
        torch.get_rng_state().tolist(),
        [s.tolist() if isinstance(s, np.ndarray) else s for s in numpy],
        random.getstate(),
    )


@pytest.mark.parametrize("engine", ["levels", "auto"])
@pytest.mark.parametrize("cell", CELLS)
def test_random_streams_are_left_alone(cell, engine):
    mine = memo.scan(module(cell, num_layers=2, dropout=0.5).eval(), engine=engine)
    before = streams()
    mine(few())[0].sum().backward()
    s = Shared.prefixes(TABLE).map(nn.Embedding(2, 3, _weight=torch.ones(2, 3)))
    mine(s)[0].map(lambda v: v).cross_entropy(TABLE)
    assert streams() == before


def test_with_dropout_the_stream_goes_on_where_the_plain_call_leaves_it():
    for packed in (False, True):
        left = []
        for wrap in (lambda m: m, lambda m: memo.scan(m, engine="levels")):
            each = wrap(module(num_layers=3, dropout=0.5))
            x = pack_padded_sequence(few(), torch.tensor([4, 3, 3, 1]), batch_first=True) if packed else few()
            torch.manual_seed(7)
            each(x)
            left.append(torch.get_rng_state())
        assert torch.equal(*left)


def modes():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_cache_enabled(),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_modes_are_as_they_were(cell):
    before = modes()
    memo.scan(module(cell), engine="levels")(few().requires_grad_())[0].sum().backward()
    assert modes() == before


def test_modes_are_as_they_were_after_an_error():
    before = modes()
    with pytest.raises(RuntimeError):
        memo.scan(module(), engine="levels")(torch.zeros(4, 4, 2))
    assert modes() == before


FORMS = {
    "batch first": lambda c: (module(c), few()),
    "time first": lambda c: (c(3, 4), few()),
    "one row": lambda c: (module(c), few()[:1]),
    "one step": lambda c: (module(c), few()[:, :1]),
    "one row of one step": lambda c: (module(c), few()[:1, :1]),
    "one unit": lambda c: (c(3, 1, batch_first=True), few()),
    "unbatched": lambda c: (module(c), few()[0]),
    "layers and directions": lambda c: (module(c, num_layers=2, bidirectional=True), few()),
    "packed": lambda c: (module(c), pack_padded_sequence(few(), torch.tensor([4, 3, 3, 1]), batch_first=True)),
    "packed as it comes": lambda c: (
        module(c, bidirectional=True),
        pack_padded_sequence(few(), torch.tensor([1, 3, 4, 3]), batch_first=True, enforce_sorted=False),
    ),
    "strided": lambda c: (module(c), few().transpose(0, 1).contiguous().transpose(0, 1)),
    "expanded": lambda c: (module(c), few()[:1].expand(5, -1, -1)),
    "half": lambda c: (module(c).bfloat16(), few().bfloat16()),
    "double": lambda c: (module(c).double(), few().double()),
    "frozen": lambda c: (module(c).requires_grad_(requires_grad=False), few()),
    "frozen, with grad": lambda c: (module(c).requires_grad_(requires_grad=False), few().requires_grad_()),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_have_the_plain_types_shapes_strides_and_requires_grad(cell, form, grad):
    plain, x = FORMS[form](cell)
    with torch.set_grad_enabled(grad):
        assert shape_of(memo.scan(plain, engine="levels")(x)) == shape_of(plain(x))


@pytest.mark.parametrize("cell", CELLS)
def test_the_arguments_are_not_changed(cell):
    x, h = few(), torch.randn(1, 4, 4)
    copies = x.clone(), h.clone()
    memo.scan(module(cell), engine="levels")(x, (h, h) if cell is nn.LSTM else h)[0].sum().backward()
    assert torch.equal(x, copies[0])
    assert torch.equal(h, copies[1])
    assert (x._version, h._version) == (0, 0)


@pytest.mark.parametrize("cell", CELLS)
def test_outputs_share_no_memory_with_one_another_or_with_the_arguments(cell):
    h = torch.randn(1, 4, 4)
    given = (h, h.clone()) if cell is nn.LSTM else h
    with torch.no_grad():
        y, last = memo.scan(module(cell), engine="levels")(few(), given)
    found = [y, *(last if cell is nn.LSTM else (last,)), *(given if cell is nn.LSTM else (given,))]
    assert len({t.untyped_storage().data_ptr() for t in found}) == len(found)


def resizable(tensors):
    return [t.untyped_storage().resizable() for t in tensors]


@pytest.mark.parametrize("engine", ["levels", "auto"])
@pytest.mark.parametrize("how", ["padded", "packed", "keys"])
def test_what_was_passed_may_still_be_resized(engine, how):
    # Floats drawn anew, since what NumPy lends is not to be resized from the first.
    x, h = torch.randn(4, 5, 3).round(), torch.zeros(1, 4, 4)
    lengths, ids = torch.tensor([5, 2, 4, 5]), torch.ones(4, 5, dtype=torch.int64)
    given = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False) if how == "packed" else x
    seen = [x, h, lengths, ids, *(given[:1] + given[2:] if how == "packed" else ())]
    before = resizable(seen)
    memo.scan(module(nn.GRU), engine=engine)(given, h, **({"keys": ids} if how == "keys" else {}))
    assert resizable(seen) == before
    assert all(resizable([x, h, lengths, ids]))
    x.resize_(1000)
    assert x.shape == (1000,)


def test_ids_and_lengths_may_still_be_resized_and_changed():
    ids, lengths = torch.tensor([[1, 2], [1, 3]]), torch.tensor([2, 2])
    s = Shared.prefixes(ids, lengths=lengths)
    assert all(resizable([ids, lengths]))
    ids.zero_()
    assert s.dense().tolist() == [[1, 2], [1, 3]]


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_is_said_that_the_plain_call_does_not_say(cell):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        memo.scan(module(cell), engine="levels")(few().requires_grad_())[0].sum().backward()
    assert [str(one.message) for one in said] == []


def test_the_module_has_no_new_parameters_buffers_or_children():
    mine = memo.scan(module())
    mine(few())
    assert [name for name, _ in mine.named_buffers()] == []
    assert [name for name, _ in mine.named_children()] == []
