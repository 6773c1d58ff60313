from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from glmdiag import labels as module
from glmdiag.labels import CLOSE, OPEN, Roles
from glmdiag.labels.label_rules import judge
from glmprep import families, tokenizer
from glmprep.errors import InputError, UsageError
from glmprep.labels import open_ends, tokenize
from glmprep.ledger import Ledger
from glmprep.records import Conversation, Message, Origin, ToolCall
from glmprep.shards import Manifest, Rows, ShardWriter, write_rows
from glmprep.store import Folder


def conversation(name: str, *messages: Message) -> Conversation:
    return Conversation(id=name, messages=messages, origin=Origin("chat.jsonl", 1))


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str, **more) -> Message:
    return Message(role="assistant", content=text, **more)


CHAT = conversation(
    "chat",
    Message(role="system", content="Be brief."),
    user("What is the capital of France?"),
    assistant("Paris."),
    user("And of Italy?"),
    assistant("Rome, since 1871."),
)
CALL = conversation(
    "call",
    user("北京天气怎么样？"),
    Message(role="assistant", tool_calls=(ToolCall(name="weather", arguments='{"city": "北京"}'),)),
    Message(role="tool", content='{"sky": "clear"}'),
    assistant("今天北京天气晴朗。"),
)


class Shards:
    """Writes conversations as shards whose labels are right, or damaged by `spoil`."""

    def __init__(self, folder: Path, vocabulary: tokenizer.Tokenizer) -> None:
        self.folder, self.vocabulary = folder, vocabulary
        self.family = families.load("auto", vocabulary)

    def write(
        self,
        conversations: Sequence[Conversation] = (CHAT, CALL),
        *,
        spoil: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        bucket: int = 0,
        sha256: str | None = None,
    ) -> Path:
        batch = tokenize(conversations, self.family, self.vocabulary)
        mask = batch.mask if spoil is None else spoil(batch.ids, batch.mask.copy())
        lengths = batch.lengths
        bucket = bucket or int(lengths.max())
        ends = open_ends(batch.ids, batch.mask, batch.offsets, self.family.stops)
        positions = np.arange(len(mask)) - np.repeat(batch.offsets[:-1], lengths)
        store = Folder(self.folder)
        written = write_rows(
            store,
            "shard-00000.parquet",
            Rows(
                input_ids=batch.ids,
                loss_mask=mask.astype(np.uint8),
                position_ids=positions.astype(np.int32),
                segment_ids=np.zeros(len(mask), np.int32),
                offsets=batch.offsets,
                bucket=np.full(len(conversations), bucket, np.int32),
                conversation_ids=[[each.id] for each in conversations],
            ),
        )
        manifest = Manifest(
            files=[written],
            tokenizer={"name": "glm4", "sha256": sha256 or self.vocabulary.fingerprint},
            family="glm4",
            layout="buckets",
            max_length=bucket,
            tokens_per_batch=bucket,
            vocab_size=self.vocabulary.vocab_size,
            pad_id=self.family.pad_id,
            stop_ids=sorted(self.family.stops),
            added_tokens=[],
            buckets=[{"length": bucket, "rows": len(conversations)}],
            seed=0,
            config={},
            ledger=Ledger(open_ends=int(ends.sum())).as_json(),
        )
        ShardWriter(store, overwrite=True).finish(manifest)
        return self.folder


load_once = cache(tokenizer.load)


@pytest.fixture(scope="session")
def vocabulary():
    return load_once(tokenizer.EMBEDDED)


@pytest.fixture(autouse=True)
def _vocabulary_loads_once(monkeypatch):
    """Half a second each time adds up; it is still the real one."""
    monkeypatch.setattr(tokenizer, "load", lambda spec=tokenizer.EMBEDDED: load_once(spec))


@pytest.fixture
def shards(tmp_path, vocabulary):
    return Shards(tmp_path / "shards", vocabulary)


