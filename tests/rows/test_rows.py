"""Equal rows are computed once, rows of other calls not at all, and what comes back is what the function gives."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from tests.rows.models import CASES, UNFIT, Counting, Mean, encoder, frozen, images, mlp, sequences, vectors
from torch import nn

from memograd import Memo, MemogradWarning, Shared


def rows(f, **how):
    return Memo().rows(f, **how)


def grads(module, loss):
    module.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in module.parameters()]


@pytest.mark.parametrize("case", CASES)
def test_gradients_to_weights_are_those_of_the_plain_program(case):
    make, batch = CASES[case]
    module = make().eval()
    x = batch(8)[torch.tensor([0, 1, 2, 3, 4, 5, 6, 7] * 4)]
    by = torch.randn(module(x).shape)
    mine = rows(module)
    found = grads(module, (mine(x) * by).sum())
    assert (mine.receipt.engine, mine.receipt.rows, mine.receipt.computed) == ("share", 32, 8)
    for one, other in zip(found, grads(module, (module(x) * by).sum()), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_rows_of_other_calls_are_not_computed_and_have_the_same_bits(case):
    make, batch = CASES[case]
    module = frozen(make())
    x = batch(40)
    mine = rows(module)
    first = mine(x)
    torch.testing.assert_close(first, module(x))
    again = mine(torch.cat([x[5:35], batch(10, seed=1)]))
    assert (mine.receipt.hits, mine.receipt.computed, mine.receipt.engine) == (30, 10, "recall")
    assert torch.equal(again[:30], first[5:35])
    torch.testing.assert_close(again[30:], module(batch(10, seed=1)))


def test_equal_rows_that_are_not_known_are_computed_once():
    mine = rows(frozen(mlp()))
    mine(vectors(8).repeat(4, 1))
    assert (mine.receipt.rows, mine.receipt.distinct, mine.receipt.hits, mine.receipt.computed) == (32, 8, 0, 8)


def test_double_backward_is_that_of_the_plain_program():
    module = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    x = vectors(4).double().repeat(3, 1)

    def twice(f):
        module.zero_grad()
        (grad,) = torch.autograd.grad(f(x).square().sum(), [module[0].weight], create_graph=True)
        grad.square().sum().backward()
        return module[2].weight.grad.clone()

    torch.testing.assert_close(twice(rows(module)), twice(module))


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_what_is_no_function_of_the_row_is_called_plainly(name):
    module, plain = UNFIT[name](), UNFIT[name]()
    plain.load_state_dict(module.state_dict())
    mine = rows(module)
    for _ in range(2):
        x, y = vectors(8).repeat(8, 1), vectors(8).repeat(8, 1)
        torch.manual_seed(1)
        expected = plain(x)
        after = torch.get_rng_state()
        torch.manual_seed(1)
        found = mine(y)
        assert torch.equal(torch.get_rng_state(), after)
        for one, other in zip((found, y), (expected, x), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert mine.receipt.engine == "plain"
        assert mine.receipt.reason


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_a_function_around_what_is_no_function_of_the_row_is_called_plainly(name):
    module, plain = UNFIT[name](), UNFIT[name]()
    plain.load_state_dict(module.state_dict())
    mine = rows(lambda t: module(t))
    for seed in range(2):
        x, y = (vectors(8, seed).repeat(8, 1) for _ in range(2))
        torch.manual_seed(1)
        expected = plain(x)
        torch.manual_seed(1)
        torch.testing.assert_close(mine(y), expected, rtol=0, atol=0)
        assert mine.receipt.engine == "plain"


def test_a_trial_is_made_on_a_copy():
    module = Counting()
    with pytest.warns(MemogradWarning, match="changes what it reads"):
        rows(module)(vectors(32))
    assert module.calls == 1


def test_a_function_that_keeps_a_log_is_called_as_often_as_the_plain_one():
    log = []

    def logging(x):
        log.append(len(x))
        return 2 * x

    mine = rows(logging)
    with pytest.warns(MemogradWarning, match="changes what it reads"):
        mine(vectors(20))
    mine(vectors(20))
    assert log == [20, 20]


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_whether_rows_are_mixed_is_asked_for_each_mode():
    module = Mean()
    module.across = False
    mine = rows(module)
    mine(vectors(4).repeat(8, 1))
    assert mine.receipt.engine == "share"
    module.across = True
    mine(vectors(4).repeat(8, 1))
    assert mine.receipt.engine == "plain"


TRAINING = {
    "dropout": (lambda: nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.5)), "1 (Dropout) draws"),
    "batch statistics": (lambda: nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8)), "1 (BatchNorm1d) normalizes"),
    "attention with dropout": (lambda: nn.TransformerEncoderLayer(16, 2, 8, batch_first=True), "draws"),
}


@pytest.mark.parametrize("case", TRAINING)
@pytest.mark.parametrize("weights", [True, False])
def test_in_train_mode_what_draws_or_takes_statistics_is_called_plainly(case, weights):
    make, reason = TRAINING[case]
    torch.manual_seed(0)
    module = make().requires_grad_(weights)
    x = (sequences if "attention" in case else vectors)(4).repeat(4, *[1] * ("attention" in case), 1)
    mine = rows(module)
    torch.manual_seed(1)
    with pytest.warns(MemogradWarning, match="computed plainly"):
        found = mine(x)
    assert reason in mine.receipt.reason
    assert mine.receipt.engine == "plain"
    state = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(1)
    torch.testing.assert_close(found, module(x), rtol=0, atol=0)
    if "running" in str(list(state)):
        assert state["1.num_batches_tracked"] == 1


def test_batch_statistics_in_eval_mode_are_found_too():
    module = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8, track_running_stats=False)).eval()
    with pytest.warns(MemogradWarning, match="has no statistics but the batch's"):
        rows(module)(vectors(32))


def test_hooks_are_called_as_by_the_plain_program():
    module, seen = frozen(mlp()), []
    mine = rows(module)
    mine(vectors(8))
    handle = module[0].register_forward_hook(lambda *_: seen.append(1))
    with pytest.warns(MemogradWarning, match="has hooks"):
        mine(vectors(8))
    assert len(seen) == 1
    handle.remove()
    mine(vectors(8))
    assert mine.receipt.hits == 8


def test_rows_that_require_grad_have_gradients_of_their_own():
    module = mlp()
    x = vectors(4).repeat(2, 1).requires_grad_()
    mine = rows(module)
    with pytest.warns(MemogradWarning, match="gradient of its own"):
        (mine(x) * torch.arange(8.0)[:, None]).sum().backward()
    assert not torch.allclose(x.grad[:4], x.grad[4:])


def test_an_exception_of_the_function_is_the_plain_one():
    mine = rows(frozen(mlp()))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        mine(torch.ones(8, 3))
    assert mine(vectors(8)).shape == (8, 8)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_small_batches(n):
    module = frozen(mlp())
    mine = rows(module)
    for _ in range(2):
        torch.testing.assert_close(mine(vectors(n)), module(vectors(n)))


def test_rows_are_told_apart_by_their_bits():
    mine = rows(lambda t: 1 / t)
    x = torch.tensor([[0.0], [-0.0], [float("nan")], [1.0]])
    for _ in range(2):
        y = mine(x)
        assert y[:2].flatten().tolist() == [float("inf"), float("-inf")]
        assert y[2].isnan().all()


def test_identifiers_of_another_type_are_other_rows():
    mine = rows(nn.Embedding(10, 4).requires_grad_(False))
    ids = torch.tensor([1, 2, 3])
    mine(ids)
    mine(ids.int())
    assert mine.receipt.hits == 0
    mine(ids)
    assert mine.receipt.hits == 3


def test_layouts_of_a_batch_are_one_and_layouts_of_images_two():
    mine, conv = rows(frozen(mlp())), frozen(nn.Conv2d(3, 8, 3))
    x = vectors(20)
    mine(x.t().contiguous().t())
    mine(x)
    assert mine.receipt.hits == 20
    mine = rows(conv)
    for x in (images(4), images(4).to(memory_format=torch.channels_last)):
        for _ in range(2):
            y = mine(x)
            torch.testing.assert_close(y, conv(x))
            assert y.stride() == conv(x).stride()


def test_a_caller_may_change_what_it_is_given():
    mine = rows(frozen(mlp()))
    x = vectors(10)
    expected = mine(x).clone()
    mine(x).zero_()
    assert torch.equal(mine(x), expected)


def test_modes_are_told_apart():
    module = frozen(mlp())
    mine = rows(module)
    x = vectors(10)
    mine(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert mine(x).dtype == torch.bfloat16
        assert mine.receipt.hits == 0
    with torch.inference_mode():
        assert mine(x).is_inference()
        assert mine(x).is_inference()
    y = mine(x)
    assert not y.is_inference()
    assert mine.receipt.hits == 10


def test_a_function_of_arrays_gives_arrays():
    mine = rows(lambda a: {"twice": 2 * a})
    a = np.arange(12.0).reshape(4, 3)
    for _ in range(2):
        y = mine(a)["twice"]
        assert isinstance(y, np.ndarray)
        assert (y == 2 * a).all()
    assert mine.receipt.hits == 4


def test_rows_may_be_in_another_dimension():
    module = frozen(nn.TransformerEncoderLayer(16, 2, 32))
    mine = rows(module, dim=1)
    x = sequences(6).transpose(0, 1).contiguous()
    for _ in range(2):
        y = mine(x)
        torch.testing.assert_close(y, module(x))
        assert y.stride() == module(x).stride()
    assert (mine.receipt.rows, mine.receipt.hits) == (6, 6)


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_static_arguments_are_a_part_of_the_key():
    def shifted(x, by):
        return x + by.sum()

    mine = rows(shifted)
    mine(vectors(5), torch.ones(3))
    assert "static" in mine.receipt.reason
    mine = rows(shifted, static="by")
    mine(vectors(5), torch.ones(3))
    mine(vectors(5), by=torch.zeros(3))
    assert mine.receipt.hits == 0
    torch.testing.assert_close(mine(vectors(5), torch.ones(3)), vectors(5) + 3)
    assert mine.receipt.hits == 5


def test_texts_are_rows():
    def lengths(texts):
        return torch.tensor([[float(len(text))] for text in texts])

    mine = rows(lengths)
    mine(["a", "bb", "a"])
    assert mine(("bb", "ccc")).flatten().tolist() == [2, 3]
    assert (mine.receipt.hits, mine.receipt.computed) == (1, 1)


def test_what_is_shared_already_passes_without_a_look():
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
    embedding, head = nn.Embedding(5, 16), nn.Linear(16, 3)
    s = Shared.prefixes(ids).map(embedding)
    mine = rows(head)
    out = mine(s)
    assert (mine.receipt.rows, mine.receipt.computed) == (6, 4)
    found = grads(head, out.dense().square().sum())
    for one, other in zip(found, grads(head, head(embedding(ids)).square().sum()), strict=True):
        torch.testing.assert_close(one, other)


def test_what_draws_draws_for_every_position_of_what_is_shared():
    s = Shared.prefixes(torch.ones(1, 1000, dtype=torch.long).expand(2, 1000)).map(nn.Embedding(2, 8))
    out = rows(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)))(s).dense()
    assert not torch.equal(out[0] == 0, out[1] == 0)


def test_threads_get_what_they_ask_for():
    module = frozen(mlp())
    mine, x = rows(module), vectors(64)
    expected, wrong = mine(x), []

    def ask(seed):
        numbers = torch.Generator().manual_seed(seed)
        for _ in range(30):
            at = torch.randint(0, 64, (20,), generator=numbers)
            if not torch.equal(mine(x[at]), expected[at]):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_within_so_many_bytes():
    mine = rows(frozen(mlp()), max_bytes=50 * 200)
    for seed in range(20):
        torch.testing.assert_close(mine(vectors(16, seed)), mine.__wrapped__(vectors(16, seed)))
        assert mine.stats().nbytes <= 50 * 200


def test_rows_are_forgotten():
    mine = rows(frozen(mlp()))
    x = vectors(10)
    mine(x)
    assert mine.forget(x[:3]) == 3
    assert mine.forget(x[:3]) == 0
    y = mine(x)
    assert (mine.receipt.hits, mine.receipt.computed) == (7, 3)
    torch.testing.assert_close(y, mine.__wrapped__(x))
    mine.cache_clear()
    assert mine.stats().held == 0


def test_a_traced_call_is_the_plain_one():
    module = frozen(mlp())
    mine = rows(module)
    torch.testing.assert_close(torch.func.vmap(mine)(vectors(4)), module(vectors(4)))
    assert mine.receipt is None


def test_a_bare_encoder_layer_is_the_plain_one_in_every_batch():
    module = frozen(encoder())
    mine = rows(module)
    x = sequences(33)
    y = mine(x)
    for row in range(0, 33, 8):
        assert torch.equal(mine(x[row : row + 1])[0], y[row])


def test_states_of_a_module_share_the_bytes():
    module = frozen(mlp())
    mine = rows(module, max_bytes=100 * 200)
    for _ in range(12):
        module[0].weight.data.add_(0.1)
        mine(vectors(60))
        assert mine.stats().nbytes <= 100 * 200
    assert mine.receipt.hits == 0
    mine(vectors(60))
    assert mine.receipt.hits == 60


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_what_mixes_rows_in_great_batches_alone_is_seen_in_great_batches():
    class Great(nn.Module):
        def forward(self, x):
            return 2 * x + (x.mean() if len(x) > 300 else 0)

    mine = rows(Great())
    mine(vectors(40))
    x = vectors(400)
    for _ in range(2):
        torch.testing.assert_close(mine(x), mine.__wrapped__(x))
        assert mine.receipt.engine == "plain"


def test_rows_of_a_module_that_remembers_its_calls_are_the_modules():
    module = frozen(mlp())
    assert rows(Memo()(module)).__wrapped__ is module


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
@pytest.mark.parametrize("trains", [True, False])
def test_a_generator_that_is_an_argument_moves_as_by_the_plain_call(trains):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(16, 4).requires_grad_(trains)

        def forward(self, x, generator):
            return self.inner(x + torch.rand(x.shape, generator=generator))

    module, x = Noisy(), vectors(4).repeat(2, 1)
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    mine = rows(module)
    for _ in range(2):
        assert torch.equal(mine(x, one), module(x, other))
        assert torch.equal(one.get_state(), other.get_state())


def test_parametrized_weights_are_shared():
    module = nn.utils.parametrizations.weight_norm(nn.Linear(16, 8))
    mine, x = rows(module), vectors(4).repeat(2, 1)
    found = grads(module, mine(x).square().sum())
    assert mine.receipt.engine == "share"
    for one, other in zip(found, grads(module, module(x).square().sum()), strict=True):
        torch.testing.assert_close(one, other)
