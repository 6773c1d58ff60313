"""What a model's folder says about its chat template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmprep.errors import InputError
from glmprep.tokenizer import CONFIG, read_json

JINJA = "chat_template.jinja"
JSON = "chat_template.json"


def read_template(path: Path) -> str:
    """The text of a template file; raises InputError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"{path}: no chat template there ({reason})") from error


def own_template(folder: Path) -> tuple[Path, str] | None:
    """The folder's chat template and the file that holds it, in the order of transformers."""
    if (folder / JINJA).is_file():
        return folder / JINJA, read_template(folder / JINJA)
    for name in (JSON, CONFIG):
        text = _template(read_json(folder / name).get("chat_template"))
        if text:
            return folder / name, text
    return None


def named_tokens(folder: Path | None) -> Mapping[str, str]:
    """The tokens that templates call by name, such as `bos_token`."""
    config = {} if folder is None else read_json(folder / CONFIG)
    named = {key: _text(value) for key, value in config.items() if key.endswith("_token")}
    return {key: text for key, text in named.items() if text}


def _template(value: Any) -> str:
    """A template among named ones: the one called `default`."""
    if isinstance(value, list):
        value = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
    if isinstance(value, dict):
        value = value.get("default")
    return value if isinstance(value, str) else ""


def _text(value: Any) -> str:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""
