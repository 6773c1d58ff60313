"""`glmtrain run`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from glmprep.console import Outcome, Output, output_options, printable, terminal
from glmprep.errors import UsageError

from glmtrain import libraries

if TYPE_CHECKING:
    from rich.console import Console

    from glmtrain.config import Settings
    from glmtrain.run import RunResult

# Option -> setting. An option that was not given leaves the setting to the file, or to its default.
OPTIONS = {
    "model": "model.path",
    "method": "model.method",
    "gradient_checkpointing": "model.gradient_checkpointing",
    "shards": "data.shards",
    "tokens_per_batch": "data.tokens_per_batch",
    "accumulate": "data.accumulate",
    "lr": "optimiser.learning_rate",
    "warmup": "schedule.warmup",
    "rank": "lora.rank",
    "dtype": "precision.dtype",
    "output_folder": "run.output",
    "seed": "run.seed",
    "max_steps": "run.max_steps",
    "epochs": "run.epochs",
    "save_every": "run.save_every",
}

WORDS = {
    "learned": "it learned",
    "unchanged": "hardly anything changed",
    "worse": "it got worse",
}


@click.command()
@click.option("--shards", multiple=True, metavar="DIR", help="Made by glmprep bucket; repeatable.")
@click.option("--model", metavar="tiny|PATH|ID", help="What to train; tiny is a small random GLM.")
@click.option("--method", metavar="lora|full", help="Adapters on all linear layers, or everything.")
@click.option("-o", "--output", "output_folder", metavar="DIR", help="Folder for all results.")
@click.option("--max-steps", type=int, metavar="N", help="End after N optimiser steps.")
@click.option("--epochs", type=int, metavar="N", help="End after N passes over the rows.")
@click.option("--save-every", type=int, metavar="N", help="Checkpoint every N steps.")
@click.option("--resume", is_flag=True, help="Go on from the latest checkpoint in --output.")
@click.option("--overwrite", is_flag=True, help="Replace the run that --output holds.")
@click.option("--config", type=click.Path(path_type=Path), help="Settings as TOML.")
@click.option("--seed", type=int, metavar="N", help="Order of the rows and first adapter weights.")
@click.option("--lr", type=float, metavar="RATE", help="Top learning rate.")
@click.option("--warmup", type=float, metavar="SHARE", help="Share of the steps to warm up in.")
@click.option("--rank", type=int, metavar="N", help="Rank of the adapters.")
@click.option("--tokens-per-batch", type=int, metavar="N", help="Tokens computed at a time.")
@click.option("--accumulate", type=int, metavar="N", help="Batches per optimiser step.")
@click.option(
    "--dtype", metavar="auto|bf16|fp16|fp32", help="Number format; auto asks the hardware."
)
@click.option(
    "--gradient-checkpointing", is_flag=True, default=None, help="Less memory, more time."
)
@click.option(
    "--set", "sets", multiple=True, metavar="SECTION.KEY=VALUE", help="Any other setting."
)
@output_options
def run(
    output: Output,
    config: Path | None,
    resume: bool,
    overwrite: bool,
    sets: tuple[str, ...],
    **options: Any,
) -> NoReturn:
    """Fine-tune a model on shards.

    Settings come from --config, then from the options. The run's folder gets metrics.jsonl (one
    object a step), config.resolved.toml, run.json, checkpoints, and the trained adapter.
    """
    libraries.require()
    from glmtrain.config import build
    from glmtrain.progress import display

    options["shards"] = options["shards"] or None
    asked = [(str(config), _read(config))] if config else []
    asked.append(("command line", _settings(options)))
    asked += [(f"--set {one}", _parse_set(one)) for one in sets]
    settings = build(asked)
    if resume:
        from glmtrain.output import resolved

        settings = build([resolved(Path(settings.run.output)), *asked])
    given = {
        f"{section}.{key}" for _, layer in asked for section in layer for key in layer[section]
    }
    with display(terminal(to_stderr=True), quiet=output.quiet) as shown:
        from glmtrain.run import train

        result = train(settings, given=given, shown=shown, resume=resume, overwrite=overwrite)
    output.finish(_outcome(result, output.command))


def _read(path: Path) -> Settings:
    from glmtrain.config import read_toml

    return read_toml(path)


def _settings(options: dict[str, Any]) -> Settings:
    """The options that were given, as settings."""
    settings: dict[str, dict[str, Any]] = {}
    for option, value in options.items():
        if value is not None:
            section, _, key = OPTIONS[option].partition(".")
            settings.setdefault(section, {})[key] = value
    return settings


def _parse_set(text: str) -> Settings:
    """`section.key=value`, the value as in TOML or else a plain string."""
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise UsageError(f"--set {text}: write SECTION.KEY=VALUE, such as lora.dropout=0.1")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return {section: {key: parsed}}


def _outcome(result: RunResult, command: str) -> Outcome:
    def page() -> Any:
        from glmtrain.report import page

        return page(result, command)

    return Outcome(
        result={**result.record, "output": str(result.output), "stopped_by": result.stopped_by},
        findings=result.findings,
        page=page,
        summary=lambda console: _summary(console, result),
        failed=result.stopped_by is not None,
    )


def _summary(console: Console, result: RunResult) -> None:
    steps, folder = result.plan.steps, printable(str(result.output))
    if result.stopped_by is not None:
        console.print(
            f"stopped by {result.stopped_by} after step {result.last_step} of {steps}; "
            f"a checkpoint is saved, go on with: glmtrain run --output {folder} --resume",
            soft_wrap=True,
        )
        return
    what = "adapter" if result.plan.config.model.method == "lora" else "model"
    console.print(f"trained {steps} steps; {what} in {folder}", soft_wrap=True)
    if result.learned is not None:
        learned = result.learned
        console.print(
            f"loss on {learned.rows} of the training rows: {learned.before:.3f} before, "
            f"{learned.after:.3f} after: {WORDS[learned.verdict]}",
            soft_wrap=True,
        )
