"""Renders a `Page` to HTML: words in every language, data escaped, nothing loaded from outside."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from glmreport import markup
from glmreport.page import Page
from glmreport.text import LANGUAGES, Catalogue, visible

SEVERITIES = ("error", "warning", "info")


def render_document(page: Page) -> str:
    """The page as one HTML document."""
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    findings = sorted(page.findings or (), key=lambda f: SEVERITIES.index(f.severity))
    tally = [(s, sum(f.severity == s for f in findings)) for s in SEVERITIES]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            findings=findings,
            tally=[(severity, count) for severity, count in tally if count],
            titles={k: f"{Catalogue.load(k).say(page.title)} · {page.subject}" for k in LANGUAGES},
            style=Markup(_asset("page.css")),
            script=Markup(script),
            digest=digest,
        )
    )


def write_document(page: Page, path: Path) -> None:
    """Renders first, so that an error leaves no file, then replaces `path` in one move."""
    document = render_document(page)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(document, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("glmreport"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= markup.FILTERS
    return environment


def _finalize(value: object) -> object:
    """Whatever a template puts out: data has its hidden characters made visible."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return (resources.files("glmreport") / "templates" / name).read_text(encoding="utf-8")
