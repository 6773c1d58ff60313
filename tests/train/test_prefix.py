from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from glmprep.errors import InputError, UsageError
from glmtrain import model, precision, prefix, prefix_attention
from glmtrain.adapters import CONFIGURATION, WEIGHTS
from glmtrain.generate import Sampler, Sampling, Speaker
from glmtrain.settings import Precision, Prefix
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from tests.train import models

TOKENS, SEED = 5, 7
PAD, VOCABULARY = 0, 320
FAMILIES = ("Glm", "Glm4", "Glm4Moe")
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


def make(family="Glm", attention="sdpa", **changes):
    """A random two-layer model, the same for the same arguments."""
    shape = {**models.SHAPE, **models.KINDS[family], **HEADS, **changes}
    with model.quiet_libraries():
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(
            vocab_size=VOCABULARY, initializer_range=0.2, attn_implementation=attention, **shape
        )
        made = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    made.config.use_cache = False
    return made


def prefixed(*args, tokens=TOKENS, **kwargs):
    """A model with a prefix that has learned something."""
    made = make(*args, **kwargs)
    with model.quiet_libraries():
        found = prefix.install(made, Prefix(tokens=tokens), SEED)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in found.prefixes:
            weight.add_(torch.randn_like(weight) / 2)
    return made, found


def some_ids(rows, length, seed=3):
    return torch.randint(1, 300, (rows, length), generator=torch.Generator().manual_seed(seed))


def packed(lengths):
    """One row of several texts, with positions that restart."""
    return {
        "input_ids": some_ids(1, sum(lengths)),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
    }


def learning(causal):
    return {name: weight for name, weight in causal.named_parameters() if weight.requires_grad}


def loss(causal, batch):
    """Mean cross-entropy of every token but the first."""
    scores = causal(**batch, use_cache=False).logits[0, :-1].float()
    return cross_entropy(scores, batch["input_ids"][0, 1:])


def gradients(causal, batch):
    causal.zero_grad()
    loss(causal, batch).backward()
    return [weight.grad.clone() for weight in learning(causal).values()]


@torch.no_grad()
def logits(causal, input_ids, **given):
    return causal(input_ids=input_ids, **given).logits


# ---------------------------------------------------------------- what a prefix is


