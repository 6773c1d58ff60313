"""Write docs/settings.md from the trainer's settings themselves (`make docs`)."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from glmtrain.settings import Config

HEAD = """# Settings of a training run

Made by `make docs` from `train/glmtrain/settings.py`. In a TOML file each section is a table
(`[lora]`); on the command line any of them is `--set lora.rank=8`. `open` is filled from method,
model and data, and told at the start.
"""


def page() -> str:
    """All sections with their keys."""
    parts = [HEAD]
    for section, kind in get_type_hints(Config).items():
        parts.append(
            f"## [{section}]\n\n{_text(kind)}\n\n| setting | takes | unless given |\n|---|---|---|"
        )
        hints = get_type_hints(kind)
        parts[-1] += "".join(_row(section, each, hints[each.name]) for each in fields(kind)) + "\n"
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Each file and what it is to hold."""
    return {Path(__file__).with_name("settings.md"): page()}


def _row(section: str, each: Field[Any], hint: Any) -> str:
    default = each.default if each.default is not MISSING else ""
    return f"\n| `{section}.{each.name}` | {_takes(hint)} | {_default(default)} |"


def _takes(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " · ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is tuple:
        return "list of strings"
    known = [each for each in get_args(hint) if each is not type(None)] or [hint]
    names = {bool: "true · false", int: "whole number", float: "number", str: "string"}
    return names[known[0]]


def _default(value: Any) -> str:
    if value is None:
        return "open"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value) or "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _text(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
