"""`glmprep build`: the bytes of the commands by hand, what is used again, what interrupts it."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
import pytest

SAMPLES = ("toolcalls", "meetings")
RECIPE = """
[data]
paths = ["data"]
repair = true
[shards]
layout = "packed"
max_length = {limit}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with real data and a recipe."""
    folder = resources.files("glmprep") / "assets" / "samples"
    (tmp_path / "data").mkdir()
    for name in SAMPLES:
        packed = (folder / f"{name}.jsonl.gz").read_bytes()
        (tmp_path / "data" / f"{name}.jsonl").write_bytes(gzip.decompress(packed))
    write(tmp_path)
    return tmp_path


def write(place: Path, limit: int = 2048, more: str = "") -> None:
    (place / "recipe.toml").write_text(RECIPE.format(limit=limit) + more)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "glmprep.cli", *map(str, words)]


def run(place: Path, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=place, capture_output=True, text=True, timeout=300, **options
    )


def build(place: Path, *words: object, status: int = 0) -> dict[str, Any]:
    done = run(place, "build", "recipe.toml", "--json", "-", *words)
    assert done.returncode == status, done.stderr
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def digests(folder: Path) -> dict[str, str]:
    """The content of all files but units, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.relative_to(folder).parts[0] not in ("work", "build.json", "report.html")
    }


def test_shards_are_those_of_the_command_by_hand_and_of_any_number_of_workers(place: Path) -> None:
    build(place)
    built = digests(place / "build")
    by_hand = run(
        place, "bucket", "data", "--repair", "--layout", "packed", "--max-length", 2048,
        "-o", "shards", "--workers", 2,
    )  # fmt: skip
    assert by_hand.returncode == 0, by_hand.stderr
    hand = {f"shards/{name}": digest for name, digest in digests(place / "shards").items()}
    assert {name: d for name, d in built.items() if name.startswith("shards/")} == hand
    proven = run(place, "verify", "build/shards", "data")
    assert proven.returncode == 0, proven.stdout


def test_nothing_is_done_twice(place: Path) -> None:
    first = build(place)
    assert first["kept"] == 0
    before = digests(place / "build")
    assert build(place) == {"unchanged": True, "findings": []}
    assert digests(place / "build") == before
    write(place, limit=1024)
    again = build(place, status=1)  # more is left out than a recipe allows by default
    assert build(place, status=1)["unchanged"]
    assert again["kept"] == again["blocks"] == first["blocks"]
    assert again["shards"]["ledger"]["set_aside"] != first["shards"]["ledger"]["set_aside"]
    write(place)
    build(place)
    assert digests(place / "build") == before


def test_a_row_more_makes_one_part_anew(place: Path) -> None:
    build(place)
    row = {"messages": [{"role": "user", "content": "1?"}, {"role": "assistant", "content": "1."}]}
    with (place / "data" / "meetings.jsonl").open("ab") as file:
        file.write(orjson.dumps(row) + b"\n")
    again = build(place)
    assert (again["blocks"], again["kept"]) == (2, 1)


def test_outputs_that_were_touched_are_made_again(place: Path) -> None:
    build(place)
    before = digests(place / "build")
    for name in ("shards/shard-00000.parquet", "shards/ledger.parquet", "shards/manifest.json"):
        path = place / "build" / name
        path.write_bytes(path.read_bytes()[:-100])
        assert build(place)["kept"] == 2
        assert digests(place / "build") == before, name
    shutil.rmtree(place / "build" / "work")
    assert build(place / ".") == {"unchanged": True, "findings": []}


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_goes_on_with_the_same_bytes(place: Path) -> None:
    many = [(place / "data" / f"{name}.jsonl").read_bytes() for name in SAMPLES]
    for copy in range(3):
        for name, data in zip(SAMPLES, many, strict=True):
            (place / "data" / f"{name}{copy}.jsonl").write_bytes(data)
    begin = time.monotonic()
    build(place, "--workers", 2)
    took = time.monotonic() - begin
    whole = digests(place / "build")
    for part in (0.3, 0.5, 0.7, 0.9):
        shutil.rmtree(place / "build")
        if killed_after(place, took * part):
            assert not (place / "build" / "build.json").exists()
        build(place, "--workers", 2)
        assert digests(place / "build") == whole, part


