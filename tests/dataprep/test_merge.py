"""`glmprep merge` as a command: what it writes, that its sums balance, and the way back."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from glmprep import blocks, canonical
from glmprep.cli import glmprep
from glmprep.engines.local import Processes
from glmprep.errors import InputError, SuiteError, UsageError
from glmprep.families import Family
from glmprep.intake import Intake
from glmprep.merge import merge
from glmprep.merging.collecting import Collector, Result
from glmprep.merging.groups import Alike
from glmprep.merging.merger import Merger
from glmprep.merging.phrases import shipped
from glmprep.merging.restoring import map_path, restore
from glmprep.merging.settings import Merging
from glmprep.merging.stage import MergeBlocks
from glmprep.merging.trims import TRIMS
from glmprep.records import Conversation, Message, Origin, ToolCall
from glmprep.repair import Edit
from glmprep.source import Source
from glmprep.store import Folder
from glmprep.tokenizer import Tokenizer
from glmprep.tokenizing import Named, Ready
from glmprep.views import merge as view
from glmreport import render

from .chats import chat, write

GREETED = chat(("user", "您好，我最近睡不好，谢谢。"), ("assistant", "多久了？"))
NOISY = chat(("user", "So {vocalsound} the the point , uh , is 5"), ("assistant", "Hello"))
PLAIN = chat(("user", "How far is it?"), ("assistant", "Rather far."))
ANSWERED = (("assistant", "Oui."),)
POLITE = chat(("user", "您好"), ("assistant", "您好！"))
CALL = Message(role="assistant", tool_calls=(ToolCall(name="f", arguments="{}"),))
CALLS = chat(("user", "uh , do it"), CALL, Message(role="tool", content="uh , {noise}"))
HOSTILE = chat(("user", "Hi, <script>alert(1)</script>\x1b[31m there, thanks"), ("assistant", "x"))

ALL = Merging(trim=tuple(TRIMS))
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, family: Family, tokenizer: Tokenizer) -> Run:
    def merged(
        data: Sequence[Conversation] | str, *, answers: bool = False, dry: bool = False
    ) -> Result:
        path = data if isinstance(data, str) else write(tmp_path / "in.jsonl", data)
        return merge(
            Source(paths=[path]),
            None if dry else tmp_path / "out.jsonl",
            merging=replace(ALL, answers=answers),
            tokenizing=Ready(tokenizer, family),
        )

    return merged


def lines(path: Path) -> list[Any]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def back(tmp_path: Path) -> bytes:
    out = tmp_path / "out.jsonl"
    restore(out, map_path(out), tmp_path / "back.jsonl")
    return (tmp_path / "back.jsonl").read_bytes()


def test_what_is_written_and_how_it_came_to_be(run: Run, tmp_path: Path) -> None:
    result = run([GREETED, PLAIN, NOISY])
    assert [row["messages"][0]["content"] for row in lines(tmp_path / "out.jsonl")] == [
        "我最近睡不好。",
        "How far is it?",
        "So the point , is 5",
    ]
    first, second, last = lines(map_path(tmp_path / "out.jsonl"))
    assert first == {
        "where": f"{tmp_path}/in.jsonl:1",
        "line": 1,
        "changes": [
            {"rule": "DF503", "at": 0, "cut": [[0, "您好，"]]},
            {"rule": "DF504", "at": 0, "cut": [[6, "，谢谢"]]},
        ],
    }
    assert (second["line"], last.keys()) == (3, {"format", "source", "merged"})
    assert list(result.removed) == ["DF501", "DF502", "DF503", "DF504", "DF505"]
    assert result.removed["DF503"].as_json() == {
        "places": 1,
        "in_rows": 1,
        "removed": {"rows": 0, "turns": 0, "characters": 3, "trained": 0, "context": 2},
    }
    assert result.before.trained == result.after.trained
    assert {finding.rule for finding in result.findings} >= {"DF501", "DF503"}


def test_the_merge_is_taken_back_to_the_byte(run: Run, tmp_path: Path) -> None:
    run([POLITE, GREETED, POLITE, PLAIN, NOISY, CALLS, POLITE], answers=True)
    assert back(tmp_path) == (tmp_path / "in.jsonl").read_bytes()


def test_a_conversation_of_which_nothing_is_left_is_set_aside(run: Run, tmp_path: Path) -> None:
    result = run([POLITE, PLAIN], answers=True)
    assert [(one.rule, one.origin.line) for one in result.rejections] == [("DF519", 1)]
    assert result.removed["DF519"].amount.rows == 1
    assert (result.before.rows, result.after.rows) == (2, 1)
    assert back(tmp_path) == (tmp_path / "in.jsonl").read_bytes()


def test_nothing_at_all_left_is_one_line(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no row is left, of 1; the first: .*nothing to train"):
        run([POLITE], answers=True)
    assert not (tmp_path / "out.jsonl").exists()


def test_tool_calls_alone_pass_through(run: Run, tmp_path: Path) -> None:
    only_calls = chat(("user", "{noise} now"), CALL, Message(role="tool", content="{noise} uh ,"))
    run([only_calls, chat(("user", "go"), CALL)])
    first, second = lines(tmp_path / "out.jsonl")
    assert [m["content"] for m in first["messages"]] == ["now", "", "{noise} uh ,"]
    assert second["messages"][1]["tool_calls"][0]["function"]["name"] == "f"


def test_empty_input_is_an_error_of_one_line(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no rows"):
        run([])


SAMPLES = ("counselling", "toolcalls", "meetings")


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_trimmed_and_come_back_to_the_byte(
    run: Run, tmp_path: Path, family: Family, tokenizer: Tokenizer, name: str
) -> None:
    result = run(f"sample:{name}", answers=True)
    assert result.after.tokens < result.before.tokens
    assert result.balances
    intake = Intake(
        Source(paths=[f"sample:{name}"]), family=family, special_tokens=list(tokenizer.added)
    )
    came = [canonical.line(one) for batch in intake.batches() for one in batch.conversations]
    assert back(tmp_path) == b"".join(came)


def test_real_meetings_as_conversations_of_many_turns_come_back(
    run: Run, tmp_path: Path, assets: Path
) -> None:
    meetings = (assets / "data/qmsum/Academic_val.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(meetings).splitlines()[:1]]
    chats = []
    for row in rows:
        talk = row["meeting_transcripts"]
        main = talk[0]["speaker"]
        chats.append(
            chat(
                ("user", "Begin."),
                *(
                    ("assistant" if one["speaker"] == main else "user", one["content"] or "-")
                    for one in talk
                ),
            )
        )
    path = write(tmp_path / "meetings.jsonl", chats)
    merged = tmp_path / "out.jsonl"
    result = CliRunner().invoke(
        glmprep, ["convert", path, "--repair", "-o", str(tmp_path / "in.jsonl")]
    )
    assert result.exit_code == 0, result.output
    done = run(str(tmp_path / "in.jsonl"), answers=True)
    assert done.removed["DF506"].amount.turns > 50
    assert done.balances
    assert merged.exists()
    assert back(tmp_path) == (tmp_path / "in.jsonl").read_bytes()


def test_real_counselling_keeps_every_trained_token(run: Run, tmp_path: Path, assets: Path) -> None:
    data = gzip.decompress((assets / "data/smilechat/smilechat_12k.jsonl.gz").read_bytes())
    (tmp_path / "smile.jsonl").write_bytes(b"\n".join(data.splitlines()[1000:1100]))
    path = tmp_path / "in.jsonl"
    roles = ["--role", "client=user", "--role", "counselor=assistant", "--repair"]
    made = CliRunner().invoke(
        glmprep, ["convert", str(tmp_path / "smile.jsonl"), *roles, "-o", str(path)]
    )
    assert made.exit_code == 0, made.output
    result = run(str(path))
    assert result.after.trained == result.before.trained
    assert result.after.context < result.before.context


def test_a_map_of_another_file_is_refused(run: Run, tmp_path: Path) -> None:
    run([GREETED, PLAIN])
    out = tmp_path / "out.jsonl"
    map_file, target = map_path(out), tmp_path / "back.jsonl"
    other = tmp_path / "other.jsonl"
    for data in (b"", out.read_bytes() * 2, write_bytes([PLAIN]), b"no json\n", b"5\n"):
        other.write_bytes(data)
        with pytest.raises(InputError, match="the map belongs to another file"):
            restore(other, map_file, target)
        assert not target.exists()


@pytest.mark.parametrize("line", [b"no json", b"{}", b"5", b'{"where": "a", "line": "1"}'])
def test_a_broken_map_is_refused(run: Run, tmp_path: Path, line: bytes) -> None:
    run([GREETED, PLAIN])
    out = tmp_path / "out.jsonl"
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"broken.jsonl:1: not a map of merges"):
        restore(out, broken, tmp_path / "back.jsonl")


def test_a_map_that_was_cut_off_is_refused(run: Run, tmp_path: Path) -> None:
    run([GREETED, PLAIN])
    out = tmp_path / "out.jsonl"
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(map_path(out).read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="belongs to another file"):
        restore(out, cut, tmp_path / "back.jsonl")


def test_a_map_of_another_version_is_refused(run: Run, tmp_path: Path) -> None:
    run([GREETED, PLAIN])
    out = tmp_path / "out.jsonl"
    *entries, last = lines(map_path(out))
    older = tmp_path / "older.jsonl"
    del last["format"]
    older.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in (*entries, last)))
    with pytest.raises(InputError, match=r"older.jsonl:2: not in the format glmprep-merges/2"):
        restore(out, older, tmp_path / "back.jsonl")


def test_key_information_is_looked_for_once_more_at_the_end(
    monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    def careless(self: Merger, row: Any, origin: Origin) -> Any:
        before = list(row["messages"])
        edit = Edit(rule="DF503", at=0, before=before[:1], after=[{"role": "user", "content": "?"}])
        return after_check(self, row, origin, edit)

    def after_check(merger: Merger, row: Any, origin: Origin, edit: Edit) -> Any:
        return Merger.finished(merger, row, origin, [*edit.after, *row["messages"][1:]], [edit])

    monkeypatch.setattr(Merger, "__call__", careless)
    result = run([chat(("user", "not 5"), ("assistant", "x"))])
    assert [finding.rule for finding in result.findings if finding.severity == "error"] == ["DF540"]
    assert lines(tmp_path / "out.jsonl")[0]["messages"][0]["content"] == "not 5"
    assert result.before == result.after


def write_bytes(chats: Sequence[Conversation]) -> bytes:
    return b"".join(map(canonical.line, chats))


def invoke(*words: str) -> Any:
    return CliRunner().invoke(glmprep, ["merge", *words])


def test_findings_tell_what_was_quoted_and_what_was_kept(
    run: Run, tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    quoting = chat(
        ("user", "It stops with an error."),
        ("assistant", "Turn it off and on again."),
        ("user", "> Turn it off and on again.\nThat did nothing."),
        ("assistant", "Oh dear."),
    )
    silent = {"DF508", "DF516", "DF517"}
    assert not silent & {finding.rule for finding in run([PLAIN]).findings}
    found = {finding.rule for finding in run([quoting, POLITE]).findings}
    assert silent & found == {"DF508", "DF516"}
    phrases = tmp_path / "phrases.toml"
    phrases.write_text('[greetings]\nfr = ["salle 12"]\n')
    kept = merge(
        Source(paths=[write(tmp_path / "in.jsonl", [chat(("user", "Salle 12."), *ANSWERED)])]),
        None,
        merging=Merging(trim=("greetings",), phrases=shipped().with_file(phrases).as_text()),
        tokenizing=Ready(tokenizer, family),
    )
    assert silent & {finding.rule for finding in kept.findings} == {"DF517"}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ([], "name the output with -o, or pass --dry-run"),
        (["--dry-run"], "nothing was asked for: pass --trim"),
        (["--dry-run", "--trim", "tags,nonsense"], "--trim nonsense: no such rule; there are all"),
        (["--dry-run", "--groups", "best", "--trim-answers"], "pass --trim with them"),
        (["--dry-run", "--groups", "cap=0"], "write best, or cap=N"),
        (["--dry-run", "--groups", "worst"], "write best, or cap=N"),
    ],
)
def test_calls_that_ask_for_nothing_or_nonsense(options: list[str], fault: str) -> None:
    result = invoke("sample:counselling", *options)
    assert isinstance(result.exception, UsageError)
    assert fault in str(result.exception)


def test_undo_from_the_command_line(run: Run, tmp_path: Path) -> None:
    run([GREETED, PLAIN])
    out, target = tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    result = invoke(str(out), "--undo", str(map_path(out)), "-o", str(target), "--json", "-")
    assert result.exit_code == 0
    assert target.read_bytes() == (tmp_path / "in.jsonl").read_bytes()
    assert json.loads(result.stdout)["changed"] == 1


def test_the_list_names_each_rule() -> None:
    result = invoke("--list")
    assert result.exit_code == 0
    for name, rule in TRIMS.items():
        assert re.search(rf"^{name} +{rule.id} ", result.output, re.MULTILINE)


def test_the_list_counts_phrases_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "more.toml"
    path.write_text('[greetings]\nfr = ["bonjour", "salut"]\n')
    assert "greetings fr 2" in invoke("--phrases", str(path), "--list").output


def test_a_dry_run_shows_the_difference_and_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", [HOSTILE, GREETED])
    result = invoke(path, "--trim", "all", "--dry-run")
    assert result.exit_code == 0
    assert "[-您好，-]我最近睡不好" in result.output
    assert f"DF503  {path}:2 message 1" in result.output
    assert "\x1b" not in result.output
    assert list(tmp_path.iterdir()) == [Path(path)]


@pytest.mark.parametrize("dry", [True, False])
def test_the_page_shows_the_differences_and_escapes_them(
    run: Run, tmp_path: Path, dry: bool
) -> None:
    result = run([HOSTILE, GREETED, POLITE], answers=True, dry=dry)
    target = None if dry else tmp_path / "out.jsonl"
    html = render(view.page(result, target, "glmprep merge in.jsonl", ["in.jsonl"]))
    assert "<script>alert" not in html
    assert '<span class="removed">您好，</span>' in html
    assert "删去了问候语" in html


def test_with_json_everything_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", [GREETED, NOISY])
    result = invoke(path, "--trim", "all", "--dry-run", "--json", "-")
    told = json.loads(result.stdout)
    for name in ("rows", "turns", "characters", "trained", "context"):
        removed = sum(rule["removed"][name] for rule in told["rules"].values())
        assert told["before"][name] == told["after"][name] + removed
    assert {one["rule"] for one in told["differences"]} == set(told["rules"])


def test_near_duplicates_go_and_come_back_at_their_place(tmp_path: Path) -> None:
    answer = "Take the second street on the left, walk on to the river, and ring the bell there."
    ask = "How do I get from the old station to the house of my sister by the river?"
    twin = chat(("user", ask), ("assistant", answer))
    path = Path(write(tmp_path / "in.jsonl", [twin, PLAIN, GREETED, twin, twin, NOISY]))
    out = tmp_path / "out.jsonl"
    result = invoke(str(path), "--groups", "best", "--trim", "all", "-o", str(out), "--json", "-")
    told = json.loads(result.stdout)
    assert told["rules"]["DF531"]["places"] == 2
    assert (told["before"]["rows"], told["after"]["rows"]) == (6, 4)
    gone = [entry for entry in lines(map_path(out)) if entry.get("rule") == "DF531"]
    assert [(entry["line"], entry["kept"]) for entry in gone] == [(4, f"{path}:1")] * 2
    assert back(tmp_path) == path.read_bytes()


def test_close_neighbours_are_joined_and_come_back(tmp_path: Path) -> None:
    said = "I have been sleeping badly for many weeks, and I do not know what to do about it."
    pair = chat(("user", said), ("user", said), ("assistant", "Try to rest."))
    path = Path(write(tmp_path / "in.jsonl", [pair, PLAIN]))
    repaired = invoke(str(path), "--merge-turns", "-o", str(tmp_path / "out.jsonl"), "--json", "-")
    told = json.loads(repaired.stdout)
    assert told["after"]["rows"] == told["before"]["rows"]
    assert back(tmp_path)


TWIN = chat(
    ("user", "How do I get from the old station to the house of my sister by the river?"),
    ("assistant", "Take the second street on the left, and walk on to the river from there."),
)
GREETED_TWIN = chat(("user", f"Hi, {TWIN.messages[0].content}"), TWIN.messages[1])
MIXED = [GREETED, TWIN, POLITE, NOISY, GREETED_TWIN, PLAIN, POLITE, TWIN, CALLS, TWIN, POLITE]
EVERYTHING = replace(ALL, answers=True, turns=True, groups=Alike())


Everything = Callable[..., tuple[Result, dict[str, bytes]]]


@pytest.fixture
def everything(tmp_path: Path, family: Family, tokenizer: Tokenizer) -> Everything:
    """Merges rows in all ways; the result, and the files that were written, by their names."""
    source = Source(paths=[write(tmp_path / "in.jsonl", MIXED)], repair=True)

    def merged(**more: Any) -> tuple[Result, dict[str, bytes]]:
        given: dict[str, Any] = {"merging": EVERYTHING, "tokenizing": Ready(tokenizer, family)}
        result = merge(source, tmp_path / "out" / "out.jsonl", **given | more)
        written = sorted((tmp_path / "out").iterdir())
        return result, {path.name: path.read_bytes() for path in written}

    return merged


def test_blocks_and_workers_make_no_difference(
    everything: Everything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, files = everything()
    restore(tmp_path / "out/out.jsonl", tmp_path / "out/out.jsonl.merges.jsonl", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "in.jsonl").read_bytes()
    assert result.removed["DF531"].places == 3
    assert len(result.rejections) == 3
    assert list(files) == [
        f"out.jsonl{end}" for end in ("", ".merges.jsonl", ".rejects.jsonl", ".repairs.jsonl")
    ]
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    parted, parted_files = everything()
    assert parted_files == files
    assert parted.as_json() == result.as_json()
    assert parted.findings == result.findings
    with Processes(2) as engine:
        worked, worked_files = everything(engine=engine, tokenizing=Named(tokenizer="glm4"))
    assert worked_files == files
    assert worked.as_json() == result.as_json()


def test_what_was_made_of_blocks_is_found_again_and_made_again_where_it_is_broken(
    everything: Everything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    units = tmp_path / "units"
    first = everything(units=Folder(units))
    times = {path: path.stat().st_mtime_ns for path in units.iterdir()}
    for number, end in enumerate(("merges", "sketches", "jsonl", "json")):
        broken = sorted(units.glob(f"*.{end}"))[number]
        broken.write_bytes(broken.read_bytes()[:-1] if end == "json" else b"")
    assert everything(units=Folder(units))[1] == first[1]
    made = {path.stem for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert 1 <= len(made) <= 4
    capped = everything(units=Folder(units), merging=replace(EVERYTHING, groups=Alike(most=2)))
    assert capped[0].removed["DF531"].places == 2
    assert len(list(units.iterdir())) == len(times)


def test_other_settings_make_other_blocks(everything: Everything, tmp_path: Path) -> None:
    units = tmp_path / "units"
    (tmp_path / "more.toml").write_text('[thanks]\nfr = ["merci"]\n')
    phrases = shipped().with_file(tmp_path / "more.toml").as_text()
    others: list[dict[str, Any]] = [
        {},
        {"answers": False},
        {"phrases": phrases},
        {"trim": ("tags",)},
        {"turns": False},
        {"threshold": 0.5},
        {"groups": None},
    ]
    for made, other in enumerate(others, 1):
        everything(units=Folder(units), merging=replace(EVERYTHING, **other))
        assert len(list(units.glob("*.json"))) == made


def test_a_merge_that_fails_leaves_nothing_behind_nor_does_one_that_was_killed(
    everything: Everything, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_over = tmp_path / "out" / "out.jsonl.units.tmp"
    left_over.mkdir(parents=True)
    (left_over / "1.jsonl").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", 1)
        patch.setattr(Collector, "finish", lambda _: (_ for _ in ()).throw(InputError("no")))
        with pytest.raises(InputError, match="no"):
            everything()
    assert list((tmp_path / "out").iterdir()) == []


def test_places_are_told_where_the_rows_stand_now(
    tmp_path: Path, family: Family, tokenizer: Tokenizer
) -> None:
    store, source = Folder(tmp_path / "units"), Source(paths=["now.jsonl"])
    made = MergeBlocks(
        source=source,
        tokenizing=Ready(tokenizer, family),
        merging=EVERYTHING,
        store=store,
        stamp="",
        output="out.jsonl",
    )
    text, following = made(blocks.derived("then.jsonl", write_bytes(MIXED)))
    with Collector(
        source, tmp_path / "out.jsonl", files=["now.jsonl"], store=store, alike=Alike()
    ) as collector:
        collector.add(text, before=7)
        result = collector.finish()
    assert [one.origin.line for one in result.rejections] == [10, 14, 18]
    wheres = [entry["where"] for entry in lines(map_path(tmp_path / "out.jsonl"))[:-1]]
    assert wheres == [f"now.jsonl:{7 + line}" for line in (1, 3, 4, 5, 7, 8, 9, 10, 11)]
    kept = [entry.get("kept") for entry in lines(map_path(tmp_path / "out.jsonl"))]
    assert kept.count("now.jsonl:9") == 3
    assert {one.where.split(":")[0] for all_ in result.differences.values() for one in all_} == {
        "now.jsonl"
    }
    assert len(list(following.rows())) == text.lines == result.after.rows + 3
