"""What rows say: answers that stand in their prompt, sorted rows, noise, a cipher."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from glmdiag.labels import content_rules, read
from glmdiag.labels.apart import Labels
from glmprep import families, tokenizer
from glmprep.findings import Finding
from glmprep.labels import tokenize
from glmprep.records import Conversation, Message, Origin

RULES = content_rules.CONTENT_RULES
Exchange = tuple[str, str]


@cache
def sentences(sample: str) -> tuple[str, ...]:
    """Real messages of some length."""
    file = resources.files("glmprep") / "assets" / "samples" / f"{sample}.jsonl.gz"
    text = gzip.decompress(file.read_bytes()).decode("utf-8")
    found = []
    for line in text.splitlines()[:400]:
        found += [said for said in texts(json.loads(line)) if 60 < len(said) < 600]
    return tuple(found)


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def labels(path: Path, exchanges: list[Exchange], change: object = None) -> Labels:
    """A tokenized dataset of these questions and answers; `change` maps ids to others."""
    vocabulary = tokenizer.load(tokenizer.EMBEDDED)
    talks = [
        Conversation(
            id=str(n),
            messages=(
                Message(role="user", content=question),
                Message(role="assistant", content=answer),
            ),
            origin=Origin("x", n),
        )
        for n, (question, answer) in enumerate(exchanges)
    ]
    batch = tokenize(talks, families.load("glm4", vocabulary), vocabulary)
    ids = (
        batch.ids if change is None else np.where(batch.ids < 150_000, change[batch.ids], batch.ids)
    )  # type: ignore[index]
    with path.open("w") as file:
        for begin, end in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
            row = ids[begin:end]
            trained = np.where(batch.mask[begin:end] == 1, row, -100)
            file.write(json.dumps({"input_ids": row.tolist(), "labels": trained.tolist()}) + "\n")
    return read(path)


def fired(found: Labels) -> dict[str, Finding]:
    return {finding.rule: finding for each in RULES for finding in each(found)}


@pytest.fixture
def mixed() -> list[Exchange]:
    """Chinese counselling and English tool calls, shuffled."""
    said = [*sentences("counselling")[:80], *sentences("toolcalls")[:80]]
    order = np.random.default_rng(0).permutation(len(said))
    return [(said[a], said[b]) for a, b in zip(order[::2], order[1::2], strict=True)]


def test_real_text_in_two_languages_has_no_findings(tmp_path: Path, mixed: list[Exchange]) -> None:
    assert fired(labels(tmp_path / "set.jsonl", mixed)) == {}


def test_answers_that_stand_in_their_prompt_are_told(tmp_path: Path, mixed: list[Exchange]) -> None:
    leaking = [(f"{question} {answer}", answer) for question, answer in mixed[:60]]
    finding = fired(labels(tmp_path / "set.jsonl", leaking))["DL125"]
    assert finding.data["share"] > 0.5
    assert finding.examples


def test_a_few_quotations_are_no_leak(tmp_path: Path, mixed: list[Exchange]) -> None:
    some = [(f"{q} {a}", a) if n % 8 == 0 else (q, a) for n, (q, a) in enumerate(mixed)]
    assert "DL125" not in fired(labels(tmp_path / "set.jsonl", some))


def test_rows_sorted_by_subject_are_told(tmp_path: Path) -> None:
    parts = [sentences(name)[:60] for name in ("counselling", "toolcalls")]
    rows = [(a, b) for part in parts for a, b in zip(part[::2], part[1::2], strict=True)]
    assert set(fired(labels(tmp_path / "set.jsonl", rows))) == {"DL126"}


def test_a_row_of_noise_is_told_and_shown(tmp_path: Path, mixed: list[Exchange]) -> None:
    path = tmp_path / "set.jsonl"
    labels(path, mixed)
    noise = np.random.default_rng(1).integers(20_000, 120_000, 200).tolist()
    row = [151331, 151333, 151336, *noise, 151337, *noise, 151336]
    with path.open("a") as file:
        file.write(json.dumps({"input_ids": row, "labels": row}) + "\n")
    finding = fired(read(path))["DL127"]
    assert finding.data["count"] == 1
    assert finding.examples[0].where.startswith("row 80")


def test_ids_of_another_vocabulary_are_told(tmp_path: Path, mixed: list[Exchange]) -> None:
    cipher = np.random.default_rng(2).permutation(150_000)
    found = fired(labels(tmp_path / "set.jsonl", mixed, np.append(cipher, np.zeros(2000, int))))
    assert "DL128" in found
    assert "DL127" not in found