LONG = "The bridge was built in 1871 and is crossed by ten thousand people a day. " * 8
UNTRAINED_CALL = conversation(
    "call",
    *[m if not m.tool_calls else Message(role=m.role, tool_calls=m.tool_calls, untrained="weight")
      for m in CALL.messages],
)  # fmt: skip


def rules(folder) -> list[str]:
    return [finding.rule for finding in judge(module.read(folder))]


@pytest.fixture(scope="session")
def roles(vocabulary):
    return Roles.of(vocabulary)


def first_row_bare(ids, mask):
    second = np.flatnonzero(ids == ids[0])[1]
    mask[:second] = 0
    return mask


def untrained(*stops):
    def spoil(ids, mask):
        mask[np.isin(ids, stops)] = 0
        return mask

    return spoil


def late(ids, mask):
    """The mask of a script that shifts twice: each answer without its first token."""
    mask[1:] &= mask[:-1]
    return mask


def everything(ids, mask):
    mask[:] = 1
    return mask


def cut(ids, mask):
    """The last three tokens of the answers are lost, the stop among them."""
    ends = np.flatnonzero(np.diff(mask.astype(np.int8), append=0) == -1)
    for back in range(3):
        mask[ends - back] = 0
    return mask


def test_right_labels_have_no_findings(shards):
    assert rules(shards.write()) == []


def test_rows_without_labels_are_an_error(shards):
    found = judge(module.read(shards.write(spoil=first_row_bare)))
    assert [(f.rule, f.severity, f.data["count"]) for f in found] == [("DL101", "error", 1)]
    assert found[0].examples[0].where == "row 0 (chat)"


def test_cut_answers_are_an_error(shards):
    found = judge(module.read(shards.write(spoil=cut)))
    assert [(f.rule, f.data["count"]) for f in found if f.rule == "DL102"] == [("DL102", 4)]


def test_inner_pieces_of_a_long_turn_are_no_cut_answers(shards):
    first = conversation("long-0", user("Tell me."), assistant("One day", part=(0, 2)))
    second = conversation("long-1", user("Tell me."), assistant(" it ended.", part=(1, 2)))
    assert rules(shards.write([first, second])) == []


def test_untrained_stops_are_an_error(shards, roles):
    found = judge(module.read(shards.write(spoil=untrained(roles.user, roles.observation))))
    assert {f.rule: f.data["count"] for f in found} == {"DL103": 4, "DL104": 1}
    assert found[0].examples[0].excerpt.count(OPEN) >= 1


def test_one_untrained_stop_is_enough(shards, roles):
    def last(ids, mask):
        mask[np.flatnonzero(ids == roles.user)[-1]] = 0
        return mask

    assert rules(shards.write(spoil=last)) == ["DL103"]


def test_tools_whose_calls_are_not_trained_are_a_warning(shards):
    found = judge(module.read(shards.write([CHAT, UNTRAINED_CALL])))
    assert [(f.rule, f.severity) for f in found] == [("DL104", "warning")]


def test_an_answer_that_begins_behind_a_prompt_for_reasoning_is_whole(shards, vocabulary):
    reasons = Message(role="assistant", content="4", reasoning="Two and two are four.")
    shards.family = families.load("glm-z1", vocabulary)
    assert judge(module.read(shards.write([conversation("sum", user("2 + 2?"), reasons)]))) == []


def test_answers_without_their_first_token_are_an_error(shards):
    found = judge(module.read(shards.write(spoil=late)))
    assert [(f.rule, f.data["count"]) for f in found] == [("DL105", 4)]


def test_trained_prompts_are_an_error(shards):
    assert "DL106" in rules(shards.write(spoil=everything))


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_trained_role_token_that_ends_no_answer_is_an_error(shards, roles, role):
    def spoil(ids, mask):
        mask[np.flatnonzero(ids == getattr(roles, role))[0]] = 1
        return mask

    assert rules(shards.write(spoil=spoil)) == ["DL106"]


def test_few_targets_are_noted(shards):
    reading = conversation("reading", user(LONG), assistant("1871"))
    assert rules(shards.write([reading])) == ["DL107"]


