"""A student learns from its teacher what labels alone do not say, and keeps nothing else of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from glmprep import tokenizer as tokenizers
from glmprep.errors import InputError, UsageError
from glmtrain import data, devices, metrics, model, teacher, trained
from glmtrain.batches import Batch, collate
from glmtrain.cli import glmtrain
from glmtrain.config import build
from glmtrain.imitation import Told
from glmtrain.learner import Learner
from glmtrain.loss import Objective, labelled
from glmtrain.output import resolved
from glmtrain.plan import Plan, without_effect
from glmtrain.precision import choose
from glmtrain.progress import Silent
from glmtrain.run import Mode, train
from glmtrain.settings import Distill, Precision
from glmtrain.student import PROJECTION, Student
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity, kl_div

from tests.train import two_students
from tests.train.test_imitation import naive
from tests.train.test_strategies import ALONE

FP32 = Objective(dtype=torch.float32)
VOCABULARY, PADDED = 320, 384  # of the fixtures' shards, and of the student
STEPS = 30


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A student's model: narrower than the fixtures' one, with more padding of the vocabulary."""
    from transformers import GlmConfig, GlmForCausalLM

    folder = tmp_path_factory.mktemp("narrow")
    with model.quiet_libraries():
        torch.manual_seed(1)
        config = GlmConfig(
            vocab_size=PADDED,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=12,
            max_position_embeddings=512,
            initializer_range=0.2,
            attention_bias=False,  # a key's bias has no gradient but what rounding makes
            pad_token_id=300,
            eos_token_id=[302],
        )
        GlmForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def counting(small_model, bucketed, tmp_path_factory):
    """A teacher: a run that learned to count, with adapters on its base."""
    output = tmp_path_factory.mktemp("counting") / "run"
    start(
        model={"path": str(small_model)},
        data={"shards": [str(bucketed)]},
        run={"output": str(output), "max_steps": 40},
        lora={"rank": 8},
    )
    return output


@pytest.fixture
def distill(narrow, bucketed, counting, tmp_path):
    """Runs of the student with changed settings, in a folder of its own name."""

    def distill(name="run", *, shown=None, **changes):
        merged = {
            "model": {"path": str(narrow), "method": "full"},
            "data": {"shards": [str(bucketed)]},
            "distill": {"teacher": str(counting)},
            "run": {"output": str(tmp_path / name), "max_steps": STEPS, "sample_tokens": 64},
        }
        for section, values in changes.items():
            merged[section] = merged.get(section, {}) | values
        merged["distill"] = {k: v for k, v in merged["distill"].items() if v is not None}
        return start(shown=shown, **merged)

    return distill


def start(*, resume=None, shown=None, **settings):
    """A run; with `resume`, that of a folder gone on with."""
    fixed = {"optimiser": {"learning_rate": 0.02}, "precision": {"dtype": "fp32"}}
    layers = [("test", fixed), ("test", settings)]
    if resume is not None:
        layers = [resolved(resume)]
    config = build(layers)
    with devices.join(config.devices) as place:
        mode = Mode(resume=resume is not None)
        return train(config, place, given=(), shown=shown or Silent(), mode=mode)


class StopAfter(Silent):
    def step(self, metrics):
        if metrics.step == 3:
            signal.raise_signal(signal.SIGTERM)


