"""One bit of a tensor or array, its dtype, its shape, its strides or whether it requires grad: another call."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memograd import Memo, fingerprint

DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"),
    *("float8_e5m2fnuz", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("complex64", "complex128"),
)
NUMPY = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", ">f8", "U2", "S2", "V2", "M8[s]", "m8[s]")  # fmt: skip  # noqa: E501


def bits(dtype, flipped=None, size=48):
    """Make a tensor from bytes, of which one bit is flipped."""
    data = torch.zeros(size, dtype=torch.uint8)
    if flipped is not None:
        data[flipped] = 1
    return data.view(getattr(torch, dtype))


def cells(dtype, flipped=None, size=480):
    """Make an array from bytes, of which one bit is flipped."""
    data = np.zeros(size, np.uint8)
    if flipped is not None:
        data[flipped] = 1
    return data.view(dtype)


def ones():
    return torch.ones(2, 3, 4, 5)


def sparse(change=None):
    dense = torch.eye(3)
    if change is not None:
        dense[change] = 2
    return dense.to_sparse()


def filled(value):
    return np.array([1, value], dtype=object)


# A single bit: a tensor of each dtype at its first and its last byte, a long one in its midst, an array alike.
BITS = {
    **{f"the first byte of {d}": (lambda d=d: bits(d), lambda d=d: bits(d, 0)) for d in DTYPES},
    **{f"the last byte of {d}": (lambda d=d: bits(d), lambda d=d: bits(d, 47)) for d in DTYPES},
    **{f"the first byte of an array of {d}": (lambda d=d: cells(d), lambda d=d: cells(d, 0)) for d in NUMPY},
    "a bit in the midst of megabytes": (
        lambda: bits("float32", size=2**22),
        lambda: bits("float32", 2**21 + 8, size=2**22),
    ),
    "a bit in the midst of megabytes of an array": (
        lambda: cells("f8", size=2**22),
        lambda: cells("f8", 2**21 + 8, size=2**22),
    ),
    "the sign of a zero": (lambda: torch.tensor([0.0]), lambda: torch.tensor([-0.0])),
    "the sign of a NaN": (lambda: torch.tensor([torch.nan]), lambda: -torch.tensor([torch.nan])),
    "the sign of a zero of an array": (lambda: np.array([0.0]), lambda: np.array([-0.0])),
    "a number of a tensor without dimensions": (lambda: torch.tensor(1), lambda: torch.tensor(2)),
    "a value of a sparse tensor": (sparse, lambda: sparse((1, 1))),
    "an index of a sparse tensor": (sparse, lambda: sparse((0, 1))),
    "an object in an array": (lambda: filled(1), lambda: filled(1.0)),
    "a conjugate": (lambda: torch.tensor([1 + 1j]), lambda: torch.tensor([1 + 1j]).conj()),
    "the next draw of a generator": (
        lambda: torch.Generator().manual_seed(1),
        lambda: (made := torch.Generator().manual_seed(1), torch.rand(1, generator=made))[0],
    ),
    "the next draw of an array's generator": (
        lambda: np.random.default_rng(1),
        lambda: (made := np.random.default_rng(1), made.random())[0],
    ),
}

KINDS = {
    "float that becomes double": (ones, lambda: ones().double()),
    "half that becomes its brother": (lambda: ones().half(), lambda: ones().bfloat16()),
    "zeros that become integers": (lambda: torch.zeros(2), lambda: torch.zeros(2, dtype=torch.int32)),
    "zeros without a sign": (lambda: torch.zeros(2).byte(), lambda: torch.zeros(2).char()),
    "false that becomes nought": (lambda: torch.zeros(2).bool(), lambda: torch.zeros(2).byte()),
    "a row that becomes a column": (lambda: torch.ones(1, 3), lambda: torch.ones(3, 1)),
    "a matrix that becomes a row": (lambda: torch.ones(2, 3), lambda: torch.ones(6)),
    "a dimension more": (lambda: torch.ones(3), lambda: torch.ones(3, 1)),
    "no dimension": (lambda: torch.ones(1), lambda: torch.ones(())),
    "empty in another way": (lambda: torch.ones(0, 3), lambda: torch.ones(3, 0)),
    "a tensor that becomes an array": (lambda: torch.ones(3), lambda: torch.ones(3).numpy()),
    "a tensor that becomes a list": (lambda: torch.ones(3), lambda: [1.0, 1.0, 1.0]),
    "a tensor that becomes a parameter": (
        lambda: torch.ones(3),
        lambda: torch.nn.Parameter(torch.ones(3), requires_grad=False),
    ),
    "a dense tensor that becomes sparse": (lambda: torch.eye(3), sparse),
    "an array of another dtype": (lambda: np.zeros(2, "f4"), lambda: np.zeros(2, "i4")),
    "an array of another order of bytes": (lambda: np.zeros(2, "<f4"), lambda: np.zeros(2, ">f4")),
    "an array of another shape": (lambda: np.zeros((2, 3)), lambda: np.zeros((3, 2))),
    "a scalar that becomes a number": (lambda: np.float64(1), lambda: 1.0),
    "a scalar of another dtype": (lambda: np.float64(1), lambda: np.float32(1)),
    "a scalar that becomes an array": (lambda: np.float64(1), lambda: np.array(1.0)),
    "the name of a field": (lambda: np.zeros(2, [("a", "i4")]), lambda: np.zeros(2, [("b", "i4")])),
    "a dtype": (lambda: torch.float32, lambda: torch.float64),
    "a device": (lambda: torch.device("cpu"), lambda: torch.device("cuda")),
    "a shape": (lambda: torch.Size([1, 2]), lambda: torch.Size([2, 1])),
    "a shape that becomes a tuple": (lambda: torch.Size([1, 2]), lambda: (1, 2)),
}

# What a function can see of a tensor beside its content: in the key, and not in the fingerprint.
ASPECTS = {
    "rows that lie as columns": (lambda: torch.ones(2, 3), lambda: torch.ones(3, 2).t()),
    "channels that come last": (ones, lambda: ones().to(memory_format=torch.channels_last)),
    "every other element": (lambda: torch.ones(3), lambda: torch.ones(6)[::2]),
    "an element that is all": (lambda: torch.ones(3), lambda: torch.ones(1).expand(3)),
    "requires grad": (ones, lambda: ones().requires_grad_()),
    "a parameter that is frozen": (
        lambda: torch.nn.Parameter(ones()),
        lambda: torch.nn.Parameter(ones(), requires_grad=False),
    ),
    "requires grad within": (lambda: {"a": [ones()]}, lambda: {"a": [ones().requires_grad_()]}),
    "made in inference mode": (ones, lambda: torch.inference_mode()(ones)()),
    "made in inference mode, where the other requires grad": (
        lambda: ones().requires_grad_(),
        lambda: torch.inference_mode()(lambda: ones().requires_grad_())(),
    ),
    "a parameter that was made in inference mode": (
        lambda: torch.nn.Parameter(ones(), requires_grad=False),
        lambda: torch.inference_mode()(lambda: torch.nn.Parameter(ones(), requires_grad=False))(),
    ),
    "columns that were made in inference mode": (
        lambda: torch.ones(3, 2).t(),
        lambda: torch.inference_mode()(lambda: torch.ones(3, 2).t())(),
    ),
    "a conjugate that is only shown": (
        lambda: torch.tensor([1 + 1j]).conj_physical(),
        lambda: torch.tensor([1 + 1j]).conj(),
    ),
    "a negative that is only shown": (
        lambda: torch.tensor([1 - 1j, 2 + 2j]).imag,
        lambda: torch.tensor([1 + 1j, 2 - 2j]).conj().imag,
    ),
    "an array whose rows lie as columns": (lambda: np.ones((2, 3)), lambda: np.ones((3, 2)).T),
    "every other element of an array": (lambda: np.ones(3), lambda: np.ones(6)[::2]),
    "an array from its end": (lambda: np.ones(3), lambda: np.ones(3)[::-1]),
    "an array of one element": (lambda: np.ones(3), lambda: np.broadcast_to(np.ones(1), 3)),
}

IN_PLACE = {
    "an addition": (ones, lambda t: t.add_(1)),
    "an item": (ones, lambda t: t.__setitem__((1, 2, 3, 4), 7)),
    "by data": (ones, lambda t: t.data.mul_(2)),
    "by what shares its memory": (ones, lambda t: t.numpy().__iadd__(1)),
    "by a view": (ones, lambda t: t.view(-1)[7].zero_()),
    "by a view of other bits": (ones, lambda t: t.view(torch.int32).bitwise_xor_(1)),
    "the shape": (ones, lambda t: t.resize_(4, 5, 6)),
    "the strides": (ones, lambda t: t.transpose_(0, 0).t_() if t.dim() == 2 else t.transpose_(0, 3)),
    "the data": (ones, lambda t: t.set_(torch.zeros(2, 3, 4, 5))),
    "without grad mode": (lambda: ones().requires_grad_(), lambda t: torch.no_grad()(t.add_)(1)),
    "whether it requires grad": (ones, lambda t: t.requires_grad_()),
    "an element of an array": (lambda: np.ones(3), lambda a: a.__setitem__(1, 2)),
    "an array by a view": (lambda: np.ones(3), lambda a: a[1:].fill(2)),
    "an object in an array": (lambda: filled(1), lambda a: a.__setitem__(0, None)),
    "a draw": (torch.Generator, lambda g: torch.rand(1, generator=g)),
    "a seed": (torch.Generator, lambda g: g.manual_seed(7)),
    "a draw of numpy's": (lambda: np.random.default_rng(1), lambda g: g.random()),
    "a draw of numpy's old stream": (lambda: np.random.RandomState(1), lambda g: g.rand()),
}

remembered = Memo(strict=True)(lambda x: x)


@pytest.mark.parametrize("name", [*BITS, *KINDS])
def test_an_edit_of_a_tensor_is_another_call(name):
    before, after = {**BITS, **KINDS}[name]
    for wrap in (lambda value: value, lambda value: [{"a": (1, value)}]):
        key, digest = remembered.cache_key(wrap(before())), fingerprint(wrap(before()))
        assert (remembered.cache_key(wrap(before())), fingerprint(wrap(before()))) == (key, digest)
        assert remembered.cache_key(wrap(after())) != key
        assert fingerprint(wrap(after())) != digest


@pytest.mark.parametrize("name", ASPECTS)
def test_an_edit_that_only_a_function_can_see_is_another_call_of_the_same_content(name):
    before, after = ASPECTS[name]
    assert remembered.cache_key(before()) == remembered.cache_key(before()) != remembered.cache_key(after())
    assert fingerprint(before()) == fingerprint(after())


@pytest.mark.parametrize("name", IN_PLACE)
def test_an_edit_of_a_tensor_in_place_is_another_call(name):
    make, edit = IN_PLACE[name]
    value = make()
    key = remembered.cache_key(value)
    assert remembered.cache_key(value) == key
    edit(value)
    assert remembered.cache_key(value) != key
