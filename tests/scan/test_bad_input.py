"""What the plain module refuses is refused in its words; what is ours to refuse says what to write."""

from __future__ import annotations

import pytest
import torch
from tests.scan.pytorch_inputs import error_samples
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from memograd import Shared, memo

CELLS = [nn.LSTM, nn.GRU, nn.RNN]
ENGINES = ["levels", "auto", "plain"]
X = torch.zeros(5, 4, 3)


def state(cell, *shape, dtype=torch.float32, device="cpu"):
    made = torch.zeros(shape, dtype=dtype, device=device)
    return (made, made) if cell is nn.LSTM else made


def packed(x, *lengths):
    return pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)


REFUSED = {
    "one dimension": lambda _: (X[0, 0],),
    "four dimensions": lambda _: (X[None],),
    "no dimension": lambda _: (torch.tensor(1.0),),
    "another input size": lambda _: (torch.zeros(5, 4, 2),),
    "another input size, unbatched": lambda _: (torch.zeros(5, 2),),
    "no input size": lambda _: (torch.zeros(5, 4, 0),),
    "float64 for float32": lambda _: (X.double(),),
    "half for float32": lambda _: (X.half(),),
    "integers": lambda _: (X.long(),),
    "booleans": lambda _: (X.bool(),),
    "complex": lambda _: (X.cfloat(),),
    "no rows": lambda _: (X[:, :0],),
    "no steps": lambda _: (X[:0],),
    "a list": lambda _: (X.tolist(),),
    "None": lambda _: (None,),
    "an array": lambda _: (X.numpy(),),
    "a sparse tensor": lambda _: (X.to_sparse(),),
    "a meta tensor": lambda _: (X.to("meta"),),
    "a packed batch of another size": lambda _: (packed(torch.zeros(5, 4, 2), 5, 3, 3, 2),),
    "a packed batch of another type": lambda _: (packed(X.double(), 5, 3, 3, 2),),
    "packed integers": lambda _: (packed(X.long(), 5, 3, 3, 2),),
    "packed widths that grow": lambda _: (PackedSequence(torch.zeros(5, 3), torch.tensor([2, 3])),),
    "packed widths that do not sum up": lambda _: (PackedSequence(torch.zeros(5, 3), torch.tensor([2, 2])),),
    "packed widths of int32": lambda _: (PackedSequence(torch.zeros(5, 3), torch.tensor([3, 2], dtype=torch.int32)),),
    "packed widths of floats": lambda _: (PackedSequence(torch.zeros(5, 3), torch.tensor([3.0, 2.0])),),
    "packed widths in two dimensions": lambda _: (PackedSequence(torch.zeros(5, 3), torch.tensor([[3, 2]])),),
    "a negative packed width": lambda _: (PackedSequence(torch.zeros(5, 3), torch.tensor([6, -1])),),
    "a first packed width of zero": lambda _: (PackedSequence(torch.zeros(5, 3), torch.tensor([0, 3, 2])),),
    "packed widths of nothing": lambda _: (PackedSequence(torch.zeros(0, 3), torch.tensor([], dtype=torch.long)),),
    "packed data of three dimensions": lambda _: (PackedSequence(torch.zeros(5, 1, 3), torch.tensor([3, 2])),),
    "states of another batch": lambda c: (X, state(c, 1, 3, 6)),
    "states of another depth": lambda c: (X, state(c, 2, 4, 6)),
    "states of another size": lambda c: (X, state(c, 1, 4, 5)),
    "states without a batch": lambda c: (X, state(c, 1, 6)),
    "states with a batch for none": lambda c: (X[:, 0], state(c, 1, 1, 6)),
    "states of another type": lambda c: (X, state(c, 1, 4, 6, dtype=torch.float64)),
    "states of integers": lambda c: (X, state(c, 1, 4, 6, dtype=torch.long)),
    "states elsewhere": lambda c: (X, state(c, 1, 4, 6, device="meta")),
    "states of the other kind": lambda c: (X, state(nn.GRU if c is nn.LSTM else nn.LSTM, 1, 4, 6)),
    "states that are a number": lambda _: (X, 3),
    "states that are a word": lambda _: (X, "zeros"),
    "one state of two": lambda _: (X, (torch.zeros(1, 4, 6),)),
    "three states": lambda _: (X, (torch.zeros(1, 4, 6),) * 3),
    "None for a state": lambda _: (X, (torch.zeros(1, 4, 6), None)),
    "packed with states of another batch": lambda c: (packed(X, 5, 3, 3, 2), state(c, 1, 5, 6)),
    "nothing": lambda _: (),
    "too many arguments": lambda _: (X, None, None),
}  # fmt: skip


def outcome(module, arguments):
    """Give the type and message of what a call raises, or that it raises nothing."""
    try:
        module(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error), str(error)
    return "accepted"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("cell", CELLS)