def taken(folder):
    """What a teacher's folder holds, byte by byte."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(path):
    with safe_open(path, "pt") as file:
        return set(file.keys())


def log_probabilities(causal, rows):
    """Of each labelled token of some rows, over the vocabulary that all models know."""
    batch = Batch(rows=rows.trainable, bucket=128, packed=False)
    inputs = collate(rows.rows, batch, rows.pad_id)
    learner = Learner(causal.eval(), objective=FP32)
    with torch.no_grad():
        states, _ = labelled(learner.states(inputs), inputs.labels)
        return causal.get_output_embeddings()(states)[:, :VOCABULARY].log_softmax(-1)


@pytest.fixture(scope="module")
def held_out(tools, tmp_path_factory):
    random = np.random.default_rng(9)
    made = [tools.conversation(random, 3) for _ in range(16)]
    folder = tmp_path_factory.mktemp("held-out") / "shards"
    tools.write_shards(folder, tools.to_rows([[one] for one in made], [128] * 16))
    return data.load((str(folder),))


def test_a_student_comes_nearer_to_its_teacher_than_labels_bring_it(distill, counting, held_out):
    with model.quiet_libraries():
        run = trained.read(counting)
        loaded = trained.load(run.config.model.path, run, "fp32")
        wanted = log_probabilities(loaded.causal, held_out)
    far = {}
    for name, chosen in {"labels": {"weight": 0.0}, "teacher": {"weight": 0.9}}.items():
        output = distill(name, distill=chosen).output
        with model.quiet_libraries():
            found = log_probabilities(model.load(str(output), torch.float32), held_out)
        far[name] = float(kl_div(found, wanted, reduction="batchmean", log_target=True))
    assert far["teacher"] < 0.5 * far["labels"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_stopped_and_resumed_is_the_same_to_the_bit_and_keeps_nothing_of_the_teacher(
    distill, counting, method
):
    """Hidden states are compared through a projection, which learns and must be resumed, too."""
    before = taken(counting)
    changes = {"distill": {"hidden": 0.5}, "model": {"method": method}}
    changes |= {"lora": {"rank": 2, "dropout": 0.2}} if method == "lora" else {}
    short = {"max_steps": 6}
    straight = distill("straight", run=short, **changes).output
    plain = distill("plain", run=short, **changes | {"distill": {"teacher": None}}).output
    stopped = distill("stopped", run=short, shown=StopAfter(), **changes)
    assert (stopped.stopped_by, stopped.last_step) == ("SIGTERM", 3)
    torch.manual_seed(99)
    resumed = start(resume=stopped.output).output
    losses = [[step["loss"] for step in metrics.read(each)] for each in (straight, resumed)]
    assert losses[0] == losses[1]
    assert losses[0] != [step["loss"] for step in metrics.read(plain)]

    last = Path("checkpoints", "step-000006", "weights.safetensors")
    final = next(path.name for path in plain.glob("*model.safetensors"))
    assert (straight / final).read_bytes() == (resumed / final).read_bytes()
    assert names(straight / last) == names(plain / last) | {PROJECTION}
    for path in plain.rglob("*model.safetensors"):
        assert names(straight / path.relative_to(plain)) == names(path)
    assert [p.name for p in sorted(straight.iterdir())] == [p.name for p in sorted(plain.iterdir())]
    assert taken(counting) == before


@pytest.fixture
def pair(small_model, narrow, bucketed):
    """A student that is wholly trained, with a teacher, and the rows of the shards."""
    strategy, rows = two_students.prepared(ALONE, narrow, small_model, bucketed)
    return strategy.learner, rows, strategy


def test_the_teacher_is_neither_trained_nor_a_part_of_the_student(pair):
    student, rows, strategy = pair
    assert isinstance(student, Student)
    teachers = dict(student.teacher.causal.named_parameters())
    before = {name: weight.clone() for name, weight in teachers.items()}
    two_students.train(ALONE, strategy, rows)
    for name, weight in teachers.items():
        assert torch.equal(weight, before[name])
        assert weight.grad is None
    assert not student.teacher.causal.training
    mine = {id(weight) for weight in student.parameters()}
    assert mine.isdisjoint({id(weight) for weight in teachers.values()})
    assert not any("teacher" in name for name in student.state_dict())
    assert strategy.weights().keys() == strategy.learning.keys()


def test_the_sum_is_that_of_labels_teacher_and_hidden_states(pair):
    """And losses of single tokens are those of the student, whatever its teacher says."""
    student, rows, _ = pair
    inputs = collate(rows.rows, Batch(rows=rows.trainable[:4], bucket=128, packed=False), 300)
    with torch.no_grad():
        mine, targets = labelled(student.states(inputs), inputs.labels)
        known, _ = labelled(student.teacher.states(inputs), inputs.labels)
        told = Told(rows=known, head=student.teacher.causal.lm_head)
        expected = naive(mine, targets, student.causal.lm_head, FP32, told, 0.5, 2.0)
        expected += 0.5 * (1 - cosine_similarity(student.projection(mine), known)).sum()
        torch.testing.assert_close(student(inputs), expected, rtol=1e-5, atol=0)
        plain = Learner(student.causal, objective=FP32)
        assert torch.equal(student(inputs, "each"), plain(inputs, "each"))


def test_a_batch_without_rows_is_a_zero_that_reaches_all_weights(pair):
    student, rows, _ = pair
    nothing = Batch(rows=rows.trainable[:0], bucket=0, packed=False)
    loss = student(collate(rows.rows, nothing, 300))
    loss.backward()
    assert loss == 0
    assert all(weight.grad is not None for weight in student.learning().values())


def test_models_of_one_width_need_no_projection(small_model, bucketed):
    config = build([("test", {"distill": {"teacher": str(small_model), "hidden": 1.0}})])
    rows, precision = data.load((str(bucketed),)), choose(Precision(dtype="fp32"), ALONE.device)
    with model.quiet_libraries():
        learner = Learner(model.load(str(small_model), torch.float32), objective=FP32)
        student = teacher.taught(learner, config, rows, precision, ALONE)
    assert student.learning().keys() == learner.learning().keys()
    inputs = collate(rows.rows, Batch(rows=rows.trainable[:4], bucket=128, packed=False), 300)
    with torch.no_grad():
        half = 0.5 * student(inputs, "each").sum()  # what labels say; all else is the same
        torch.testing.assert_close(student(inputs), half, rtol=1e-4, atol=1e-3)


def test_a_whole_trained_run_teaches_as_the_model_in_its_folder(distill, small_model, tmp_path):
    whole = distill("whole", distill={"teacher": None}, run={"max_steps": 2}).output
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy, ignore=lambda *_: ["run.json"])
    one, other = (
        distill(folder.name + "'s", distill={"teacher": str(folder)}, run={"max_steps": 2})
        for folder in (whole, copy)
    )
    losses = [[step["loss"] for step in metrics.read(each.output)] for each in (one, other)]
    assert losses[0] == losses[1]


def tokenizer_of(folder, words):
    """A small tokenizer.json of bytes and added words."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = {each: n for n, each in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(letters, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(word) for word in words])
    folder.mkdir(exist_ok=True, parents=True)
    made.save(str(folder / "tokenizer.json"))
    return tokenizers.load(str(folder))


