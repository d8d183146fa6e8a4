"""Tokenizers and configs of Hugging Face, and models with a config."""

from __future__ import annotations

import copy
import warnings
from importlib import import_module

import pytest

from memograd.fingerprint import fingerprint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = import_module("transformers")
    tokenizers = import_module("tokenizers")
    import_module("torch")

pytestmark = pytest.mark.filterwarnings("ignore")
UNKNOWN, PADDING = "[UNK]", "[PAD]"
WORDS = {UNKNOWN: 0, PADDING: 1, "a": 2, "b": 3}


def backend(words=WORDS):
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token=UNKNOWN))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made


def fast(words=WORDS, **options):
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend(words), unk_token=UNKNOWN, pad_token=PADDING, **options
    )


def test_a_tokenizer_is_its_rules():
    assert fingerprint(backend()) == fingerprint(backend())
    assert fingerprint(backend()) != fingerprint(backend({**WORDS, "c": 4}))


def test_a_fast_tokenizer_is_its_rules_and_its_settings():
    assert fingerprint(fast()) == fingerprint(fast()) == fingerprint(copy.deepcopy(fast()))
    different = [fast(), fast({**WORDS, "c": 4}), fast(model_max_length=7), fast(padding_side="left"), backend()]
    assert len({fingerprint(tokenizer) for tokenizer in different}) == len(different)


def test_a_tokenizer_that_is_used_stays_what_it_is():
    tokenizer = fast()
    before = fingerprint(tokenizer)
    tokenizer(["a b", "a"], padding=True, truncation=True, max_length=5)
    assert fingerprint(tokenizer) == before
    tokenizer.add_tokens(["c"])
    assert fingerprint(tokenizer) != before


def config(**changes):
    options = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    return transformers.LlamaConfig(**{**options, "intermediate_size": 8, "vocab_size": 11, **changes})


def test_a_config_is_its_settings():
    assert fingerprint(config()) == fingerprint(config())
    different = [config(), config(hidden_size=4), config(rope_theta=7.0), transformers.GPT2Config()]
    assert len({fingerprint(each) for each in different}) == len(different)


def model(seed=0, **changes):
    transformers.set_seed(seed)
    return transformers.LlamaForCausalLM(config(**changes))


def test_a_model_is_its_weights_and_its_config():
    assert fingerprint(model()) == fingerprint(model())
    assert (
        len({fingerprint(each) for each in (model(), model(1), model().eval(), model(tie_word_embeddings=True))}) == 4
    )


def test_a_model_that_is_used_stays_what_it_is():
    import torch

    used = model().eval()
    before = fingerprint(used)
    with torch.no_grad():
        used.generate(torch.tensor([[1, 2]]), max_new_tokens=2, do_sample=False)
    assert fingerprint(used) == before
