"""A configuration as a page and in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmprep.console import printable
from glmprep.findings import Finding, Severity
from glmprep.pages import finding_views, provenance, verdict_level
from glmreport.page import (
    Block,
    Code,
    Column,
    Fact,
    Page,
    Paragraph,
    Section,
    Step,
    Table,
    Value,
    Verdict,
)
from glmreport.text import Literal, Text

from glmdiag.configs.record import TrainerConfig
from glmdiag.configuration.effects import OWN, Effect, precision
from glmdiag.configuration.fix import Change, Fixed
from glmdiag.configuration.lengths import Measured

if TYPE_CHECKING:
    from rich.console import Console

LEAST_WIDTH = 16
NAMES = {
    "glmtrain": "glmtrain",
    "official": "GLM-4",
    "llamafactory": "LLaMA-Factory",
    "axolotl": "axolotl",
    "swift": "ms-swift",
    "transformers": "Hugging Face Trainer",
    "deepspeed": "DeepSpeed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A configuration and all that was made of it."""

    config: TrainerConfig
    findings: Sequence[Finding]
    effects: Sequence[Effect]
    lengths: Measured | None
    fixes: Sequence[Fixed]

    @property
    def diff(self) -> str:
        """The proposed changes of all files."""
        return "\n".join(each.diff for each in self.fixes if each.diff)

    @property
    def left(self) -> list[Change]:
        """The changes that have no place in the files as they are written."""
        return [change for each in self.fixes for change in each.left]

    def as_json(self) -> dict[str, Any]:
        """The configuration and what follows from it as plain JSON values."""
        return {
            **self.config.as_json(),
            "effects": [effect.as_json() for effect in self.effects],
            "percentiles": None if self.lengths is None else self.lengths.percentiles,
            "left": [change.as_json() for change in self.left],
        }


def page(shown: Shown, command: str) -> Page:
    """The whole report on a configuration."""
    config = shown.config
    return Page(
        kind="glmdiag config",
        title=Text("diag.config.title"),
        subject=", ".join(path.name for path in config.sources),
        verdict=_verdict(shown),
        steps=_steps(shown),
        facts=_facts(shown),
        sections=[*_effects(shown), *_lengths(shown), *_changes(shown)],
        findings=finding_views(shown.findings),
        provenance=provenance(command, [str(path) for path in config.sources]),
    )


def summary(shown: Shown, fix: Path | None, console: Console) -> None:
    """The configuration in some lines, and what would change."""
    config = shown.config
    width = max((len(effect.setting) for effect in shown.effects), default=LEAST_WIDTH) + 2
    lines = [f"{'trainer':<{width}}{NAMES[config.trainer]}"]
    for effect in shown.effects:
        said = f"  (said: {effect.said})" if effect.said else ""
        lines.append(f"{effect.setting:<{width}}{effect.effective}{said}")
    if shown.lengths is not None:
        told = ", ".join(f"{name} {value:,}" for name, value in shown.lengths.percentiles.items())
        lines.append(f"{'tokens':<{width}}{told}")
    if shown.diff:
        lines += ["", *shown.diff.split("\n")]
    if fix is not None:
        lines.append(f"written to {fix}")
        lines += [f"not changed: {change.key}; change it by hand" for change in shown.left]
    for line in lines:
        console.print(printable(line), soft_wrap=True)


def _verdict(shown: Shown) -> Verdict:
    level = verdict_level(shown.findings)
    count = sum(finding.severity is not Severity.INFO for finding in shown.findings)
    trainer = NAMES[shown.config.trainer]
    detail = Text("diag.config.detail", count=count, trainer=trainer)
    return Verdict(
        level=level,
        headline=Text(f"diag.config.headline.{level}"),
        detail=detail if count else Text("diag.config.clean", trainer=trainer),
    )


def _steps(shown: Shown) -> list[Step]:
    files = " ".join(path.name for path in shown.config.sources)
    steps = []
    if shown.diff:
        out = "CORRECTED" + shown.config.sources[0].suffix * (len(shown.config.sources) == 1)
        command = f"glmdiag config {files} --fix {out}"
        steps.append(Step(text=Text("diag.config.step.fix"), command=command))
    if shown.lengths is None and shown.config.trainer != "deepspeed":
        command = f"glmdiag config {files} --data DATA"
        steps.append(Step(text=Text("diag.config.step.data"), command=command))
    if shown.findings:
        worst = min(shown.findings, key=lambda finding: finding.severity.rank)
        command = f"glmdiag explain {worst.rule}"
        steps.append(Step(text=Text("diag.step.explain", rule=worst.rule), command=command))
    return steps


def _facts(shown: Shown) -> list[Fact]:
    config = shown.config
    values: dict[str, Value | None] = {
        "trainer": NAMES[config.trainer],
        "method": config.method or config.default("method"),
        "precision": None if config.trainer == "deepspeed" else precision(config),
        "rows": config.rows_per_step,
        "limit": config.limit,
    }
    return [
        Fact(label=Text(f"diag.config.fact.{name}"), value=value)
        for name, value in values.items()
        if value is not None
    ]


def _effects(shown: Shown) -> list[Section]:
    if not shown.effects:
        return []
    rows: list[list[Value | None]] = [
        [_setting(e.setting), None if e.said is None else Literal(e.said), e.effective, e.meaning]
        for e in shown.effects
    ]
    columns = [_column(name) for name in ("setting", "said", "effective", "meaning")]
    table = Table(columns=columns, rows=rows)
    intro = Text("diag.config.effects.intro")
    return [Section(title=Text("diag.config.effects.title"), intro=intro, blocks=[table])]


def _lengths(shown: Shown) -> list[Section]:
    found, limit = shown.lengths, shown.config.limit
    if found is None:
        return []
    rows: list[list[Value | None]] = [
        [Literal(name), value] for name, value in found.percentiles.items()
    ]
    blocks: list[Block] = [
        Table(
            columns=[_column("percentile"), Column(label=_label("tokens"), numeric=True, bar=True)],
            rows=rows,
        )
    ]
    if limit is not None:
        share = found.share_longer(limit)
        text = Text("diag.config.lengths.limit", limit=limit, share=share, needed=found.covering)
        blocks.append(Paragraph(text))
    intro = Text("diag.config.lengths.intro", count=len(found.conversations))
    return [Section(title=Text("diag.config.lengths.title"), intro=intro, blocks=blocks)]


def _changes(shown: Shown) -> list[Section]:
    if not shown.diff:
        return []
    intro = Text("diag.config.changes.intro")
    return [
        Section(title=Text("diag.config.changes.title"), intro=intro, blocks=[Code(shown.diff)])
    ]


def _setting(name: str) -> Text | Literal:
    """A setting of ours by its name in the page's language, a key of DeepSpeed as it is."""
    return Text(f"diag.config.setting.{name}") if name in OWN else Literal(name)


def _column(name: str) -> Column:
    return Column(label=_label(name))


def _label(name: str) -> Text:
    return Text(f"diag.config.column.{name}")