def killed_after(place: Path, seconds: float) -> bool:
    """Kill a run, its workers left behind, unless it ends before."""
    with subprocess.Popen(
        command("build", "recipe.toml", "--workers", 2),
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        time.sleep(seconds)
        running.send_signal(signal.SIGKILL)
        return running.wait() == -signal.SIGKILL


def test_two_runs_into_one_folder_are_refused(place: Path) -> None:
    from glmprep.locking import locked

    with locked(place / "build"):
        done = run(place, "build", "recipe.toml")
    assert done.returncode == 2
    assert done.stderr == (
        "glmprep: build: another run writes here; wait for it or name another folder\n"
    )
    build(place)


def test_a_dry_run_writes_nothing_and_says_what_would_be(place: Path) -> None:
    done = run(place, "build", "recipe.toml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "tokenize → arrange" in done.stdout
    assert not (place / "build").exists()
    told = orjson.loads(run(place, "build", "recipe.toml", "--dry-run", "--json", "-").stdout)
    made = build(place)
    assert 0.5 < told["tokens"] / made["shards"]["tokens"] < 2


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text + "[segmnt]\n", "segmnt is not known; did you mean segment?"),
        (lambda text: text.replace("repair", "repairs"), "data.repairs is not known; did you mean"),
        (lambda text: text.replace("true", '"yes"'), "data.repair = 'yes': must be true or false"),
        (lambda text: text.replace('"packed"', '"piled"'), "shards.layout = 'piled': must be one"),
        (lambda text: text.replace('["data"]', "[]"), "names no data; write paths = [...] under"),
        (lambda text: text.replace('["data"]', '["none"]'), "none: no such file"),
        (lambda text: text.replace("[data]", "[data"), "not a recipe"),
        (lambda text: text.replace("2048", "3"), "the template's own tokens need more"),
    ],
)
def test_a_recipe_that_contradicts_itself_or_is_misspelt_is_one_line(
    place: Path, edit: Callable[[str], str], said: str
) -> None:
    path = place / "recipe.toml"
    path.write_text(edit(path.read_text()))
    done = run(place, "build", "recipe.toml")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("no right to mount a small disk")
    return folder


def test_a_full_disk_is_an_error_and_never_a_wrong_shard(place: Path, small_disk: Path) -> None:
    try:
        write(place, more=f'[output]\nfolder = "{small_disk}"\n')
        done = run(place, "build", "recipe.toml")
        assert done.returncode == 2
        assert done.stderr.endswith("No space left on device\n")
        assert done.stderr.count("\n") == 1
        assert not (small_disk / "shards" / "manifest.json").exists()
    finally:
        subprocess.run(["umount", small_disk], check=True)


def test_an_input_that_changes_meanwhile_is_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glmprep import build as building
    from glmprep.build_plan import plan
    from glmprep.engines.local import Serial
    from glmprep.errors import InputError
    from glmprep.recipe import load

    grown = place / "data" / "meetings.jsonl"

    def touch(done: int, total: int) -> None:
        os.utime(grown, (1, 1))

    monkeypatch.chdir(place)
    with pytest.raises(InputError, match="changed while it was read; run again"):
        building.build(plan(load(Path("recipe.toml"))), Serial(), progress=touch)
    assert not (place / "build" / "shards" / "manifest.json").exists()


WHOLE = """
[merge]
trim = ["all"]
{groups}
[segment]
segmenter = "semantic"
context = "memory"
on_overflow = "middle"
"""


@pytest.mark.parametrize("groups", ["", 'groups = "best"'])
def test_all_stages_give_the_bytes_of_their_commands(place: Path, groups: str) -> None:
    (place / "data" / "meetings.jsonl").unlink()
    write(place, limit=400, more=WHOLE.format(groups=groups))
    build(place)
    asked = ["--groups", "best"] if groups else []
    (place / "build").rename(place / "built")
    for words in (
        ["merge", "data", "--repair", "--trim", "all", *asked, "-o", "build/merged.jsonl"],
        ["segment", "build/merged.jsonl", "--segmenter", "semantic", "--context", "memory",
         "--on-overflow", "middle", "--max-length", 400, "-o", "build/segments.jsonl"],
        ["bucket", "build/segments.jsonl", "--layout", "packed", "--max-length", 400,
         "-o", "build/shards"],
    ):  # fmt: skip
        done = run(place, *words)
        assert done.returncode == 0, done.stderr
    assert digests(place / "built") == digests(place / "build")


def test_a_file_that_the_recipe_names_is_looked_at_again(place: Path) -> None:
    phrases = place / "phrases.toml"
    phrases.write_text('[fillers]\nen = ["you know"]\n')
    write(place, more='[merge]\ntrim = ["all"]\nphrases = "phrases.toml"\n')
    assert "unchanged" not in build(place)
    assert build(place)["unchanged"]
    phrases.write_text('[fillers]\nen = ["you know", "i mean"]\n')
    assert "unchanged" not in build(place)


def test_what_comes_through_a_pipe_is_always_read(place: Path) -> None:
    data = (place / "data" / "toolcalls.jsonl").read_text()
    write(place)
    recipe = place / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('["data"]', '["-"]'))
    for text in (data, data[: data.index("\n") + 1]):
        done = run(place, "build", "recipe.toml", "--json", "-", input=text)
        assert "unchanged" not in orjson.loads(done.stdout), done.stderr
    assert orjson.loads(done.stdout)["shards"]["conversations"] == 1