@pytest.mark.parametrize("attention", prefix_attention.KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_begins_as_tokens_read_before_the_text(family, attention):
    causal, ids = make(family, attention), some_ids(1, 12)
    read = prefix._common_tokens(causal, TOKENS, SEED)
    expected = logits(causal, torch.cat((read, ids), dim=1))[:, TOKENS:]
    with model.quiet_libraries():
        prefix.install(causal, Prefix(tokens=TOKENS), SEED)
    assert torch.allclose(logits(causal, ids), expected, atol=1e-5)


def test_first_values_follow_from_the_seed_alone():
    def first(seed):
        causal = make()
        torch.rand(seed)
        state = torch.get_rng_state()
        made = torch.cat(prefix.install(causal, Prefix(tokens=4), seed).prefixes)
        assert torch.equal(torch.get_rng_state(), state)
        return made

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_only_the_prefix_learns_in_float32_also_on_a_half_precision_model():
    causal = make().to(torch.bfloat16)
    prefix.install(causal, Prefix(tokens=4), SEED)
    weights = learning(causal)
    assert list(weights) == [f"model.layers.{layer}.self_attn.prefix" for layer in range(2)]
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert {tuple(weight.shape) for weight in weights.values()} == {(2, 2, 4, 8)}
    assert logits(causal, some_ids(1, 6)).isfinite().all()


def test_the_base_answers_as_before_while_its_prefix_is_off():
    causal, found = prefixed()
    ids = some_ids(2, 9)
    with found.disable_adapter():
        off = logits(causal, ids)
    assert torch.equal(off, logits(make(), ids))
    assert not torch.allclose(logits(causal, ids), off, atol=0.1)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_that_takes_no_mask_is_refused_with_a_way_out(attention):
    causal = make()
    causal.config._attn_implementation_internal = attention
    with pytest.raises(UsageError, match=f"{attention}.*set model.attention to sdpa"):
        prefix.install(causal, Prefix(), SEED)


def test_a_model_whose_keys_and_values_are_compressed_is_refused():
    causal = models.make("Glm4MoeLite")
    with pytest.raises(UsageError, match=r"Glm4MoeLiteForCausalLM: .*model.method to lora"):
        prefix.install(causal, Prefix(), SEED)


def test_a_second_prefix_is_refused():
    causal, _ = prefixed()
    with pytest.raises(UsageError, match="sdpa_behind_5"):
        prefix.install(causal, Prefix(), SEED)


# ---------------------------------------------------------------- rows of several texts


@pytest.mark.parametrize("attention", prefix_attention.KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_texts_are_as_they_are_alone(family, attention):
    causal, _ = prefixed(family, attention)
    lengths = [5, 9, 3]
    batch = packed(lengths)
    together = logits(causal, **batch)[0].split(lengths)
    for ids, found in zip(batch["input_ids"].split(lengths, dim=1), together, strict=True):
        assert torch.allclose(found, logits(causal, ids)[0], atol=1e-5)


def test_packed_texts_that_see_each_other_would_be_noticed():
    """So the test above can fail: one mask over the row joins its texts."""
    causal, _ = prefixed()
    batch = packed([5, 9, 3])
    joined = logits(causal, **batch, attention_mask=torch.ones(1, 17))[0]
    apart = logits(causal, **batch)[0]
    assert torch.allclose(apart[:5], joined[:5], atol=1e-5)
    assert (apart[5:] - joined[5:]).abs().max() > 0.1


def test_every_packed_text_sees_the_prefix():
    """By a mask made by hand; and one that shows it to the first text alone would be noticed."""
    causal, _ = prefixed()
    batch = packed([5, 9])
    seen = torch.ones(14, TOKENS + 14, dtype=torch.bool).tril(TOKENS)
    seen[5:, TOKENS : TOKENS + 5] = False
    expected = logits(causal, **batch)
    by_hand = logits(causal, **batch, attention_mask=seen[None, None])
    assert torch.allclose(by_hand, expected, atol=1e-5)
    seen[5:, :TOKENS] = False
    lost = logits(causal, **batch, attention_mask=seen[None, None])
    assert (lost - expected)[0, 5:].abs().max() > 0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side):
    causal, _ = prefixed()
    ids, padding = some_ids(1, 8), torch.full((1, 4), PAD)
    real, none = torch.ones_like(ids), torch.zeros_like(padding)
    parts = ((padding, ids), (none, real)) if side == "left" else ((ids, padding), (real, none))
    padded, mask = (torch.cat(part, dim=1) for part in parts)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    got = logits(causal, padded, attention_mask=mask, position_ids=positions)
    assert got.isfinite().all()
    assert torch.allclose(got[mask == 1], logits(causal, ids)[0], atol=1e-5)


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_gives_the_same_gradients(family):
    causal, _ = prefixed(family)
    causal.train()
    plain = gradients(causal, packed([5, 9, 3]))
    calls = count_attention(causal)
    checkpoint(causal)
    again = gradients(causal, packed([5, 9, 3]))
    assert len(calls) == 4  # two layers, forward and once more on the way back
    for one, other in zip(plain, again, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        assert one.abs().max() > 0


def checkpoint(causal):
    with model.quiet_libraries():
        causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def count_attention(causal):
    calls = []
    for layer in causal.get_decoder().layers:
        layer.self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_every_key_and_value_of_every_layer_has_a_gradient():
    causal, _ = prefixed()
    for gradient in gradients(causal, {"input_ids": some_ids(1, 9)}):
        assert (gradient.abs().amax(dim=-1) > 0).all()  # each of keys and values, heads, tokens


def test_checkpointing_installed_first_still_begins_from_tokens():
    causal = make()
    causal.train()
    checkpoint(causal)
    found = prefix.install(causal, Prefix(tokens=4), SEED)
    expected = prefix.install(make(), Prefix(tokens=4), SEED)
    assert causal.training
    assert torch.equal(torch.cat(found.prefixes), torch.cat(expected.prefixes))


def test_the_loss_falls_and_the_base_stays_as_it_is():
    causal = make()
    before = {name: weight.clone() for name, weight in causal.named_parameters()}
    prefix.install(causal, Prefix(tokens=8), SEED)
    batch = {"input_ids": some_ids(1, 8)}
    optimiser = torch.optim.AdamW(learning(causal).values(), lr=0.05, weight_decay=0)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        losses.append(loss(causal, batch))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.6 * losses[0]
    after = dict(causal.named_parameters())
    assert all(torch.equal(after[name], was) for name, was in before.items())


def test_bf16_autocast_learns_as_float32_does_roughly():
    causal, _ = prefixed()
    batch = packed([5, 9, 3])
    exact = gradients(causal, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradients(causal, batch)
    for one, other in zip(exact, rough, strict=True):
        assert other.dtype == torch.float32
        assert torch.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.99


# ---------------------------------------------------------------- answering


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_from_a_cache_are_those_of_reading_everything_again(family):
    causal, _ = prefixed(family)
    ids = some_ids(1, 6)
    prompt = ids[0].tolist()
    for _ in range(12):
        ids = torch.cat((ids, logits(causal, ids)[:, -1:].argmax(-1)), dim=1)
    chosen = precision.choose(Precision(dtype="fp32"), torch.device("cpu"))
    speaker = Speaker(causal=causal, precision=chosen, vocabulary=VOCABULARY)
    said = list(speaker.tokens(prompt, Sampler(Sampling()), stops=(), most=12))
    assert said == ids[0, 6:].tolist()
    assert len(set(said)) > 3


@pytest.mark.parametrize("use_cache", [True, False])
def test_generate_continues_padded_rows_as_alone(use_cache):
    causal, _ = prefixed()
    ids = some_ids(2, 8)
    mask = torch.tensor([[1] * 8, [0] * 3 + [1] * 5])
    asked = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": PAD}
    with model.quiet_libraries():
        both = causal.generate(ids, attention_mask=mask, use_cache=use_cache, **asked)
        alone = causal.generate(ids[1:, 3:], attention_mask=mask[1:, 3:], use_cache=True, **asked)
    assert torch.equal(both[1, 8:], alone[0, 5:])


# ---------------------------------------------------------------- saved, and in peft


def in_peft(causal, folder: Path):
    with model.quiet_libraries():
        from peft import PeftModel

        return PeftModel.from_pretrained(causal, str(folder)).eval()


@pytest.mark.parametrize("attention", prefix_attention.KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_what_was_saved_and_gives_the_same_logits(family, attention, tmp_path):
    causal, found = prefixed(family, attention)
    prefix.save(found, tmp_path)
    theirs, ids = in_peft(make(family, attention), tmp_path), some_ids(2, 10)
    left, right = torch.ones(2, 2, 10, dtype=torch.long)
    left[1, :4], right[1, 6:] = 0, 0
    for mask in (None, left, right):
        ours = logits(causal, ids, attention_mask=mask)
        assert torch.allclose(logits(theirs, ids, attention_mask=mask), ours, atol=1e-5)
    assert not torch.allclose(logits(make(family, attention), ids), ours, atol=0.1)


def test_what_peft_saved_is_read_with_the_same_logits(tmp_path):
    with model.quiet_libraries():
        from peft import PrefixTuningConfig, get_peft_model

        theirs = get_peft_model(
            make(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
        ).eval()
        theirs.save_pretrained(tmp_path)
    causal = make()
    assert prefix.load(causal, tmp_path).tokens == 4
    ids = some_ids(2, 10)
    assert torch.allclose(logits(causal, ids), logits(theirs, ids), atol=1e-5)


def test_a_prefix_comes_back_bit_by_bit(tmp_path):
    _, saved = prefixed("Glm4Moe")
    prefix.save(saved, tmp_path)
    _, restored = prefixed("Glm4Moe")
    with torch.no_grad():
        for weight in restored.prefixes:
            weight.zero_()
    places = [weight.data_ptr() for weight in restored.prefixes]
    prefix.restore(restored, tmp_path)
    loaded = prefix.load(make("Glm4Moe"), tmp_path)
    for one in (restored, loaded):
        assert torch.equal(torch.cat(one.prefixes), torch.cat(saved.prefixes))
    # An optimiser that holds them goes on with them.
    assert places == [weight.data_ptr() for weight in restored.prefixes]


def test_weights_gathered_elsewhere_are_saved_instead_of_the_slices_here(tmp_path):
    causal, found = prefixed()
    gathered = {name: weight + 1 for name, weight in learning(causal).items()}
    prefix.save(found, tmp_path, gathered)
    loaded = prefix.load(make(), tmp_path)
    assert torch.equal(torch.cat(loaded.prefixes), torch.cat([*gathered.values()]))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 3},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4, "head_dim": 4},  # as many values in all
    ],
)
def test_a_prefix_of_another_model_is_refused_before_the_model_changes(changes, tmp_path):
    prefix.save(prefixed()[1], tmp_path)
    other = make(**changes)
    with pytest.raises(InputError, match=r"does not fit the model \([^\n]*\)$"):
        prefix.load(other, tmp_path)
    assert other.config._attn_implementation == "sdpa"
    assert not any("prefix" in name for name, _ in other.named_parameters())


def test_a_prefix_of_another_length_is_not_put_in_this_one(tmp_path):
    prefix.save(prefixed(tokens=4)[1], tmp_path)
    with pytest.raises(InputError, match="its prefix has 4 tokens, this one 5"):
        prefix.restore(prefixed()[1], tmp_path)


def cut(folder):
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])


def spoil(folder):
    weights = load_file(folder / WEIGHTS)
    weights[prefix.EMBEDDINGS][0, 0] = torch.nan
    save_file(weights, folder / WEIGHTS)


def rename(folder):
    save_file({"other": torch.zeros(1)}, folder / WEIGHTS)


def squeeze(folder):
    save_file({prefix.EMBEDDINGS: torch.zeros(TOKENS, 7)}, folder / WEIGHTS)


def describe(text):
    return lambda folder: (folder / CONFIGURATION).write_text(text)


def missing(folder):
    (folder / WEIGHTS).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        spoil,
        rename,
        squeeze,
        missing,
        describe("{"),
        describe("[]"),
        describe("{}"),
        describe(json.dumps({"peft_type": "LORA"})),
    ],
)
def test_a_damaged_prefix_is_refused_in_one_line(damage, tmp_path):
    prefix.save(prefixed()[1], tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=r"\A[^\n]*does not fit the model \([^\n]*\)\Z"):
        prefix.load(make(), tmp_path)


def test_the_reason_against_merging_is_one_sentence():
    assert "no change of the weights" in prefix.WHY_NOT_MERGED
