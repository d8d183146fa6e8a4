# ruff: noqa: E501, RUF043 - tables of values are read a line each
"""Tensors come back with all that a program can ask of them, and their memory is the entry's own."""

import gc
import mmap
import weakref

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from memograd.codec import Unencodable, Unreadable, decode, encode


def again(value):
    return decode(bytearray(b"".join(encode(value))), own=True)


def assert_same(one, two):
    assert type(one) is type(two)
    facts = ("dtype", "shape", "device", "requires_grad", "is_leaf")
    assert [getattr(one, name) for name in facts] == [getattr(two, name) for name in facts]
    assert one.stride() == two.stride()
    assert (one.is_conj(), one.is_neg(), one.is_inference()) == (two.is_conj(), two.is_neg(), two.is_inference())
    raw = [t.detach().resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8) for t in (one, two)]
    assert torch.equal(*raw)


DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex32, torch.complex64, torch.complex128,
    torch.float8_e5m2, torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.float8_e4m3fnuz,
]  # fmt: skip
base = torch.arange(24, dtype=torch.float32).view(2, 3, 4)
TENSORS = [
    base, base.T if base.dim() < 3 else base.mT, base[:, ::2], base[1:, :, 2:], base[0, 0, 0], torch.tensor(5.0), torch.empty(0), torch.empty(3, 0, 2),
    torch.empty(0, 5).t(), base[:1].expand(9, 3, 4), torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last), base.unfold(2, 2, 1),
    base[:, :, :1], base.view(1, 24)[:, 3:5], torch.arange(10)[3:4], torch.ones(3, requires_grad=True), nn.Parameter(torch.ones(2)),
    nn.Parameter(torch.ones(2), requires_grad=False), torch.ones(2, dtype=torch.complex64).conj(), torch.ones(2, dtype=torch.complex64).conj().imag,
    base.as_strided((3, 3), (1, 1)), torch.ones(2000), torch.randn(50, 50).t(),
]  # fmt: skip


@pytest.mark.parametrize("tensor", TENSORS, ids=lambda t: f"{t.dtype}-{tuple(t.shape)}-{t.stride()}")
def test_it_comes_back(tensor):
    assert_same(again(tensor), tensor)
    assert_same(again([tensor, 1])[0], tensor)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_comes_back(dtype):
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (6 * dtype.itemsize,), dtype=torch.uint8)
    tensor = raw.view(dtype).view(2, 3)
    back = again([tensor, tensor.t()])
    assert_same(back[0], tensor)
    assert_same(back[1], tensor.t())
    assert_same(again(tensor), tensor)
    opened = safetensors.torch.load(b"".join(encode(tensor)))["0"]
    assert opened.view(-1).view(torch.uint8).tolist() == raw.tolist()


def test_tensors_made_for_inference_are_so_again_wherever_they_are_read():
    with torch.inference_mode():
        made = torch.ones(3)
    plain = torch.ones(3)
    entry = b"".join(encode([made, plain, made[:2]]))
    for mode in (True, False):
        with torch.inference_mode(mode):
            back = decode(entry, own=False)
        assert [t.is_inference() for t in back] == [True, False, True]


def test_surroundings_do_not_matter():
    entry = b"".join(encode([base, base.t() if base.dim() < 3 else base.mT, torch.empty(0, 2)]))
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    try:
        back = decode(entry, own=False)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert_same(back[0], base)
    assert_same(back[2], torch.empty(0, 2))


def test_views_of_one_tensor_are_views_again():
    whole = torch.arange(12.0)
    kept = {"a": whole[:8], "b": [whole[4:].view(2, 4), whole], "c": torch.arange(12.0), "n": whole.numpy()[3:5]}
    back = again(kept)
    back["a"][4] = -1
    assert back["b"][0][0, 0] == back["b"][1][4] == back["n"][1] == -1
    assert back["c"][4] == 4
    assert back["a"].untyped_storage().data_ptr() == back["b"][1].untyped_storage().data_ptr()
    mixed = torch.arange(16, dtype=torch.uint8)
    one, two = again([mixed[4:8].view(torch.float32), mixed[3:]])
    two[1:5] = 0
    assert one.item() == 0


