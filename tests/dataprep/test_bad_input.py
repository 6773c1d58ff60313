"""Bad input through the command line: one line, the right exit status, nothing half-written."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from glmprep import tokenizer as tokenizers
from glmprep.cli import glmprep
from glmprep.console import run
from glmprep.tokenizer import Tokenizer

ROW = orjson.dumps(
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
)
SOUND = (ROW + b"\n") * 3


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tokenizer: Tokenizer,
    tmp_path: Path,
) -> Run:
    """Run glmprep in a folder of its own, as a shell would."""
    load = tokenizers.load

    def load_once(spec: str = "glm4") -> Tokenizer:
        return tokenizer if spec == "glm4" else load(spec)

    def ran(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["glmprep", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        with pytest.raises(SystemExit) as end:
            run(glmprep)
        out, err = capfd.readouterr()
        assert "Traceback" not in err + out
        return Ran(int(end.value.code or 0), out, err)

    monkeypatch.setattr(tokenizers, "load", load_once)
    monkeypatch.chdir(tmp_path)
    Path("sound.jsonl").write_bytes(SOUND)
    return ran


def refused(ran: Ran, *words: str) -> None:
    """Whether a command ended with status 2 and one line that says these words."""
    assert ran.status == 2, ran
    assert len(ran.err.strip().splitlines()) == 1, ran.err
    assert ran.err.startswith("glmprep: ")
    for word in words:
        assert word in ran.err
    assert not list(Path().rglob("manifest.json"))
    assert not list(Path().rglob("*.tmp"))


UNREADABLE: dict[str, bytes] = {
    "binary.jsonl": bytes(range(256)) * 20,
    "cut.jsonl.gz": gzip.compress(os.urandom(5000))[:-2000],
    "broken.json": b'[{"messages": []},',
    "not.jsonl.gz": SOUND,
    "not.jsonl.zst": SOUND,
    "empty.jsonl": b"",
    "blank.jsonl": b"\n\n  \n",
}
DEEP = b'{"a":' * 400 + b"1" + b"}" * 400
REJECTED: dict[str, bytes] = {
    "utf8.jsonl": b'{"messages": "\xff\xfe"}',
    "nesting.jsonl": b'{"messages":' * 1500 + b"1" + b"}" * 1500,
    "tools.jsonl": b'{"tools": [{"name": "f", "x": ' + DEEP + b"}]," + ROW[1:],
    "numbers.jsonl": ROW.replace(b'"hi"', b"5"),
    "role.jsonl": ROW.replace(b'"user"', b'"client"'),
    "surrogate.jsonl": ROW.replace(b"hi", b"\\ud800"),
    "nan.jsonl": ROW.replace(b'"hi"', b"NaN"),
    "list.jsonl": b"1",
}
DATA_COMMANDS = {
    "audit": (),
    "bucket": ("-o", "out"),
    "segment": ("-o", "out.jsonl"),
}


@pytest.mark.parametrize("name", [*UNREADABLE, *REJECTED, "missing.jsonl", "empty-folder"])
@pytest.mark.parametrize("what", DATA_COMMANDS)
def test_data_without_a_sound_row_is_refused_in_one_line(
    what: str, name: str, command: Run
) -> None:
    Path("empty-folder").mkdir()
    if data := {**UNREADABLE, **REJECTED}.get(name):
        Path(name).write_bytes(data)
    refused(command(what, name, *DATA_COMMANDS[what]), name)
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize("name", REJECTED)
def test_a_bad_row_among_sound_ones_is_rejected_with_its_place(name: str, command: Run) -> None:
    Path(name).write_bytes(SOUND + REJECTED[name] + b"\n" + SOUND)
    ran = command("bucket", name, "-o", "out", "--max-rejects", "0.5", "--json", "-")
    assert ran.status == 0, ran.err
    result = orjson.loads(ran.out)
    assert (result["ledger"]["read"], result["conversations"]) == (7, 6)
    listed = orjson.loads(Path("out/rejects.jsonl").read_bytes())
    assert listed["where"] == f"{name}:4"
    assert command("verify", "out").status == 0


def test_more_rejects_than_allowed_end_in_1_yet_the_shards_are_whole(command: Run) -> None:
    Path("a.jsonl").write_bytes(SOUND + b"{broken\n")
    assert command("bucket", "a.jsonl", "-o", "out").status == 1
    assert command("verify", "out").status == 0
    assert command("segment", "a.jsonl", "-o", "out.jsonl").status == 1
    assert len(Path("out.jsonl").read_bytes().splitlines()) == 3
    assert command("segment", "a.jsonl", "-o", "out.jsonl", "--max-rejects", "0.25").status == 0


def test_audit_ends_in_1_for_findings_as_bad_as_asked(command: Run) -> None:
    Path("a.jsonl").write_bytes(SOUND + b"{broken\n")
    assert command("audit", "sound.jsonl").status == 0  # copies are a warning
    assert command("audit", "sound.jsonl", "--fail-on", "warning").status == 1
    assert command("audit", "a.jsonl").status == 1
    assert command("audit", "a.jsonl", "--fail-on", "never").status == 0


TOKENIZERS: dict[str, tuple[bytes | None, str]] = {
    "folder": (None, "no tokenizer there"),
    "nowhere": (None, "no tokenizer there"),
    "random.json": (b'{"a": [1, 2]}', "not a tokenizer"),
    "list.json": (b"[]", "not a tokenizer"),
    "binary.json": (bytes(range(256)), "not a tokenizer"),
    "empty.json": (b"", "not a tokenizer"),
    "model.json": (b'{"added_tokens": [], "model": {"type": "BPE"}}', "not a tokenizer"),
    "broken.json.gz": (gzip.compress(b"x" * 9000)[:20] + b"\xff" * 40, "no tokenizer there"),
    "other.json": (
        b'{"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}',
        "the tokenizer has no token [gMASK]",
    ),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_path_that_is_no_glm_tokenizer_is_refused(name: str, command: Run) -> None:
    Path("folder").mkdir()
    data, message = TOKENIZERS[name]
    if data is not None:
        Path(name).write_bytes(data)
    refused(command("bucket", "sound.jsonl", "-o", "out", "--tokenizer", name), name, message)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bucket", "sound.jsonl", "-o", "out", "--max-length", "3"), "10 is the least"),
        (("bucket", "sound.jsonl", "-o", "out", "--max-length", "-5"), "10 is the least"),
        (("segment", "sound.jsonl", "-o", "out", "--max-length", "3"), "10 is the least"),
        (("audit", "sound.jsonl", "--max-length", "0"), "10 is the least"),
        (("bucket", "sound.jsonl", "-o", "out", "--max-length", str(2**40)), "is the most"),
        (
            ("bucket", "sound.jsonl", "-o", "out", "--max-length", "64", "--tokens-per-batch", "9"),
            "--tokens-per-batch 9 is less than --max-length 64",
        ),
        (("bucket", "sound.jsonl", "-o", "out", "--role", "x"), "--role x: write OLD=NEW"),
        (("bucket", "sound.jsonl", "-o", "out", "--role", "a=bot"), "NEW one of assistant"),
        (("bucket", "sound.jsonl", "-o", "out", "--buckets", "0"), "at least 1"),
        (("bucket", "sound.jsonl", "-o", "sound.jsonl"), "is a file; name a folder"),
        (("bucket", "sound.jsonl", "-o", "notes"), "holds readme.txt; name an empty folder"),
        (("bucket", "sound.jsonl", "-o", "notes", "--overwrite"), "holds readme.txt"),
        (("bucket", "sound.jsonl", "-o", "sound.jsonl/out"), "Not a directory"),
        (("segment", "sound.jsonl", "-o", "sound.jsonl"), "is also an input"),
        (("segment", ".", "-o", "sound.jsonl"), "is also an input"),
        (("segment", "*.jsonl", "-o", "sound.jsonl"), "is also an input"),
        (("segment", "sound.jsonl", "-o", "notes"), "is a folder or a device; name a file"),
        (("segment", "sound.jsonl", "-o", os.devnull), "is a folder or a device; name a file"),
        (("segment", "sound.jsonl", "-o", "sound.jsonl/out.jsonl"), "sound.jsonl/out.jsonl: "),
        (("audit", "sound.jsonl", "--json", "sound.jsonl/out.json"), "sound.jsonl/out.json: "),
        (("audit", "sound.jsonl", "--report", "sound.jsonl/out.html"), "sound.jsonl/out.html: "),
        (("verify", "notes"), "no manifest.json"),
        (("verify", "nowhere"), "no such shard folder"),
        (("show", "nowhere"), "nowhere: no such file"),
        (("audit", "sample:nothing"), "there are sample:counselling"),
        (("audit", "-", "-"), "read only once"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_refused_in_one_line(
    arguments: tuple[str, ...], message: str, command: Run
) -> None:
    Path("notes").mkdir()
    Path("notes/readme.txt").write_text("mine")
    refused(command(*arguments), message)
    assert Path("sound.jsonl").read_bytes() == SOUND
    assert Path("notes/readme.txt").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_may_not_be_written_is_refused(command: Run) -> None:
    Path("locked").mkdir(mode=0o500)
    refused(command("bucket", "sound.jsonl", "-o", "locked/out"), "Permission denied")
    refused(command("segment", "sound.jsonl", "-o", "locked/out.jsonl"), "Permission denied")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bucket", "sound.jsonl", "-o", "out", "--seed", str(2**70)),
        ("bucket", "sound.jsonl", "-o", "out", "--seed", "-1"),
        ("bucket", "sound.jsonl", "-o", "out", "--layout", "loose"),
        ("bucket", "sound.jsonl"),
        ("bucket", "-o", "out"),
        ("nothing",),
        ("show", "out", "--row", "many"),
    ],
)
def test_wrong_usage_is_explained_with_status_2(arguments: tuple[str, ...], command: Run) -> None:
    ran = command(*arguments)
    assert ran.status == 2
    assert "Error: " in ran.err
    assert not Path("out").exists()


def test_folders_of_outputs_are_made(command: Run) -> None:
    outputs = ("-o", "a/b/out.jsonl", "--json", "c/d.json", "--report", "e/f")
    assert command("segment", "sound.jsonl", *outputs).status == 0
    assert all(Path(name).is_file() for name in ("a/b/out.jsonl", "c/d.json", "e/f"))


def test_shards_are_written_over_only_when_asked(command: Run) -> None:
    assert command("bucket", "sound.jsonl", "-o", "new/folder/out").status == 0
    ran = command("bucket", "sound.jsonl", "-o", "new/folder/out")
    assert ran.status == 2
    assert "holds shards already; pass --overwrite" in ran.err
    assert command("bucket", "sound.jsonl", "-o", "new/folder/out", "--overwrite").status == 0
    assert command("show", "new/folder/out", "--row", "3").status == 2
    assert command("show", "new/folder/out", "--row", "2").status == 0


def test_standard_input_is_read_and_json_goes_to_standard_output(command: Run) -> None:
    ran = command("audit", "-", "--json", "-", stdin=SOUND)
    assert ran.status == 0
    assert orjson.loads(ran.out)["conversations"] == 3
    assert command("segment", "-", "-o", "out.jsonl", "--quiet", stdin=SOUND) == Ran(0, "", "")
    refused(command("audit", "-", stdin=b""), "-: no rows")


def test_one_long_line_is_a_rejection(command: Run) -> None:
    Path("a.jsonl").write_bytes(SOUND * 20 + b'"' + b"x" * (100 << 20) + b'"\n' + SOUND)
    assert command("bucket", "a.jsonl", "-o", "out").status == 0
    assert orjson.loads(Path("out/rejects.jsonl").read_bytes())["rule"] == "DF003"


def _heed_interrupts() -> None:
    """Whoever runs the tests in the background of a shell has interrupts ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_run_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    data, output = tmp_path / "many.jsonl", tmp_path / "out"
    with data.open("wb") as file:
        for number in range(40_000):
            file.write(ROW.replace(b"yo", b"yo %d " % number * 40) + b"\n")
    line = [sys.executable, "-m", "glmprep.cli", "bucket", str(data), "-o", str(output)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, preexec_fn=_heed_interrupts) as process:
        while process.poll() is None and not output.exists():
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (130, b"glmprep: stopped")
    assert list(output.iterdir()) == []


def test_chinese_on_a_terminal_without_chinese_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "文.jsonl"
    path.write_bytes(SOUND)
    line = [sys.executable, "-m", "glmprep.cli", "audit", str(path)]
    ran = subprocess.run(
        line, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"\\u6587.jsonl" in ran.stdout