@pytest.fixture
def speaking(small_model, narrow, bucketed, tmp_path):
    """Asks whether a teacher with some tokenizer may teach a student with another one's shards."""

    def speaking(theirs, ours, *, same_file=True):
        folders = {"teacher": small_model, "student": narrow}
        for name, source in folders.items():
            shutil.copytree(source, tmp_path / name)
        made = tokenizer_of(tmp_path / "student", ours)
        tokenizer_of(tmp_path / "teacher", theirs)
        if not same_file:
            path = tmp_path / "teacher" / "tokenizer.json"
            path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
        rows = data.load((str(bucketed),))
        told = replace(rows.manifests[0], tokenizer=tokenizers.describe(made))
        settings = {
            "model": {"path": str(tmp_path / "student")},
            "distill": {"teacher": str(tmp_path / "teacher")},
        }
        with model.quiet_libraries():
            learner = Learner(model.load(str(narrow), torch.float32), objective=FP32)
            return teacher.taught(
                learner,
                build([("test", settings)]),
                replace(rows, manifests=[told]),
                choose(Precision(dtype="fp32"), ALONE.device),
                ALONE,
            )

    return speaking


WORDS = ["<|user|>", "<|assistant|>"]


@pytest.mark.parametrize("same_file", [True, False])
def test_a_teacher_with_the_same_tokens_is_taken(speaking, same_file):
    assert isinstance(speaking(WORDS, WORDS, same_file=same_file), Student)


@pytest.mark.parametrize("theirs", [WORDS[::-1], [*WORDS, "<|system|>"]])
def test_a_teacher_with_other_tokens_is_refused(speaking, theirs):
    with pytest.raises(UsageError, match="its tokenizer is not the one that the shards were made"):
        speaking(theirs, WORDS)


def test_a_run_with_other_tokens_is_refused(distill, counting, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(counting, other)
    record = json.loads((other / "run.json").read_text())
    record["tokenizer"]["sha256"] = "1" * 64
    (other / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="over other tokens; take a teacher of the same family"):
        distill(distill={"teacher": str(other)})
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_lacks_tokens_is_refused(distill, small_model, tmp_path):
    with model.quiet_libraries():
        small = model.load(str(small_model), torch.float32)
        small.resize_token_embeddings(VOCABULARY - 1)
        small.save_pretrained(tmp_path / "small")
    with pytest.raises(UsageError, match=r"small: knows 319 tokens, but .* has 320"):
        distill(distill={"teacher": str(tmp_path / "small")})


@pytest.mark.parametrize("strategy", sorted(devices.SLICING))
def test_strategies_that_slice_weights_are_refused(pair, strategy):
    student, rows, made = pair
    config = build([("test", {"distill": {"teacher": "tiny"}})])
    with pytest.raises(UsageError, match=f"{strategy} slices weights, and a teacher stays whole"):
        teacher.taught(student, config, rows, made.precision, replace(ALONE, strategy=strategy))


def test_a_folder_without_a_model_is_no_teacher(distill, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no config\.json"):
        distill(distill={"teacher": str(tmp_path / "empty")})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"weight": 1.5}, "0 <= distill.weight <= 1"),
        ({"temperature": 0.0}, "distill.temperature > 0"),
        ({"hidden": -1.0}, "distill.hidden >= 0"),
    ],
)
def test_settings_out_of_range_are_refused(chosen, message):
    with pytest.raises(UsageError, match=message):
        Distill(**chosen)


