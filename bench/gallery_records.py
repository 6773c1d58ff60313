"""The recorded runs of tests/gallery, unpacked: what a diagnoser gets, and what it is judged by."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ARCHIVES = Path(__file__).resolve().parents[1] / "tests/gallery"
TUNE = 1
"""The seed that rules may be tuned on; the others are held out."""
LOGS = ("metrics.jsonl", "trainer_state.json", "trainer_log.jsonl", "logging.jsonl", "train.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One recorded run. `cause` is None for a healthy one."""

    folder: Path
    kind: str
    cause: str | None
    trainer: str
    seed: int
    planted: str

    @property
    def run(self) -> Path:
        """The trainer's output folder."""
        return self.folder / "run"

    @property
    def data(self) -> Path | None:
        """The shard folder, or the tokenized dataset."""
        places = (self.folder / "data/shards", self.folder / "data/train.parquet")
        return next((place for place in places if place.exists()), None)

    @property
    def configs(self) -> list[Path]:
        """What the user wrote."""
        return sorted((self.folder / "config").iterdir())

    @property
    def card(self) -> str:
        """The card that it is said to run on."""
        return str(json.loads((self.folder / "machine.json").read_bytes())["card"])

    @property
    def log(self) -> Path | None:
        """The best of its logs."""
        return next((self.run / name for name in LOGS if (self.run / name).exists()), None)

    @property
    def held_out(self) -> bool:
        """Whether rules were not tuned on it."""
        return self.seed != TUNE


@contextmanager
def unpacked(archives: Path = ARCHIVES) -> Iterator[list[Record]]:
    """All records, in a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="gallery-") as name:
        for archive in sorted(archives.glob("*.zip")):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(name)
        yield [read(folder) for folder in sorted(Path(name).iterdir())]


def kept(folder: Path) -> list[Record]:
    """The records in a folder of them, as `gallery/make.py` keeps them."""
    return [read(path.parent) for path in sorted(folder.glob("*/truth.json"))]


def read(folder: Path) -> Record:
    """The record in a folder."""
    return Record(folder=folder, **json.loads((folder / "truth.json").read_bytes()))
