import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from memograd import Memo

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "looked",
    "at",
    "seven",
    "small",
    "birds",
    "that",
    "flew",
    "over",
    "trees",
    "near",
    "our",
    "house",
    "today",
]
TEXTS = [
    "the cat",
    "the cat sat on a mat",
    " ".join(WORDS),
    "seven small birds",
    " ".join(WORDS * 2),
    "the cat",
    "birds flew over trees near our house and the cat looked",
]


def tokenizer():
    vocabulary = {word: k for k, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids, attention_mask, token_type_ids=None):  # noqa: ARG002
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)


def encoder() -> nn.Module:
    return Encoder().requires_grad_(False).eval()


def features(model: nn.Module | None = None, **how: object):
    model = encoder() if model is None else model
    return Memo().rows(model, tokenizer=tokenizer(), always=True, **how)


def plain(model: nn.Module, texts: list[str]) -> torch.Tensor:
    return model(**tokenizer()(texts, padding=True, return_tensors="pt"))


def test_texts_come_back_in_their_order() -> None:
    by_text = features()
    assert torch.allclose(by_text(TEXTS), plain(by_text.__wrapped__, TEXTS), atol=1e-5)


def test_a_second_call_computes_nothing() -> None:
    by_text = features()
    first = by_text(TEXTS)
    assert (by_text.receipt.rows, by_text.receipt.distinct, by_text.receipt.computed) == (7, 6, 6)
    assert torch.equal(by_text(TEXTS[::-1]), first.flip(0))
    assert (by_text.receipt.hits, by_text.receipt.computed) == (6, 0)


def test_companions_do_not_change_a_rows_bits_whatever_their_length() -> None:
    alone = features()(["the cat"] * 1)
    for companions in (TEXTS, TEXTS[4:], ["the cat", WORDS[0]]):
        at = companions.index("the cat")
        assert torch.equal(features()(companions)[at], alone[0])


def test_what_padding_rounds_is_measured_and_said() -> None:
    by_text = features()
    by_text(TEXTS)
    assert by_text.receipt.exact == "rounding"
    assert 0 <= by_text.receipt.error < 1e-5
    assert "each padded to its own" in by_text.receipt.reason


def test_gradients_to_weights_are_those_of_the_plain_program() -> None:
    model = Encoder().eval().double()
    by_text = features(model)
    by_text(TEXTS).square().sum().backward()
    ours = [p.grad for p in model.parameters()]
    model.zero_grad()
    plain(model, TEXTS).square().sum().backward()
    for mine, theirs in zip(ours, model.parameters(), strict=True):
        assert (mine is None) == (theirs.grad is None)
        assert mine is None or torch.allclose(mine, theirs.grad, atol=1e-9)


def test_a_tokenizer_that_was_changed_gives_other_rows() -> None:
    words = tokenizer()
    by_text = Memo().rows(encoder(), tokenizer=words, always=True)
    by_text(["dogs"])
    words.add_tokens(["dogs"])
    y = by_text(["dogs"])
    assert by_text.receipt.computed == 1
    assert torch.allclose(y, by_text.__wrapped__(**words(["dogs"], return_tensors="pt")), atol=1e-5)


def test_results_as_long_as_the_texts_are_computed_plainly() -> None:
    model = Encoder().requires_grad_(False).eval()
    by_text = features(model.bert)
    with pytest.warns(UserWarning, match="give a model that gives one vector a text"):
        y = by_text(TEXTS)
    assert y.last_hidden_state.shape[:2] == (7, 2 * len(WORDS))
    assert by_text.receipt.engine == "plain"


def test_texts_may_be_filled_and_forgotten() -> None:
    by_text = features()
    assert by_text.fill(TEXTS, batch_size=3).samples == len(TEXTS)
    by_text(TEXTS)
    assert by_text.receipt.hits == 6
    assert by_text.forget(["the cat"]) == 1


def test_no_text_is_longer_than_it_may_be() -> None:
    by_text = features(max_length=5)
    assert torch.equal(by_text([" ".join(WORDS)]), by_text([" ".join(WORDS[:5])]))


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ({"tokenizer": 3}, TypeError, "AutoTokenizer"),
        ({"tokenizer": tokenizer(), "max_length": 0}, ValueError, "max_length=128"),
        ({"tokenizer": tokenizer(), "frozen": True}, TypeError, "leave one out"),
    ],
)
def test_options_that_do_not_fit_are_refused(how, kind, said) -> None:
    with pytest.raises(kind, match=said):
        Memo().rows(encoder(), **how)


def test_what_is_no_list_of_texts_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a list of texts"):
        features()(torch.ones(2, 3))


class Pooled(nn.Module):
    def __init__(self, pool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.linear, self.pool = nn.Embedding(32, 8), nn.Linear(8, 8), pool

    def forward(self, input_ids, attention_mask, token_type_ids=None):  # noqa: ARG002
        return self.pool(self.linear(self.embedding(input_ids)))


def last(x):
    return x[:, -1]


def mean(x):
    return x.mean(1)


def dropped(x):
    return nn.functional.dropout(x[:, 0])


@pytest.mark.parametrize("pool", [last, mean, dropped])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]])
@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_a_model_that_padding_changes_is_called_plainly_and_draws_as_it_would(pool, texts) -> None:
    model = Pooled(pool)
    by_text = features(model)
    for seed in range(2):
        torch.manual_seed(seed)
        ours, drawn = by_text(texts), torch.get_rng_state()
        torch.manual_seed(seed)
        assert torch.equal(ours, plain(model, texts))
        assert torch.equal(drawn, torch.get_rng_state())
        assert by_text.receipt.engine == "plain"


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_the_side_that_is_padded_counts_and_may_be_changed() -> None:
    words, model = tokenizer(), encoder()
    by_text = Memo().rows(model, tokenizer=words, always=True)
    words.padding_side = "left"
    assert torch.equal(by_text(TEXTS), model(**words(TEXTS, padding=True, return_tensors="pt")))
    assert "depends on how far it is padded" in by_text.receipt.reason
    words.padding_side = "right"
    assert torch.allclose(by_text(TEXTS), plain(model, TEXTS), atol=1e-5)
    assert by_text.receipt.engine == "recall"


@pytest.mark.filterwarnings("ignore::memograd.MemogradWarning")
def test_a_model_that_padding_changes_is_called_plainly_where_its_rows_are_stored_too(tmp_path) -> None:
    model = Pooled(mean).eval().requires_grad_(False)
    for _ in range(2):
        by_text = Memo(tmp_path).rows(model, tokenizer=tokenizer(), always=True)
        assert torch.equal(by_text(TEXTS), plain(model, TEXTS))
