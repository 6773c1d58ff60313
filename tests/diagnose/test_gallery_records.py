"""The recorded runs of the gallery are whole, and are what their truth says."""

from __future__ import annotations

import json
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from glmprep import shards

ARCHIVES = Path(__file__).parents[1] / "gallery"
IGNORED = -100
STOPS = {151329, 151336, 151338}
SEEDS = {1, 2, 3}
MACHINE_PATHS = tuple(f"/{name}/".encode() for name in ("root", "home", "tmp", "work"))
pytestmark = pytest.mark.skipif(
    not any(ARCHIVES.glob("*.zip")), reason="no archives: run bench/gallery/make.py"
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("gallery")
    for archive in ARCHIVES.glob("*.zip"):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def truths(records: list[Path]) -> dict[str, dict[str, Any]]:
    return {record.name: json.loads((record / "truth.json").read_bytes()) for record in records}


def of_kind(records: list[Path], kind: str) -> list[Path]:
    found = [record for record in records if record.name.startswith(kind)]
    assert found
    return found


def labelled(record: Path) -> Iterator[tuple[list[int], list[int]]]:
    """Ids and labels of each row, from a dataset or from shards."""
    dataset = record / "data/train.parquet"
    if dataset.exists():
        table = pq.read_table(dataset).to_pylist()
        yield from ((row["input_ids"], row["labels"]) for row in table)
        return
    _, rows = shards.read(record / "data/shards")
    for start, end in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        ids = rows.input_ids[start:end].tolist()
        mask = rows.loss_mask[start:end].tolist()
        yield ids, [token if on else IGNORED for token, on in zip(ids, mask, strict=True)]


def steps(record: Path) -> list[dict[str, Any]]:
    """What was logged of each step, by the trainer's own names."""
    state = record / "run/trainer_state.json"
    if state.exists():
        return [e for e in json.loads(state.read_bytes())["log_history"] if "loss" in e]
    for name in ("metrics.jsonl", "trainer_log.jsonl", "logging.jsonl"):
        if (record / "run" / name).exists():
            lines = (record / "run" / name).read_text("utf-8").splitlines()
            return [entry for line in lines if "loss" in (entry := json.loads(line))]
    return []


def losses(record: Path) -> list[float]:
    return [step["loss"] for step in steps(record) if step["loss"] is not None]


def rates(record: Path) -> list[float]:
    return [step.get("learning_rate", step.get("lr")) for step in steps(record)]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_at_least_25_kinds_of_fault_have_three_seeds(truths: dict[str, dict[str, Any]]) -> None:
    seeds: dict[str, set[int]] = {}
    for truth in truths.values():
        if truth["cause"]:
            seeds.setdefault(truth["kind"], set()).add(truth["seed"])
    assert sum(found == SEEDS for found in seeds.values()) >= 25


def test_at_least_25_runs_are_healthy_and_every_seed_has_some(
    truths: dict[str, dict[str, Any]],
) -> None:
    seeds = Counter(truth["seed"] for truth in truths.values() if truth["cause"] is None)
    assert seeds.total() >= 25
    assert set(seeds) == SEEDS


def test_both_trainers_have_healthy_and_faulty_runs(truths: dict[str, dict[str, Any]]) -> None:
    found = {(t["trainer"].split()[0], t["cause"] is None) for t in truths.values()}
    assert found == {(name, sound) for name in ("hf", "glmtrain") for sound in (True, False)}


def test_archives_are_small() -> None:
    sizes = [path.stat().st_size for path in ARCHIVES.glob("*.zip")]
    assert max(sizes) < 1_000_000
    assert sum(sizes) < 6_000_000


def test_every_record_has_a_run_a_configuration_data_and_a_card(records: list[Path]) -> None:
    for record in records:
        assert json.loads((record / "machine.json").read_bytes()).keys() == {"card"}
        for folder in ("run", "config", "data"):
            assert any((record / folder).iterdir()), f"{record.name}: {folder} is empty"
        assert any(labelled(record))


def test_no_record_holds_a_path_of_the_machine_it_was_made_on(records: list[Path]) -> None:
    for record in records:
        for file in (path for path in record.rglob("*") if path.is_file()):
            content = file.read_bytes()
            found = [path for path in MACHINE_PATHS if path in content]
            assert not found, f"{file.relative_to(record.parent)}: {found}"


def test_healthy_runs_learned(records: list[Path]) -> None:
    for record in of_kind(records, "healthy-"):
        found = losses(record)
        if found:
            half = len(found) // 2  # a step's loss says much of its rows, and little of the model
            assert mean(found[half:]) < mean(found[:half]), record.name


def test_masked_rows_have_no_label_and_are_logged_as_zero(records: list[Path]) -> None:
    for record in of_kind(records, "rc001"):
        bare = [all(label == IGNORED for label in labels) for _, labels in labelled(record)]
        assert mean([float(each) for each in bare]) > 0.5
        assert 0.0 in losses(record)


def test_rows_with_cut_answers_end_in_a_trained_token_that_is_no_stop(
    records: list[Path],
) -> None:
    for record in of_kind(records, "rc002"):
        ends = [labels[-1] for _, labels in labelled(record)]
        cut = [label != IGNORED and label not in STOPS for label in ends]
        assert mean([float(each) for each in cut]) > 0.5


def test_untrained_stops_are_never_a_label(records: list[Path]) -> None:
    for record in of_kind(records, "rc003"):
        assert not any(STOPS & set(labels) for _, labels in labelled(record))


def test_shifted_labels_are_the_next_tokens(records: list[Path]) -> None:
    for record in of_kind(records, "rc005"):
        for ids, labels in labelled(record):
            pairs = zip(ids[1:], labels[:-1], strict=True)
            assert all(label in (IGNORED, token) for token, label in pairs)


def test_prompts_are_labels_where_they_are_trained(records: list[Path]) -> None:
    for record in of_kind(records, "rc006"):
        for _, labels in labelled(record):
            assert IGNORED not in labels[1:]


def test_a_schedule_that_ends_early_leaves_the_rate_at_zero(records: list[Path]) -> None:
    for record in of_kind(records, "rc023"):
        assert mean([float(rate == 0) for rate in rates(record)]) > 0.5


def test_rates_that_are_too_high_lose_what_the_model_knew(records: list[Path]) -> None:
    for record in of_kind(records, "rc021"):
        found = losses(record)
        assert mean(found[-10:]) > mean(found[:3])


def test_held_out_loss_rises_where_a_run_overfits(records: list[Path]) -> None:
    for record in of_kind(records, "rc027"):
        told = [json.loads(line) for line in _lines(record)]
        found = [entry["eval_loss"] for entry in told if entry.get("eval_loss") is not None]
        assert found[-1] > min(found) * 1.05


def test_a_resumed_run_without_its_optimiser_begins_its_schedule_again(
    records: list[Path],
) -> None:
    for record in of_kind(records, "rc043"):
        found = rates(record)
        assert max(found[45:55]) > 1.5 * found[39]


def test_damaged_weights_are_cut_short_or_not_finite(records: list[Path]) -> None:
    for record in of_kind(records, "rc044"):
        content = (record / "run/adapter_model.safetensors").read_bytes()
        (header,) = struct.unpack("<Q", content[:8])
        places = json.loads(content[8 : 8 + header])
        promised = max(v["data_offsets"][1] for n, v in places.items() if n != "__metadata__")
        short = len(content) < 8 + header + promised
        assert short or content.endswith(b"\xff" * 16)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("rc012", ("16 and", "fp16")),
        ("rc032", ("evaluat", "allocate")),
        ("rc033", ("training_step", "allocate")),
    ],
)
def test_runs_that_ended_say_so_on_their_console(
    records: list[Path], kind: str, words: tuple[str, ...]
) -> None:
    for record in of_kind(records, kind):
        console = (record / "run/train.log").read_text("utf-8")
        assert "Traceback" in console
        assert all(word in console for word in words), record.name


def _lines(record: Path) -> list[str]:
    """The entries of any of the logs, one JSON object each."""
    state = record / "run/trainer_state.json"
    if state.exists():
        return [json.dumps(entry) for entry in json.loads(state.read_bytes())["log_history"]]
    names = ("metrics.jsonl", "trainer_log.jsonl", "logging.jsonl")
    path = next(p for name in names if (p := record / "run" / name).exists())
    return path.read_text("utf-8").splitlines()
