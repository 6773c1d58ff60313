"""The model that an adapter was made for, where training goes on from one."""

from __future__ import annotations

from pathlib import Path

from glmprep.errors import InputError

from glmdiag.configs import document
from glmdiag.configs.reader import Reader

CONFIG = "adapter_config.json"
BASE = "base_model_name_or_path"


def read_base(reader: Reader) -> None:
    """Take the name of its base from an adapter that a configuration names, where it is here."""
    name = reader.values.get("adapter")
    if name is None:
        return
    beside = reader.document.path.parent
    for folder in (beside / name, beside.parent / name, Path(name)):
        base = _base(folder / CONFIG)
        if base is not None:
            reader.values["adapter_base"] = base
            return


def _base(path: Path) -> str | None:
    try:
        base = document.load(path).tree.get(BASE) if path.is_file() else None
    except (InputError, OSError, ValueError):  # no configuration, or a name that no file can have
        return None
    return base if isinstance(base, str) and base else None
