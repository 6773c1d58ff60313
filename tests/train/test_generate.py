from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmprep.tokenizer import Tokenizer, load
from glmtrain import model, precision
from glmtrain.generate import Decoder, Sampler, Sampling, Speaker
from glmtrain.settings import Precision
from hypothesis import given, settings
from hypothesis import strategies as st

VOCABULARY = 320
PROMPT = [301, 302, 5, 17, 99, 303]
LIKELY = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


@pytest.fixture(scope="module")
def speaker(small_model: Path) -> Speaker:
    chosen = precision.choose(Precision(dtype="fp32"), torch.device("cpu"))
    with model.quiet_libraries():
        causal = model.load(str(small_model), torch.float32).eval()
    return Speaker(causal=causal, precision=chosen, vocabulary=VOCABULARY)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load()


def said(speaker, sampling=None, *, stops=(), most=24, prompt=PROMPT):
    sampler = Sampler(sampling or Sampling())
    return list(speaker.tokens(prompt, sampler, stops=stops, most=most))


def draws(count=400, scores=LIKELY, **sampling):
    sampler = Sampler(Sampling(**sampling))
    return Counter(sampler(scores) for _ in range(count))


# ---------------------------------------------------------------- tokens of a model


def test_tokens_read_from_the_cache_are_those_of_reading_everything_again(speaker):
    ids = list(PROMPT)
    with torch.inference_mode():
        for _ in range(24):
            scores = speaker.causal(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            ids.append(int(scores.argmax()))
    assert said(speaker) == ids[len(PROMPT) :]
    assert len(set(ids)) > 5


def test_each_token_is_read_once(speaker, monkeypatch):
    read, plain = [], Speaker._read

    def counted(self, ids, cache):
        read.append(len(ids))
        return plain(self, ids, cache)

    monkeypatch.setattr(Speaker, "_read", counted)
    said(speaker, most=5)
    assert read == [len(PROMPT), 1, 1, 1, 1]


def test_an_answer_ends_with_its_first_stop_and_never_beyond_its_limit(speaker):
    free = said(speaker)
    assert len(free) == 24
    stop = free[7]
    ended = said(speaker, stops={stop})
    assert ended == free[: free.index(stop) + 1]
    assert said(speaker, most=3) == free[:3]


def test_ids_without_a_meaning_are_never_chosen(speaker):
    narrow = Speaker(causal=speaker.causal, precision=speaker.precision, vocabulary=40)
    sampling = Sampling(temperature=5.0)
    assert max(said(narrow, sampling, most=60)) < 40 <= max(said(speaker, sampling, most=60))


def test_bf16_answers_too(small_model):
    chosen = precision.choose(Precision(dtype="bf16"), torch.device("cpu"))
    with model.quiet_libraries():
        causal = model.load(str(small_model), torch.bfloat16).eval()
    narrow = Speaker(causal=causal, precision=chosen, vocabulary=VOCABULARY)
    assert len(said(narrow, Sampling(temperature=1.0), most=8)) == 8


# ---------------------------------------------------------------- choosing a token


def test_the_same_seed_draws_the_same_tokens_and_another_others(speaker):
    one, same, other = (said(speaker, Sampling(temperature=2.0, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


def test_without_temperature_the_likeliest_token_is_taken():
    assert draws(temperature=0, top_k=3, seed=9) == {0: 400}


def test_draws_follow_the_probabilities():
    found = draws(4000, temperature=1.0)
    for token, likely in enumerate(LIKELY.exp().tolist()):
        assert abs(found[token] / 4000 - likely) < 4 * math.sqrt(likely * (1 - likely) / 4000)


def test_a_low_temperature_sharpens_and_a_high_one_flattens():
    cold, warm, hot = (draws(1000, temperature=t)[0] for t in (0.2, 1.0, 50.0))
    assert cold > 900 > warm > 400 > hot


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.01}, {0}),
        ({"top_p": 0.49}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"top_p": 1.0}, {0, 1, 2, 3}),
        ({"top_k": 2, "top_p": 0.7}, {0, 1}),
        ({"top_k": 2, "top_p": 0.6}, {0}),
    ],
)
def test_only_the_likeliest_are_drawn_from(limits, allowed):
    assert set(draws(temperature=1.0, **limits)) == allowed


def test_scores_that_are_no_numbers_are_refused_with_advice():
    with pytest.raises(InputError, match=r"not a number; .*--dtype fp32"):
        Sampler(Sampling())(torch.tensor([0.0, math.nan]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1.0}, "--temperature -1.0"),
        ({"temperature": math.nan}, "--temperature nan"),
        ({"temperature": math.inf}, "--temperature inf"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"top_p": 1.5}, "--top-p 1.5"),
        ({"top_k": -1}, "--top-k -1"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**wrong)


# ---------------------------------------------------------------- text of tokens


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 151342), max_size=30))
def test_text_comes_in_pieces_that_join_to_the_whole(tokenizer, ids):
    decoder = Decoder(tokenizer)
    pieces = [decoder.add(token) for token in ids]
    assert "".join(pieces) + decoder.rest() == tokenizer.decode(ids)


def test_a_character_of_several_tokens_comes_whole(tokenizer):
    text = "𠮷野家 👩‍👩‍👧 ok"
    ids = tokenizer.encode(text)
    decoder = Decoder(tokenizer)
    pieces = [decoder.add(token) for token in ids]
    assert "".join(pieces) == text
    assert len(ids) > len([piece for piece in pieces if piece])
    assert not any("\ufffd" in piece for piece in pieces)