def test_the_same_tensor_twice_is_one_tensor():
    tensor = torch.ones(2)
    back = again([tensor, (tensor,), tensor.detach()])
    assert back[0] is back[1][0]
    assert back[0] is not back[2]
    back[2][0] = 5
    assert back[0][0] == 5


def test_equal_values_make_equal_files():
    def make(*, backwards):
        parts = [torch.full((n,), 1.0) for n in (9, 5, 30)]
        kept = [torch.full((n,), 1.0) for n in (3, 500, 9)] if backwards else []
        again = [part.clone() for part in reversed(parts)][::-1] if backwards else parts
        return b"".join(encode({"x": again, "s": {"a", "b", "c", "d"}, "v": [again[0][2:], again[0][:4]]})), kept

    assert make(backwards=False)[0] == make(backwards=True)[0]


def test_small_words_come_back():
    words = [torch.Size([1, 2]), torch.float32, torch.bfloat16, torch.device("cuda:1"), torch.device("cpu"), torch.strided, torch.sparse_coo,
             torch.channels_last]  # fmt: skip
    back = again(words)
    assert back == words
    assert type(back[0]) is torch.Size
    found = torch.max(base, dim=0)
    assert type(again(found)) is type(found)
    assert torch.equal(again(found).indices, found.indices)


class Sub(torch.Tensor):
    pass


@pytest.mark.parametrize("make", [
    lambda: torch.ones(2, requires_grad=True) * 2, lambda: torch.eye(3).to_sparse(), lambda: torch.eye(3).to_sparse_csr(),
    lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), lambda: torch.empty(2, device="meta"),
    lambda: torch.ones(2).as_subclass(Sub), lambda: nn.Linear(1, 1), lambda: torch._efficientzerotensor(3),
    lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged), lambda: torch.Generator(),
], ids=range(10))  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_is_more_than_memory_is_refused(make):
    with pytest.raises(Unencodable, match=r"result\['x'\]\[0\] is "):
        encode({"x": [make()]})


def test_a_leaf_with_a_gradient_is_refused():
    leaf = torch.ones(2, requires_grad=True)
    leaf.sum().backward()
    with pytest.raises(Unencodable, match="has a gradient"):
        encode(leaf)


def hooked(register):
    leaf = torch.ones(2, requires_grad=True)
    getattr(leaf, register)(lambda *_: None)
    return leaf


def noted(tensor, **attributes):
    for name, held in attributes.items():
        setattr(tensor, name, held)
    return tensor


@pytest.mark.parametrize("make", [
    lambda: noted(torch.ones(2), unit="m"), lambda: noted(nn.Parameter(torch.ones(2)), unit="m"), lambda: noted(torch.ones(2), _is_buffer=True),
    lambda: noted(nn.Buffer(torch.ones(2)), unit="m"), lambda: noted(nn.Buffer(torch.ones(2)), persistent=1), lambda: torch.ones(2).share_memory_(),
    lambda: hooked("register_hook"), lambda: hooked("register_post_accumulate_grad_hook"),
], ids=range(8))  # fmt: skip
def test_what_would_be_lost_of_a_tensor_is_refused(make):
    with pytest.raises(Unencodable, match="with attributes|with hooks|shared with other processes"):
        encode({"x": [make()]})


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_buffers_come_back(persistent, requires_grad):
    whole = torch.arange(6.0)
    for made in (whole, whole[2:], whole[::2], torch.empty(0)):
        value = nn.Buffer(made.clone().requires_grad_(requires_grad), persistent=persistent)
        back = again([value])[0]
        assert_same(back, value)
        assert vars(back) == vars(value)
        assert isinstance(back, nn.Buffer)


def test_the_state_of_a_module_comes_back_with_its_versions():
    state = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).state_dict()
    back = again(state)
    assert list(back) == list(state)
    assert back._metadata == state._metadata
    assert type(back._metadata) is type(state._metadata)
    assert back._metadata["0"] == {"version": 2}