def command(*arguments):
    """The exit status of a command line."""
    with pytest.raises(SystemExit) as end:
        glmtrain.main([str(each) for each in arguments], standalone_mode=False)
    return end.value.code


def test_the_command_is_a_run_with_a_teacher(narrow, bucketed, counting, tmp_path):
    model_of = ["--model", narrow, "--method", "full", "--shards", bucketed, "--dtype", "fp32"]
    short = [*model_of, "--max-steps", 2, "--quiet"]
    options = ["--teacher", counting, "--weight", 0.9, "--temperature", 3, "--hidden", 0.5]
    assert command("distill", *options, *short, "-o", tmp_path / "distill") == 0
    sets = [f"{each[2:]}={value}" for each, value in zip(options[::2], options[1::2], strict=True)]
    sets = [part for each in sets for part in ("--set", f"distill.{each}")]
    assert command("run", *sets, *short, "-o", tmp_path / "run") == 0
    one, other = (metrics.read(tmp_path / name) for name in ("distill", "run"))
    assert [step["loss"] for step in one] == [step["loss"] for step in other]
    assert resolved(tmp_path / "distill")[1]["distill"] == {
        "teacher": str(counting),
        "weight": 0.9,
        "temperature": 3.0,
        "hidden": 0.5,
    }


def test_the_command_needs_a_teacher():
    with pytest.raises(click.MissingParameter, match="teacher"):
        glmtrain.main(["distill", "--model", "tiny"], standalone_mode=False)


def test_its_help_loads_no_torch():
    script = (
        "import sys\nfrom glmtrain.cli import glmtrain\n"
        "glmtrain.main(['distill', '--help'], standalone_mode=False)\n"
        "sys.exit(bool({'torch', 'transformers', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--temperature" in done.stdout
    assert "--tokens-per-batch" in done.stdout


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, ["hidden", "temperature", "weight"]),
        ({"teacher": "tiny"}, ["kernel"]),
        ({"teacher": "tiny", "weight": 0.0}, ["teacher", "temperature", "kernel"]),
        ({"teacher": "tiny", "weight": 0.0, "hidden": 1.0}, ["temperature", "kernel"]),
        ({"teacher": "tiny", "weight": 1.0}, ["kernel", "label_smoothing"]),
    ],
)
def test_settings_of_distilling_without_effect_are_named(chosen, expected):
    names = ("weight", "temperature", "hidden", *(["teacher"] if chosen else []))
    asked = [f"distill.{name}" for name in names] + ["loss.kernel", "loss.label_smoothing"]
    config = build([("test", {"distill": chosen, "run": {"max_steps": 1}})])
    made = Plan(config=config, decisions=(), steps_per_epoch=1, steps=1)
    found = [finding.where.partition(".")[2] for finding in without_effect(asked, made)]
    assert found == expected


@pytest.mark.slow
def test_two_processes_distill_as_one_does(narrow, small_model, bucketed, tmp_path):
    """The projection of hidden states learns on both, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    shared |= {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    folders = [narrow, small_model, bucketed]
    started = [
        subprocess.Popen(
            [sys.executable, two_students.__file__, *folders, tmp_path / "two.safetensors"],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    strategy, rows = two_students.prepared(ALONE, *folders)
    two_students.train(ALONE, strategy, rows)
    said = [each.communicate(timeout=300)[0] for each in started]
    assert [each.returncode for each in started] == [0, 0], said
    found = load_file(tmp_path / "two.safetensors")
    assert PROJECTION in found
    for name, weight in strategy.weights().items():
        torch.testing.assert_close(found[name], weight, atol=1e-5, rtol=1e-5)