def test_what_the_plain_module_refuses_is_refused_in_its_own_words(cell, case, engine):
    """And what it accepts is accepted; a signature names the method that it belongs to."""
    plain = cell(3, 6)
    expected = outcome(plain, REFUSED[case](cell))
    found = outcome(memo.scan(plain, engine=engine), REFUSED[case](cell))
    if expected != "accepted" and expected[0] is TypeError and "forward()" in expected[1]:
        assert found[0] is TypeError
    else:
        assert found == expected


def test_most_of_these_are_refused_by_the_plain_module():
    """So that the test above compares refusals, and not acceptances."""
    refused = [case for case in REFUSED if all(outcome(c(3, 6), REFUSED[case](c)) != "accepted" for c in CELLS)]
    assert len(refused) > 0.6 * len(REFUSED)


@pytest.mark.parametrize("cell", CELLS)
def test_what_pytorchs_own_tests_expect_to_be_refused_is_refused(cell):
    found = error_samples(torch.float32)
    assert found
    for sample in found:
        made, given = sample.module_error_input.constructor_input, sample.module_error_input.forward_input
        mine = memo.scan(cell(*made.args, **made.kwargs), engine="levels")
        with pytest.raises(sample.error_type, match=sample.error_regex):
            mine(*given.args, **given.kwargs)


ODD_ORDERS = {
    "no permutation": ([0, 0, 1], [0, 1, 2]),
    "out of range": ([0, 7, 1], [0, 1, 2]),
    "too short": ([0, 1], [0, 1, 2]),
    "not inverse to one another": ([2, 0, 1], [0, 1, 2]),
    "the way back alone": (None, [2, 0, 1]),
    "floats": ([0.0, 1.0, 2.0], [0, 1, 2]),
}


@pytest.mark.parametrize("order", ODD_ORDERS)
@pytest.mark.parametrize("cell", CELLS)
def test_an_odd_order_of_packed_rows_means_what_it_means_to_the_plain_module(cell, order):
    """The plain module reads the way back, and with first states the way there; made by hand they may be anything."""
    there, back = (i if i is None else torch.tensor(i) for i in ODD_ORDERS[order])
    x = PackedSequence(torch.randn(5, 3), torch.tensor([3, 2]), there, back)
    plain = cell(3, 6)
    torch.testing.assert_close(memo.scan(plain, engine="levels")(x)[1], plain(x)[1])


def test_a_last_packed_width_of_zero_is_a_step_of_no_rows():
    x = PackedSequence(torch.randn(5, 3), torch.tensor([3, 2, 0]))
    plain = nn.GRU(3, 6)
    torch.testing.assert_close(memo.scan(plain, engine="levels")(x), plain(x))


def test_weights_of_mixed_types_are_refused_as_by_the_plain_module():
    plain = nn.GRU(3, 6)
    plain.weight_hh_l0.data = plain.weight_hh_l0.data.double()
    expected = outcome(plain, (X,))
    assert expected != "accepted"
    assert outcome(memo.scan(plain, engine="levels"), (X,))[0] is expected[0]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_a_nested_tensor_is_refused_as_by_the_plain_module():
    nested = torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)])
    plain = nn.LSTM(3, 6, batch_first=True)
    assert outcome(memo.scan(plain, engine="levels"), (nested,)) == outcome(plain, (nested,))


@pytest.mark.parametrize(
    "module", [nn.Linear(3, 6), nn.Sequential(nn.LSTM(3, 6)), nn.TransformerEncoderLayer(4, 2), nn.LSTM, len, None, 3]
)
def test_what_is_not_recurrent_is_refused_with_what_was_got(module):
    with pytest.raises(TypeError, match=rf"memo.scan: got {type(module).__name__}; expected nn.RNN, nn.LSTM or nn.GRU"):
        memo.scan(module)


def test_a_forward_of_ones_own_is_refused_with_advice():
    class Mine(nn.LSTM):
        def forward(self, x):
            return super().forward(2 * x)

    with pytest.raises(TypeError, match=r"got Mine with a forward of its own; expected LSTM's own\. Wrap .* inside"):
        memo.scan(Mine(3, 6))


@pytest.mark.parametrize("engine", ["fast", "", None, "Levels"])
def test_an_unknown_engine_is_refused_with_those_there_are(engine):
    with pytest.raises(ValueError, match="expected 'auto', 'levels' or 'plain'"):
        memo.scan(nn.LSTM(3, 6), engine=engine)


IDS = torch.zeros(5, 4, dtype=torch.long)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (IDS.float(), TypeError, r"keys of torch.float32; expected an integer tensor.*Write ids.long\(\)"),
        (IDS.bool(), TypeError, r"keys of torch.bool; expected an integer tensor"),
        (IDS.tolist(), TypeError, r"keys of list; expected an integer tensor"),
        ("ids", TypeError, r"keys of str; expected an integer tensor"),
        (IDS.numpy(), TypeError, r"keys of ndarray; expected an integer tensor"),
        (IDS.t(), ValueError, r"keys of shape \(4, 5\); expected \(5, 4\), one for each vector"),
        (IDS[..., None], ValueError, r"keys of shape \(5, 4, 1\); expected \(5, 4\)"),
        (IDS[:4], ValueError, r"keys of shape \(4, 4\); expected \(5, 4\)"),
        (IDS[0], ValueError, r"keys of shape \(4,\); expected \(5, 4\)"),
    ],
)
def test_bad_keys_are_refused_with_what_was_got(engine, keys, error, message):
    with pytest.raises(error, match=rf"memo\.scan: got {message}"):
        memo.scan(nn.LSTM(3, 6), engine=engine)(X, keys=keys)