def test_the_official_reader_opens_it(tmp_path):
    value = {"w": torch.randn(3, 5), "b": torch.randn(7).bfloat16(), "t": torch.randn(4, 6).t(), "raw": b"abc", "f": [0.5] * 20,
             "e": torch.empty(0, 3), "i": np.arange(4), "s": torch.tensor(3), "c": torch.ones(3, dtype=torch.complex64)}  # fmt: skip
    path = tmp_path / "entry.safetensors"
    path.write_bytes(b"".join(encode(value)))
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["memograd"] == "1"
        opened = [file.get_tensor(name) for name in sorted(file.keys(), key=int)]
    assert len(opened) == len(value)
    assert any(torch.equal(tensor, value["w"]) for tensor in opened if tensor.shape == (3, 5))
    assert bytes(opened[0].tolist()) == b"abc" or b"abc" in {
        bytes(t.tolist()) for t in opened if t.dtype == torch.uint8
    }
    for plain in (None, "x", [1, {"a": 2}]):
        assert safetensors.torch.load(b"".join(encode(plain))) == {}


def test_tensors_are_aligned():
    tensors = [
        torch.ones(n, dtype=dtype)
        for n in (1, 3, 16, 17)
        for dtype in (torch.uint8, torch.float64, torch.int16, torch.float32)
    ]
    entry = bytearray(b"".join(encode(tensors)))
    assert int.from_bytes(entry[:8], "little") % 64 == 56
    for one, two in zip(tensors, decode(entry, own=True), strict=True):
        assert two.data_ptr() % two.element_size() == 0
        assert torch.equal(one, two)


def test_memory_is_not_copied_on_the_way_out():
    tensor = torch.zeros(5000)
    pieces = encode(tensor)
    tensor[0] = 7
    assert decode(b"".join(pieces), own=False)[0] == 7
    del tensor
    gc.collect()
    assert decode(b"".join(pieces), own=False)[0] == 7


def test_a_private_mapping_is_viewed_and_the_file_stays(tmp_path):
    path = tmp_path / "entry"
    value = {"t": torch.arange(4096.0), "a": np.arange(4096)}
    path.write_bytes(b"".join(encode(value)))
    before = path.read_bytes()
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    back = decode(memoryview(mapped), own=True)
    alive = weakref.ref(mapped)
    with pytest.raises(BufferError):
        mapped.close()
    del mapped
    gc.collect()
    assert alive() is not None
    back["t"][5] = -1
    back["a"] += 1
    assert back["t"].sum() == sum(range(4096)) - 6
    assert path.read_bytes() == before
    tensor = back["t"]
    del back
    gc.collect()
    assert tensor[5] == -1
    del tensor
    gc.collect()
    assert alive() is None


def test_memory_that_may_not_be_written_is_copied(tmp_path):
    entry = b"".join(encode(torch.zeros(3)))
    back = decode(entry, own=True)
    back += 1
    assert decode(entry, own=True).tolist() == [0, 0, 0]
    writable = bytearray(entry)
    shared = decode(writable, own=False)
    shared += 1
    assert bytes(writable) == entry


def test_a_device_that_is_not_there_is_said(monkeypatch):
    entry = b"".join(encode([base[0], torch.ones(3, dtype=torch.complex64).conj()]))
    edited = entry.replace(b'{\\"conj\\":true', b'{\\"device\\":\\"cuda:9\\",\\"conj\\":true')
    assert edited != entry
    length = int.from_bytes(entry[:8], "little") + len(edited) - len(entry)
    with pytest.raises(Unreadable, match="cuda:9.*not here"):
        decode(length.to_bytes(8, "little") + edited[8:], own=False)


@pytest.mark.gpu
def test_tensors_of_a_device_come_back_there():
    whole = torch.arange(12.0, device="cuda")
    back = again([whole[2:], whole.view(3, 4).t(), torch.ones(3, device="cuda", dtype=torch.bfloat16)])
    assert_same(back[0], whole[2:])
    assert_same(back[1], whole.view(3, 4).t())
    back[0][0] = -1
    assert back[1][2, 0] == -1
