"""The chat templates that are shipped, for the list of tools; turns are written by hand.

Where they come from is told in assets/TEMPLATES.md.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

EDGE = "\0"
"""Stands around what was given in `edged` templates; JSON text cannot hold it."""


@cache
def template(name: str, *, edged: bool = False) -> Template:
    """A template of the assets, set up as transformers does it.

    With `edged`, an EDGE stands before and after each JSON value, which tells what the template
    says from what it was given.
    """
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    edge = EDGE if edged else ""

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return f"{edge}{json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)}{edge}"

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = tojson
    source = resources.files("glmprep").joinpath(f"assets/{name}.jinja").read_text("utf-8")
    return environment.from_string(source)
