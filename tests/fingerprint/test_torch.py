"""Tensors by content, dtype, shape, strides and device."""

from __future__ import annotations

import itertools

import pytest

from memograd import Memo
from memograd.fingerprint._content import identify
from memograd.fingerprint._form import Unidentified

torch = pytest.importorskip("torch")


def different():
    zeros = torch.zeros(3)
    return [
        zeros, torch.zeros(4), torch.zeros(3, 1), torch.zeros(1, 3), torch.zeros(()), torch.zeros(0), torch.zeros(0, 3),
        torch.zeros(3, 0), torch.zeros(1000), torch.tensor([0.0, 0.0, -0.0]), torch.tensor([0.0, 0.0, torch.nan]),
        *(zeros.to(getattr(torch, name)) for name in DTYPES), torch.tensor([1j]), torch.tensor([1j]).conj(),
        zeros.to_sparse(), torch.eye(3).to_sparse(), torch.nn.Parameter(zeros, requires_grad=False), [0.0, 0.0, 0.0],
        torch.float32, torch.device("cpu"), torch.device("meta"), zeros.shape, torch.Size([1]), (3,), zeros.numpy(),
    ]  # fmt: skip


DTYPES = (
    "float64",
    "bfloat16",
    "float16",
    "int64",
    "int32",
    "uint8",
    "bool",
    "complex64",
    "float8_e4m3fn",
    "float8_e5m2",
)


def test_different_tensors_have_different_content():
    values = different()
    contents = [identify(value) for value in values]
    for (value, first), (other, second) in itertools.combinations(zip(values, contents, strict=True), 2):
        assert first != second, (value, other)


@pytest.mark.parametrize(
    ("view", "same"),
    [
        (lambda t: t.clone(), True),
        (lambda t: torch.cat([t, t])[:3], True),
        (lambda t: t.detach(), True),
        (lambda t: t.transpose(0, 2).contiguous().transpose(0, 2), False),
        (lambda t: t.repeat_interleave(2, 0)[::2], False),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_are_content(view, same, dtype):
    tensor = torch.arange(60).reshape(3, 4, 5).to(getattr(torch, dtype))
    assert (identify(view(tensor)) == identify(tensor)) is same


def test_a_tensor_of_other_strides_is_another_call():
    strides = Memo()(lambda x: x.stride())
    tensor = torch.arange(6).reshape(2, 3)
    assert strides(tensor) == (3, 1)
    assert strides(tensor.t().contiguous().t()) == (1, 2)


def test_a_lazy_conjugate_or_negative_has_the_content_that_it_shows():
    tensor = torch.randn(3, dtype=torch.complex64)
    assert identify(tensor.conj()) == identify(tensor.conj().resolve_conj())
    assert identify(tensor.conj().imag) == identify(tensor.conj_physical().imag)


@pytest.mark.parametrize("change", [lambda t: t.add_(1), lambda t: t.data.add_(1), lambda t: t.numpy().__iadd__(1)])
def test_every_change_in_place_is_seen(change):
    tensor = torch.zeros(1000)
    before = identify(tensor)
    change(tensor)
    assert identify(tensor) != before == identify(torch.zeros(1000))


def test_a_tensor_that_requires_grad_is_refused_in_grad_mode_alone():
    tensor = torch.zeros(3, requires_grad=True)
    with pytest.raises(Unidentified, match=r"requires grad.*call under torch\.no_grad\(\), or pass it \.detach\(\)ed"):
        identify(tensor)
    with torch.no_grad():
        assert identify(tensor) != identify(tensor.detach())
        assert identify(tensor) == identify(tensor.clone().requires_grad_())


class Mine(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Linear(1, 1), torch.Generator(), torch.zeros(3, device="meta"),
        torch.zeros(3).as_subclass(Mine), torch.optim.SGD([torch.zeros(1)], 0.1), torch.nn.ModuleList(),
    ],
)  # fmt: skip
def test_what_has_a_state_beside_its_content_is_refused(value):
    with pytest.raises(Unidentified) as refused:
        identify({"model": [value]})
    assert refused.value.path == "['model'][0]"


def test_a_tensor_under_a_transform_is_refused():
    seen = []

    def look(t):
        with pytest.raises(Unidentified):
            identify(t)
        seen.append(1)
        return t

    torch.func.vmap(look)(torch.zeros(2, 3))
    assert seen


@pytest.mark.gpu
def test_another_device_is_another_call():
    assert identify(torch.zeros(3)) != identify(torch.zeros(3, device="cuda"))
    assert identify(torch.ones(3, device="cuda")) == identify(torch.ones(3).cuda())
