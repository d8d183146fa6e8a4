"""What comes back cannot be spoiled, and what a call has changed is told."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import enum
import gc
import logging
import pathlib
import sys
import threading
import types
import weakref
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memograd._copies._keep import Kept, Unkeepable, keep
from memograd._copies._witness import witness
from memograd._key import MISSING

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


@dataclasses.dataclass
class Output:
    value: object
    extra: object = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: object


class Slotted:
    __slots__ = ("unset", "value")

    def __init__(self, value):
        self.value = value


class Plain:
    def __init__(self, value):
        self.value = value


class Items(list):
    def __init__(self, items, note):
        super().__init__(items)
        self.note = note


class Named(collections.OrderedDict):
    """As the outputs of Hugging Face models: an attribute and an item at once."""

    def __init__(self, **items):
        super().__init__(items)
        self.__dict__.update(items)


class Pair(NamedTuple):
    first: object
    second: object


class Color(enum.Enum):
    RED = 1


def given_back(value, args=(), hit=None):
    """Give what a hit gets, of what a store holds."""
    kept = keep(value, args)
    return kept.give(args if hit is None else hit) if type(kept) is Kept else kept


# -- what cannot be changed --------------------------------------------------------------------------------------------


UNCHANGING = [
    3, True, None, 1.5, 2j, "text", b"bytes", (), (1, ("a", (2.0,))), frozenset({1, (2,)}), range(3), int, ..., len,
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), pathlib.PurePosixPath("a"), Color.RED, Pair(1, "a"), object(),
    np.float32(1), np.dtype("f4"),
    torch.float32, torch.device("cpu"), torch.Size([1, 2]), lambda x: x, sys, Frozen, list[int],
]  # fmt: skip


@pytest.mark.parametrize("value", UNCHANGING, ids=lambda value: type(value).__name__)
def test_what_cannot_be_changed_is_stored_itself(value):
    assert keep(value, ()) is value
    assert keep((value, value), ()) == (value, value)


# -- what can be -------------------------------------------------------------------------------------------------------


CHANGES = {
    "list": ([1, 2], lambda v: v.append(3)),
    "nested list": ([[1], 2], lambda v: v[0].append(3)),
    "list in tuple": ((1, ([2],)), lambda v: v[1][0].append(3)),
    "dict": ({"a": 1}, lambda v: v.update(b=2)),
    "dict of lists": ({"a": [1], 2: "b"}, lambda v: v["a"].append(3)),
    "set": ({1, 2}, lambda v: v.add(3)),
    "deque": (collections.deque([[1], 2], maxlen=3), lambda v: v[0].append(3)),
    "ordered dict": (collections.OrderedDict(a=[1]), lambda v: v["a"].append(3)),
    "default dict": (collections.defaultdict(list, a=[1]), lambda v: v["b"].append(3)),
    "counter": (collections.Counter("aab"), lambda v: v.update("b")),
    "bytearray": (bytearray(b"ab"), lambda v: v.extend(b"c")),
    "dataclass": (Output([1]), lambda v: v.value.append(2)),
    "attribute of a dataclass": (Output(1), lambda v: setattr(v, "value", 2)),
    "frozen dataclass": (Frozen([1]), lambda v: v.value.append(2)),
    "slots": (Slotted([1]), lambda v: v.value.append(2)),
    "instance": (Plain([1]), lambda v: v.value.append(2)),
    "namespace": (types.SimpleNamespace(a=[1]), lambda v: v.a.append(2)),
    "subclass of list": (Items([1], ["note"]), lambda v: v.note.append(2)),
    "items of a subclass of list": (Items([[1]], "note"), lambda v: v[0].append(2)),
    "user dict": (collections.UserDict(a=[1]), lambda v: v["a"].append(2)),
    "chain map": (collections.ChainMap({"a": [1]}), lambda v: v["a"].append(2)),
    "named tuple": (Pair([1], 2), lambda v: v.first.append(2)),
    "method": (types.MethodType(lambda self: self.value, Plain([1])), lambda v: v.__self__.value.append(2)),
}  # fmt: skip


def shown(value):
    """Say all that a value holds, for comparison."""
    if isinstance(value, types.MethodType):
        return shown(value.__self__)
    if isinstance(value, dict):
        return type(value), [(key, shown(item)) for key, item in value.items()], getattr(value, "__dict__", None)
    if isinstance(value, (list, tuple, collections.deque)):
        return type(value), [shown(item) for item in value], shown(getattr(value, "__dict__", 0))
    if isinstance(value, Slotted):
        return Slotted, shown(value.value)
    return (type(value), shown(vars(value))) if hasattr(value, "__dict__") else (type(value), repr(value))


@pytest.mark.parametrize("name", CHANGES)
def test_changing_a_result_changes_neither_the_next_one_nor_what_others_hold(name):
    value, change = copy.deepcopy(CHANGES[name][0]), CHANGES[name][1]
    before = shown(copy.deepcopy(value))
    kept = keep(value, ())
    assert kept.same == ""
    first = kept.give(())
    assert shown(first) == before
    for spoiled in (first, value):
        change(spoiled)
        assert shown(spoiled) != before
        assert shown(kept.give(())) == before
    assert shown(kept.value) == before


def test_what_is_one_object_in_a_result_is_one_in_every_copy():
    inner = [1]
    output = Output(inner, (inner, {"a": inner}))
    output.extra[1]["self"] = output
    back = given_back(output)
    assert back is not output
    assert back.value is back.extra[0] is back.extra[1]["a"] is not inner
    assert back.extra[1]["self"] is back


def test_a_tuple_that_contains_itself_through_a_list_comes_back_so():
    value = ([],)
    value[0].append(value)
    back = given_back(value)
    assert back[0][0] is back
    assert back[0] is not value[0]


def test_the_items_of_a_dictionary_that_are_attributes_too_stay_so():
    back = given_back(Named(logits=[1], states=([2],)))
    assert type(back) is Named
    assert back.logits is back["logits"]
    assert back.states[0] is back["states"][0]


def test_the_order_of_an_ordered_dictionary_is_kept():
    value = collections.OrderedDict(a=[1], b=[2])
    value.move_to_end("a")
    assert list(given_back(value)) == ["b", "a"]
    named = Named(a=[1], b=[2])
    named.move_to_end("a")
    assert list(given_back(named)) == ["b", "a"]


def test_a_result_may_be_nested_as_deeply_as_it_likes():
    value = []
    for _ in range(100_000):
        value = [value]
    kept = keep(value, ())
    back, depth = kept.give(()), 0
    while back:
        back, depth = back[0], depth + 1
    assert depth == 100_000
    while value:  # or freeing it would recurse as deeply
        value = value.pop()


def test_a_copy_does_not_run_init_and_leaves_unset_slots_unset():
    class Counted(Plain):
        made = 0

        def __init__(self, value):
            super().__init__(value)
            Counted.made += 1

    assert given_back(Counted([1])).value == [1]
    assert Counted.made == 1
    assert not hasattr(given_back(Slotted([1])), "unset")


def test_a_class_that_knows_how_it_is_copied_is_asked():
    class Own:
        def __init__(self, value):
            self.value = value

        def __deepcopy__(self, memo):
            return Own([*self.value, "copied"])

    kept = keep([Own([1])], ())
    assert kept.value[0].value == [1, "copied"]
    assert kept.give(())[0].value == [1, "copied", "copied"]


def test_what_fails_to_be_copied_comes_back_as_the_same_object_and_that_is_said():
    class Own:
        def __deepcopy__(self, memo):
            raise OSError("no")

    result = [Own()]
    kept = keep(result, ())
    assert kept.give(()) is result
    assert "of which a copy failed" in kept.same


PARTS = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.floats(allow_nan=False), st.binary(max_size=3))
VALUES = st.recursive(
    PARTS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=2), inner, max_size=4), inner.map(Output),
        st.tuples(inner, inner), st.builds(Pair, inner, inner), st.sets(st.integers(), max_size=3), inner.map(Slotted),
        st.lists(inner, max_size=3).map(collections.deque), st.binary(max_size=3).map(bytearray), inner.map(Frozen),
    ),
    max_leaves=20,
)  # fmt: skip


SEQUENCES = (list, tuple, collections.deque)


def changeable(value, found):
    """Collect the identities of all that can be changed in a value."""
    if isinstance(value, (list, dict, set, bytearray, collections.deque, Output, Slotted)):
        found.append(id(value))
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, SEQUENCES) else ()
    for part in [*inside, *([value.value] if isinstance(value, (Output, Slotted, Frozen)) else [])]:
        changeable(part, found)
    return found


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_copies_are_equal_and_share_nothing_that_can_be_changed(value):
    kept = keep(value, ())
    if type(kept) is not Kept:
        assert kept is value
        assert changeable(value, []) == []
        return
    one, two = kept.give(()), kept.give(())
    assert shown(one) == shown(two) == shown(value)
    held = [changeable(each, []) for each in (value, kept.value, one, two)]
    assert len({len(each) for each in held}) == 1
    assert sum(map(len, map(set, held))) == len(set().union(*held))


# -- what is not copied ------------------------------------------------------------------------------------------------


class Tokenizer:
    def __init__(self):
        self.words = {"a": 1}

    def __call__(self, text):
        return [self.words[word] for word in text]


class Client:
    def __init__(self):
        self.lock = threading.Lock()


def counter():
    seen = []
    return lambda: seen.append(1)


MACHINES = [
    lambda: torch.nn.Linear(2, 2), lambda: torch.optim.SGD([torch.ones(1)], 0.1), Tokenizer, Client, threading.Lock,
    lambda: logging.getLogger("memograd.test"), counter, lambda: ValueError("x"),
    lambda: types.MappingProxyType({}), lambda: {}.keys(), lambda: memoryview(b"ab"), lambda: weakref.ref(Color),
]  # fmt: skip


@pytest.mark.parametrize("make", MACHINES)
def test_what_cannot_be_copied_comes_back_as_the_same_object_and_that_is_said(make):
    machine = make()
    for value, path in ((machine, lambda v: v), ([machine, []], lambda v: v[0]), (Output(machine), lambda v: v.value)):
        kept = keep(value, ())
        assert type(kept) is Kept
        assert path(kept.give(())) is machine
        assert type(machine).__name__ in kept.same
        assert "same object" in kept.same
    assert keep([machine, []], ()).give(())[1] is not keep([machine, []], ()).give(())[1]


def test_keys_and_elements_of_sets_are_the_same_objects_wherever_they_are():
    node = Plain([1])
    kept = keep({node: [node], "set": {node}}, ())
    back = kept.give(())
    assert back[node] == [node]
    assert node in back["set"]
    assert "a Plain" in kept.same


@pytest.mark.parametrize("inside", [lambda v: v, lambda v: [v], lambda v: {"a": (1, v)}, Output])
@pytest.mark.parametrize("make", [lambda: iter([1]), lambda: (i for i in "ab"), lambda: map(str, "ab")])
def test_what_is_used_up_by_being_read_is_refused_with_advice(make, inside):
    with pytest.raises(Unkeepable, match="used up by being read; return a list"):
        keep(inside(make()), ())


def test_a_graph_is_refused():
    with pytest.raises(Unkeepable, match="requires grad"):
        keep([torch.ones(2, requires_grad=True) * 2], ())


def test_those_who_promise_get_the_object_itself():
    value = [1]
    assert keep(value, (), copy=False) is value
    with pytest.raises(Unkeepable, match="used up"):
        keep(iter(value), (), copy=False)


# -- tensors and arrays ------------------------------------------------------------------------------------------------


base = torch.arange(24.0).reshape(2, 3, 4)
TENSORS = {
    "dense": base, "transposed": base.transpose(0, 2), "with holes": base[:, 1:, ::2], "scalar": torch.tensor(3),
    "channels last": torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last), "offset": base.view(-1)[5:9],
    "expanded": torch.ones(3, 1).expand(3, 4), "empty": torch.empty(0, 3), "empty in strides": torch.empty(3, 0).t(),
    "bfloat16": base.bfloat16(), "bool": base > 3, "float8": base.to(torch.float8_e4m3fn),
    "complex": torch.complex(base, base), "conj": torch.complex(base, base).conj(),
    "neg": torch.complex(base, base).conj().imag, "size-1 strides": torch.ones(4, 1).as_strided((4, 1), (1, 77)),
    "meta": torch.empty(3, device="meta"), "overlapping": base.view(-1).unfold(0, 4, 2),
    "sparse": torch.eye(3).to_sparse(),
}  # fmt: skip


def facts(tensor):
    strided = tensor.layout is torch.strided
    return (
        type(tensor), tensor.dtype, tensor.device, tensor.shape, tensor.layout, tensor.is_conj(), tensor.is_neg(),
        tensor.requires_grad, tensor.is_inference(), strided and tensor.stride(), tensor._base is None,
    )  # fmt: skip


def bits(tensor):
    return tensor.to_dense().contiguous().resolve_neg().resolve_conj().view(-1).view(torch.uint8)


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_as_it_was_in_memory_of_its_own(name):
    tensor = TENSORS[name]
    kept = keep(tensor, ())
    backs = [kept.give(()), kept.give(())]
    for back in backs:
        assert facts(back)[:-1] == facts(tensor)[:-1]
        assert tensor.is_meta or torch.equal(bits(back), bits(tensor))
    if tensor.layout is torch.strided and tensor.numel() and not tensor.is_meta:
        assert len({each.data_ptr() for each in [tensor, kept.value, *backs]}) == 4
        assert backs[0]._base is None or backs[0].is_conj() or backs[0].is_neg()


def test_a_tensor_that_is_changed_in_any_way_changes_no_other():
    tensor = torch.zeros(4)
    kept = keep(tensor, ())
    for change in (
        lambda t: t.add_(1), lambda t: t.data.add_(1), lambda t: t.numpy().fill(1), lambda t: t.resize_(2),
        lambda t: t.untyped_storage().fill_(1), lambda t: t.requires_grad_(), lambda t: t.set_(torch.ones(3)),
    ):  # fmt: skip
        change(kept.give(()))
    change = tensor.numpy()
    change[:] = 7
    assert torch.equal(kept.give(()), torch.zeros(4))
    assert not kept.give(()).requires_grad


def test_tensors_that_share_memory_share_it_in_every_copy():
    whole = torch.arange(12.0).view(3, 4).clone()
    kept = keep({"whole": whole, "row": whole[1], "other": whole.t()[2:]}, ())
    back = kept.give(())
    back["row"].fill_(-1)
    assert back["whole"][1].eq(-1).all()
    assert back["other"][0, 1] == -1
    assert back["row"]._base is back["whole"]
    assert torch.equal(kept.give(())["whole"], torch.arange(12.0).view(3, 4))


def test_views_of_something_that_is_not_returned_share_memory_too():
    whole = torch.arange(12.0).view(3, 4)
    value = [whole[:2], whole[1:], whole.view(torch.int32)[1]]
    kept = keep(value, ())
    back = kept.give(())
    assert [facts(each)[:-1] for each in back] == [facts(each)[:-1] for each in value]
    back[0][1].zero_()
    assert back[1][0].eq(0).all()
    assert back[2].eq(0).all()
    assert torch.equal(kept.give(())[1], torch.arange(12.0).view(3, 4)[1:])


def test_the_same_tensor_twice_is_one_tensor_in_every_copy():
    tensor = torch.ones(2)
    back = given_back([tensor, {"again": tensor}])
    assert back[0] is back[1]["again"] is not tensor


class Tagged(torch.Tensor):
    pass


def test_subclasses_and_nested_tensors_come_back_as_they_were():
    tagged = torch.ones(3).as_subclass(Tagged)
    tagged.note = [1]
    back = given_back([tagged, tagged])
    assert back[0].note == [1]
    assert back[0].note is not tagged.note
    assert type(back[0]) is Tagged
    assert back[0] is back[1] is not tagged
    assert back[0].data_ptr() != tagged.data_ptr()
    nested = torch.nested.nested_tensor([torch.ones(2), torch.zeros(3)], layout=torch.jagged)
    back = given_back(nested)
    back.values().zero_()
    assert nested.values().sum() == 2


def test_what_torch_makes_of_named_fields_comes_back_so():
    back = given_back(torch.ones(2, 2).max(dim=1))
    assert type(back) is torch.return_types.max
    assert back.values.tolist() == [1, 1]


def test_a_packed_sequence_comes_back_as_one():
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.ones(3, 2, 4), torch.tensor([3, 2]))
    back = given_back(packed)
    assert type(back) is type(packed)
    assert torch.equal(back.data, packed.data)
    assert back.data is not packed.data


def test_a_parameter_and_attributes_of_tensors_are_kept():
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    assert type(given_back(parameter)) is torch.nn.Parameter
    tensor = torch.ones(2)
    tensor.note = [1]
    back = given_back(tensor)
    assert back.note == [1]
    assert back.note is not tensor.note


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_a_tensor_is_an_inference_tensor_exactly_if_the_function_made_one(inside, outside):
    with torch.inference_mode(inside):
        tensor = torch.ones(2)
    with torch.inference_mode(outside):
        assert given_back(tensor).is_inference() is inside


def test_the_copy_of_a_part_keeps_no_more_alive_than_the_part_spans():
    kept = keep(torch.zeros(1_000_000)[:10], ())
    assert sys.getsizeof(kept) < 10_000
    assert sys.getsizeof(keep([torch.zeros(1_000_000)], ())) > 4_000_000


array = np.arange(24.0).reshape(2, 3, 4)
sealed = np.arange(3)
sealed.flags.writeable = False
ARRAYS = {
    "dense": array, "transposed": array.T, "with holes": array[:, 1:, ::2], "backwards": array[::-1],
    "scalar": np.array(3), "expanded": np.broadcast_to(np.ones((3, 1)), (3, 4)), "empty": np.empty((0, 3)),
    "sealed": sealed, "text": np.array(["a", "bc"]), "structured": np.zeros(2, [("a", "i4"), ("b", "f8")]),
    "dates": np.array(["2026-01-01"], "M8[D]"), "big endian": np.arange(3, dtype=">i4"), "bool": array > 3,
    "unaligned": np.frombuffer(bytearray(9), np.uint8)[1:].view(np.float64),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_as_it_was_in_memory_of_its_own(name):
    value = ARRAYS[name]
    kept = keep(value, ())
    back, other = kept.give(()), kept.give(())
    assert (back.dtype, back.shape, back.flags.writeable) == (value.dtype, value.shape, value.flags.writeable)
    assert value.size == 0 or back.strides == value.strides
    assert back.tobytes() == value.tobytes()
    assert not any(np.shares_memory(back, each) for each in (value, other, kept.value))


def test_arrays_that_share_memory_share_it_in_every_copy():
    whole = np.arange(12.0)
    for value in ((whole, whole[3:6]), (whole[:6], whole[3:], whole.view(np.int32)[7:9])):
        kept = keep(value, ())
        back = kept.give(())
        back[1][:] = -1
        assert back[0][3:6].tolist() == [-1, -1, -1]
        assert [each.tobytes() for each in kept.give(())] == [each.tobytes() for each in value]
        assert not np.shares_memory(back[0], whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_hit_in_another_stream_waits_for_what_it_copies():
    tensor = torch.ones(1 << 20, device="cuda")
    torch.cuda._sleep(100_000_000)
    tensor.mul_(2)
    kept = keep(tensor, ())
    with torch.cuda.stream(torch.cuda.Stream()):
        back = kept.give(())
        assert back.eq(2).all()
    assert back.device == tensor.device


def test_the_objects_in_an_array_are_copied_too():
    back = given_back(value := np.array([[1], {"a": 2}, None], dtype=object))
    assert back.tolist() == value.tolist()
    assert back[0] is not value[0]


def test_a_tensor_and_an_array_over_the_same_memory_are_refused():
    tensor = torch.ones(3)
    with pytest.raises(Unkeepable, match="return one of them"):
        keep([tensor, tensor.numpy()], ())


# -- parts of the arguments --------------------------------------------------------------------------------------------


def test_a_result_that_is_an_argument_is_the_argument_of_the_hit():
    for make in (
        lambda: [1],
        lambda: torch.ones(2),
        lambda: np.ones(2),
        lambda: torch.nn.Linear(1, 1),
        lambda: Plain([1]),
    ):
        first, second = make(), make()
        kept = keep(first, (0, first))
        assert kept.give((0, second)) is second
        assert kept.same == ""


def test_a_part_of_an_argument_is_that_part_of_the_argument_of_the_hit():
    def make():
        return {"batch": [Output(torch.ones(2)), Slotted([1])]}, torch.nn.Linear(2, 2)

    first, second = make(), make()
    result = [first[0]["batch"][0].value, first[0]["batch"][1].value, [0], first[1].weight]
    with torch.no_grad():
        result[3] = first[1].bias.detach()
        back = given_back(result, first, second)
    assert back[0] is second[0]["batch"][0].value
    assert back[1] is second[0]["batch"][1].value
    assert back[2] == [0]
    assert back[2] is not result[2]
    assert back[3].data_ptr() == second[1].bias.data_ptr()


def test_the_store_keeps_no_argument_alive():
    argument = Plain([1])
    kept = keep([argument, argument.value, (argument, [2])], (argument,))
    alive = weakref.ref(argument)
    del argument
    gc.collect()
    assert alive() is None
    second = Plain([3])
    assert kept.give((second,)) == [second, second.value, (second, [2])]


def test_the_store_keeps_nothing_of_what_the_first_caller_has():
    value = (Plain([1]), types.MethodType(len, Plain([2])), Pair(Plain([3]), 1))
    alive = [weakref.ref(each) for each in (value[0], value[1].__self__, value[2].first)]
    kept = keep(value, ())
    del value
    gc.collect()
    assert [each() for each in alive] == [None, None, None]
    assert kept.give(())[2].first.value == [3]


VIEWS = [
    lambda t: t[1], lambda t: t.t(), lambda t: t[1:].unflatten(1, (2, 2)), lambda t: t[:, 1:3], lambda t: t.detach(),
    lambda t: t[1].detach(), lambda t: t.expand(2, 3, 4), lambda t: t.unsqueeze(0), lambda t: t.diagonal(),
]  # fmt: skip


LAYOUTS = [lambda x: x, lambda x: torch.stack([x, x], 2)[..., 0], lambda x: x.t().contiguous().t()]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("make", LAYOUTS)
def test_a_view_of_an_argument_is_that_view_of_the_argument_of_the_hit(view, make):
    first, second = (make(torch.arange(12.0).view(3, 4)) for _ in range(2))
    back, plain = given_back([view(first)], (first,), (second,))[0], view(second)
    assert facts(back) == facts(plain)
    assert back.data_ptr() == plain.data_ptr()
    second.fill_(7)
    assert torch.equal(back, plain)
    assert back._version == second._version


def test_a_view_between_the_elements_of_an_argument_is_refused():
    whole = torch.arange(12.0).view(3, 4)
    with pytest.raises(Unkeepable, match="shares the memory of an argument"):
        keep(whole[:, 1], (whole[:, ::2],))
    with pytest.raises(Unkeepable, match="return a copy"):
        keep(whole.view(torch.int32), (whole,))


def test_a_view_of_an_argument_that_is_laid_out_otherwise_is_computed():
    first = torch.arange(12.0).view(3, 4)
    kept = keep(first[1], (first,))
    assert kept.give((first.t().contiguous().t(),)) is MISSING
    assert kept.give((torch.ones(5, 4),)) is MISSING


@pytest.mark.parametrize("view", [lambda a: a[1], lambda a: a.T, lambda a: a[::-1, 1:3], lambda a: a.view(np.int32)[0]])
def test_a_view_of_an_array_is_that_view_of_the_array_of_the_hit(view):
    first, second = (np.arange(12.0).reshape(3, 4) for _ in range(2))
    back, plain = given_back((view(first),), (first,), (second,))[0], view(second)
    assert (back.dtype, back.shape, back.strides) == (plain.dtype, plain.shape, plain.strides)
    second[:] = 7
    assert back.tobytes() == plain.tobytes()
    assert back.__array_interface__["data"] == plain.__array_interface__["data"]


def test_an_argument_that_was_given_twice_does_not_say_which_was_returned():
    one, two, three = [1], [1], [1]
    kept = keep([one], (one, one))
    assert kept.give((two, two))[0] is two
    assert kept.give((two, three)) is MISSING
    inside = keep(one, ([one],) * 2)
    assert inside.give(([two], [two])) is MISSING


def test_arguments_that_lead_nowhere_are_computed():
    first = {"a": [1]}
    kept = keep([first["a"]], (first,))
    assert kept.give(({"b": [1]},)) is MISSING
    assert kept.give(({"a": (1,)},)) is MISSING
    assert kept.give(()) is MISSING


# -- what a call has changed -------------------------------------------------------------------------------------------


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(x)


TENSOR = ("x", lambda: torch.zeros(3))
BATCH = ("x", lambda: {"ids": [1, 2], "mask": torch.zeros(3), "more": (np.zeros(2), {"deep": [[1]]})})
CHANGED = [
    (*TENSOR, lambda x: x.add_(1), "x"),
    (*TENSOR, lambda x: x.data.add_(1), "x"),
    (*TENSOR, lambda x: x.numpy().fill(1), "x"),
    (*BATCH, lambda x: x["mask"].add_(1), 'x["mask"]'),
    (*BATCH, lambda x: x["ids"].append(3), "x"),
    (*BATCH, lambda x: x["ids"].__setitem__(1, 5), 'x["ids"][1]'),
    (*BATCH, lambda x: x.update(ids=[2]), 'x["ids"]'),
    (*BATCH, lambda x: x["more"][0].fill(1), "x"),
    (*BATCH, lambda x: x["more"][1]["deep"].__setitem__(0, 2), 'x["more"][1]["deep"][0]'),
    (*BATCH, lambda x: x.pop("ids"), "x"),
    ("data", lambda: bytearray(b"ab"), lambda x: x.extend(b"c"), "data"),
    ("out", lambda: Output(torch.zeros(2)), lambda x: x.value.add_(1), "out.value"),
    ("found", lambda: {1, 2}, lambda x: x.add(3), "found"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "change", "said"), CHANGED)
def test_what_a_call_has_changed_is_named(name, make, change, said):
    values = [3, make(), "text", [1]]
    before = witness(values, ["n", name, "s", "other"])
    assert before.changed() is None
    change(values[1])
    assert before.changed() == said


def test_the_buffers_and_gradients_of_a_module_that_change_are_named():
    model = Model()
    with torch.no_grad():
        before = witness([model], ["model"])
        assert before.changed() is None
        model.eval()(torch.ones(4, 2))
        model.train()
        assert before.changed() is None
        model(torch.ones(4, 2))
    assert before.changed().startswith("model.norm.")
    before = witness([model], ["model"])
    model(torch.ones(4, 2)).sum().backward()
    assert before.changed().startswith("model.norm.")


def test_a_gradient_that_is_left_in_an_argument_is_a_change():
    weight = torch.ones(2, requires_grad=True)
    before = witness([[weight]], ["weights"])
    (weight * 2).sum().backward()
    assert before.changed() == "weights[0]"


def test_what_is_equal_again_at_the_end_is_no_change():
    value = {"a": [1]}
    before = witness([value], ["x"])
    value["a"].append(2)
    value["a"].pop()
    value["a"] = [1]
    assert before.changed() is None


def test_streams_and_what_cannot_be_changed_are_not_looked_at():
    import random

    stream, generator, np_generator = random.Random(1), torch.Generator(), np.random.default_rng(1)
    before = witness([stream, generator, np_generator, 1, (2, "a")], list("abcde"))
    stream.random()
    torch.rand(1, generator=generator)
    np_generator.random()
    assert before.changed() is None


def test_contents_that_are_known_are_not_made_again(monkeypatch):
    from memograd._copies import _witness
    from memograd.fingerprint._content import identify

    value = [1, [2]]
    contents = [identify(value)]
    asked = []
    monkeypatch.setattr(_witness, "identify", lambda value, mode: asked.append(value) or identify(value, mode))
    before = witness([value], ["x"], contents)
    assert asked == []
    assert before.changed() is None
    value[1].append(3)
    assert before.changed() == "x"


# -- without libraries -------------------------------------------------------------------------------------------------


def test_results_are_copied_without_torch_and_numpy():
    import subprocess

    program = (
        "import sys\nsys.modules.update(dict.fromkeys(('torch', 'numpy')))\n"
        "from memograd._copies._keep import keep\n"
        "value = [1, [2]]\nkept = keep(value, ())\nkept.give(())[1].append(3)\nassert kept.give(()) == [1, [2]]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
