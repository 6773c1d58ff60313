"""The files of a run that belong to a diagnosis, where the user named none."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from glmprep.errors import SuiteError

from glmdiag import configs
from glmdiag.logs.folder import logs_in

RESOLVED = "config.resolved.toml"
CONFIGS = ("*.yaml", "*.yml", "*args*.json", "ds_*.json", "*deepspeed*.json", "*zero*.json")
CONSOLES = ("*.log", "*.out", "*.txt")
LARGEST = 1 << 20  # bytes of a configuration


def logs_of(run: Path) -> list[Path]:
    """The log with the steps, and what lies beside it: a state of transformers, a console's texts.

    LLaMA-Factory and ms-swift write logs of their own and that state, which has gradient norms; a
    console says how the run ended. Raises InputError for a folder without any.
    """
    if not run.is_dir():
        return [run]
    logs = list(logs_in(run))
    state = run / "trainer_state.json"
    if state.is_file() and state not in logs:
        logs.append(state)
    texts = [path for pattern in CONSOLES for path in sorted(run.glob(pattern))]
    return [*logs, *(path for path in texts if path not in logs and path.stat().st_size)]


def configs_of(run: Path) -> list[Path]:
    """What glmtrain resolved, else the configurations of other trainers that lie in the folder."""
    if not run.is_dir():
        return []
    if (run / RESOLVED).is_file():
        return [run / RESOLVED]
    return [path for pattern in CONFIGS for path in sorted(run.glob(pattern)) if _is_config(path)]


def shards_of(run: Path) -> Path | None:
    """The shards that a run of glmtrain was trained on, where they still are."""
    try:
        settings = tomllib.loads((run / RESOLVED).read_text(encoding="utf-8")[:LARGEST])
        first = str(settings["data"]["shards"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    folder, _, weight = first.rpartition(":")
    return near(first, run) or (near(folder, run) if weight else None)


def near(name: str, run: Path) -> Path | None:
    """A path of a run's settings: from here, from the run, or from what the run lies in."""
    places: Sequence[Path] = (Path(), run, *list(run.absolute().parents)[:2])
    try:
        return next((place / name for place in places if (place / name).exists()), None)
    except (OSError, ValueError):  # a name that no file can have
        return None


def _is_config(path: Path) -> bool:
    try:
        configs.read([path])
    except SuiteError:
        return False
    return True