def test_keys_in_the_padded_order_are_refused_for_a_packed_input():
    with pytest.raises(ValueError, match=r"got keys of shape \(5, 4\); expected \(13,\), .* in its packed order"):
        memo.scan(nn.LSTM(3, 6))(packed(X, 5, 3, 3, 2), keys=IDS)


def test_keys_beside_a_shared_are_refused_and_not_passed_over():
    with pytest.raises(ValueError, match=r"memo.scan: got keys beside a Shared, .* Write rnn\(s\)"):
        memo.scan(nn.LSTM(3, 6))(embedded(), keys=IDS)


def test_keys_of_an_unbatched_input_have_nothing_to_name():
    mine = memo.scan(nn.LSTM(3, 6), engine="levels")
    torch.testing.assert_close(mine(X[:, 0], keys=IDS[:, 0]), mine.__wrapped__(X[:, 0]))


@pytest.mark.parametrize("x", [X[:, 0], X[:0], X.to("meta")])
def test_shared_is_refused_where_there_is_nothing_to_share(x):
    with pytest.raises(
        ValueError, match=r"got a tensor of shape .* with shared=True; expected a batch of float vectors"
    ):
        memo.scan(nn.LSTM(3, 6))(x, shared=True)


def embedded(size=3, dtype=torch.float32):
    return Shared.prefixes(torch.tensor([[0, 1], [0, 2], [1, 1]])).map(nn.Embedding(3, size, dtype=dtype))


@pytest.mark.parametrize(
    ("s", "message"),
    [
        (
            Shared.prefixes(IDS),
            r"a Shared with values of shape \(\) and torch.int64; .* Write rnn\(s.map\(embedding\)\)",
        ),
        (embedded(2), r"a Shared with values of shape \(2,\) .* expected float vectors of 3"),
        (embedded().map(lambda v: v[:, None]), r"a Shared with values of shape \(1, 3\)"),
        (embedded().map(torch.Tensor.long), r"a Shared with values of shape \(3,\) and torch.int64"),
    ],
)
def test_a_shared_of_something_else_is_refused_with_what_was_got(s, message):
    with pytest.raises(ValueError, match=rf"memo\.scan: got {message}"):
        memo.scan(nn.LSTM(3, 6))(s)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_shared_of_another_type_is_refused_as_the_dense_input_is(dtype):
    mine = memo.scan(nn.LSTM(3, 6))
    expected = outcome(mine, (embedded(dtype=dtype).dense(),))
    assert outcome(mine, (embedded(dtype=dtype),)) == expected


@pytest.mark.parametrize(
    ("hx", "message"),
    [
        (torch.zeros(1, 3, 6), r"states of Tensor; expected a tuple of \(1, 1 or 3, 6\) and \(1, 1 or 3, 6\)"),
        ((torch.zeros(1, 3, 6),), r"states of tuple; expected a tuple of"),
        ((torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)), r"states of shape \(1, 2, 6\); expected a tuple of"),
        ((torch.zeros(2, 3, 6), torch.zeros(2, 3, 6)), r"states of shape \(2, 3, 6\); expected a tuple of"),
        (
            (torch.zeros(1, 3, 6).double(),) * 2,
            r"states of torch.float64; expected torch.float32, the type of the values",
        ),
        ((torch.arange(18.0).view(1, 3, 6),) * 2, r"states that differ between rows that share a prefix"),
        ((torch.zeros(1, 3, 6, requires_grad=True),) * 2, r"states that require grad, one a row, .* \(layers, 1, H\)"),
    ],
)
def test_states_that_do_not_fit_a_shared_are_refused_with_advice(hx, message):
    with pytest.raises(ValueError, match=rf"memo\.scan: got {message}"):
        memo.scan(nn.LSTM(3, 6))(embedded(), hx)


def test_an_option_that_would_be_ignored_is_refused_with_what_to_write():
    with pytest.raises(TypeError, match=r"has its own.*Write memo\.scan\(nn\.LSTM\(64, 256, batch_first=True\)\)"):
        memo.scan(nn.LSTM(3, 2), batch_first=True)
    assert memo.scan(nn.LSTM(3, 2, batch_first=True), batch_first=True).batch_first
    with pytest.raises(TypeError, match=r"got GRUCell and engine='levels'"):
        memo.scan(nn.GRUCell(3, 2), engine="levels")


def test_a_cell_that_is_wrapped_again_is_wrapped_once():
    cell = nn.GRUCell(3, 2)
    again = memo.scan(memo.scan(cell, budget="1MiB"), batch_first=True)
    assert again.__wrapped__ is cell
    assert (again.batch_first, again.budget) == (True, None)