def test_much_padding_is_noted(shards):
    found = judge(module.read(shards.write(bucket=512)))
    assert [(f.rule, f.severity) for f in found] == [("DL108", "info")]
    assert found[0].data["share"] > 0.8


def test_coverage_adds_up(shards):
    found = module.read(shards.write())
    assert found.total.rows == 2
    assert found.total.tokens == len(found.rows.input_ids)
    assert found.total.supervised == int(found.rows.loss_mask.sum())
    assert found.stop_counts() == {"<|user|>": 3, "<|assistant|>": 0, "<|observation|>": 1}


def test_examples_mark_what_is_trained(shards):
    found = module.read(shards.write([CHAT]))
    (example,) = found.examples(found.run_starts[:1])
    assert f"<|assistant|>{OPEN}\nParis.<|user|>{CLOSE}" in example.excerpt


def test_packed_segments_are_judged_apart(shards, tmp_path):
    """An answer that ends its segment without a stop is not saved by the next segment's start."""
    found = module.read(shards.write([CHAT, CALL]))
    rows = found.rows
    ids, mask = rows.input_ids[:-1], rows.loss_mask[:-1]
    packed = type(rows)(
        input_ids=np.concatenate([ids, ids]),
        loss_mask=np.concatenate([mask, mask]),
        position_ids=np.concatenate([rows.position_ids[:-1]] * 2),
        segment_ids=np.repeat(np.arange(2, dtype=np.int32), len(ids)),
        offsets=np.array([0, 2 * len(ids)]),
        bucket=np.array([2 * len(ids)], np.int32),
        conversation_ids=[["a", "b"]],
    )
    spoiled = replace(found, rows=packed, made=replace(found.made, max_length=None))
    assert [(f.rule, f.data["count"]) for f in judge(spoiled)] == [("DL102", 2)]


def test_shards_of_another_vocabulary_are_refused(shards):
    folder = shards.write(sha256="0" * 64)
    with pytest.raises(UsageError, match="--tokenizer"):
        module.read(folder)


def test_a_damaged_shard_file_is_one_line(shards):
    folder = shards.write()
    (folder / "shard-00000.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=r"shard-00000\.parquet"):
        module.read(folder)


def test_four_million_tokens_are_judged_in_seconds(shards):
    import time

    found = module.read(shards.write())
    times = 4_000_000 // len(found.rows.input_ids)
    rows = found.rows
    many = type(rows)(
        input_ids=np.tile(rows.input_ids, times),
        loss_mask=np.tile(rows.loss_mask, times),
        position_ids=np.tile(rows.position_ids, times),
        segment_ids=np.tile(rows.segment_ids, times),
        offsets=np.concatenate(([0], np.cumsum(np.tile(rows.lengths, times)))),
        bucket=np.tile(rows.bucket, times),
        conversation_ids=list(rows.conversation_ids) * times,
    )
    large = replace(found, rows=many)
    began = time.process_time()
    assert [f.rule for f in judge(large)] == ["DL117"]  # they are copies
    assert time.process_time() - began < 3


def test_labels_writes_json_and_a_report_in_both_languages(shards, glmdiag, tmp_path):
    hostile = conversation("<script>alert(1)</script>", user("<b>x</b>"), assistant("</td>\x1b[2J"))
    folder = shards.write([CHAT, CALL, hostile], spoil=late)
    report = tmp_path / "labels.html"
    status, out, _ = glmdiag("labels", folder, "--json", "-", "--report", report)
    assert status == 1
    assert json.loads(out)["findings"][0]["rule"] == "DL105"
    html = report.read_text("utf-8")
    assert "<script>alert" not in html
    assert "\x1b" not in html
    assert "回答的开头没有参与训练" in html
    assert "Answers are trained without their beginning" in html


def test_a_clean_folder_passes_also_where_warnings_fail(shards, glmdiag):
    status, out, _ = glmdiag("labels", shards.write(), "--fail-on", "warning")
    assert status == 0
    assert "4 of 4 trained answers end in a stop token" in out
