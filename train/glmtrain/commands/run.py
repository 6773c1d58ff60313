"""`glmtrain run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from glmprep.console import Outcome, Output, output_options, printable, terminal

from glmtrain import libraries

if TYPE_CHECKING:
    from rich.console import Console

    from glmtrain.config import Settings
    from glmtrain.footprint import DryRun
    from glmtrain.run import RunResult

# Option -> setting. An option that was not given leaves the setting to the file, or to its default.
OPTIONS = {
    "model": "model.path",
    "method": "model.method",
    "adapter": "model.adapter",
    "gradient_checkpointing": "model.gradient_checkpointing",
    "shards": "data.shards",
    "replay": "data.replay",
    "validation": "data.validation",
    "tokens_per_batch": "data.tokens_per_batch",
    "accumulate": "data.accumulate",
    "lr": "optimiser.learning_rate",
    "warmup": "schedule.warmup",
    "rank": "lora.rank",
    "dtype": "precision.dtype",
    "strategy": "devices.strategy",
    "output_folder": "run.output",
    "seed": "run.seed",
    "max_steps": "run.max_steps",
    "epochs": "run.epochs",
    "save_every": "run.save_every",
    "teacher": "distill.teacher",
    "weight": "distill.weight",
    "temperature": "distill.temperature",
    "hidden": "distill.hidden",
}
LISTS = ("shards", "replay")

WORDS = {
    "learned": "it learned",
    "unchanged": "hardly anything changed",
    "worse": "it got worse",
}


@click.command()
@click.option(
    "--shards",
    multiple=True,
    metavar="DIR[:WEIGHT]",
    help="Made by glmprep bucket; several are mixed, by weight if they have one.",
)
@click.option(
    "--replay",
    multiple=True,
    metavar="DIR:SHARE",
    help="Shards of earlier data, to make up a share of what is trained.",
)
@click.option("--validation", metavar="DIR", help="Shards to measure the loss on meanwhile.")
@click.option("--model", metavar="tiny|PATH|ID", help="What to train; tiny is a small random GLM.")
@click.option(
    "--method",
    metavar="lora|qlora|ptuning|full",
    help="Adapters, adapters on a 4-bit model, a prefix, or everything.",
)
@click.option("--adapter", metavar="DIR", help="Go on from this adapter or run.")
@click.option("-o", "--output", "output_folder", metavar="DIR", help="Folder for all results.")
@click.option("--max-steps", type=int, metavar="N", help="End after N optimiser steps.")
@click.option("--epochs", type=int, metavar="N", help="End after N passes over the rows.")
@click.option("--save-every", type=int, metavar="N", help="Checkpoint every N steps.")
@click.option("--resume", is_flag=True, help="Go on from the latest checkpoint in --output.")
@click.option("--overwrite", is_flag=True, help="Replace the run that --output holds.")
@click.option("--rehearse", is_flag=True, help="First a small run on a few rows of all lengths.")
@click.option("--dry-run", is_flag=True, help="One step at the longest batch: what does it take?")
@click.option("--force", is_flag=True, help="Train in spite of what the checks before it found.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings, or a glmprep recipe, as TOML."
)
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
    "--strategy",
    metavar="auto|ddp|fsdp2|zero2|zero3",
    help="How the processes that torchrun started share the work.",
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
    rehearse: bool,
    dry_run: bool,
    force: bool,
    sets: tuple[str, ...],
    **options: Any,
) -> NoReturn:
    """Fine-tune a model on shards.

    Settings come from --config, then from the options. The output folder gets metrics.jsonl, the
    resolved configuration, checkpoints, and the trained adapter. Started by torchrun or accelerate
    launch, the processes share the work.
    """
    libraries.require()
    from glmtrain import devices, rehearsal
    from glmtrain import run as training
    from glmtrain.config import build, parse
    from glmtrain.progress import display
    from glmtrain.run import Mode

    for name in LISTS:
        options[name] = options[name] or None
    asked = [(str(config), _read(config))] if config else []
    asked.append(("command line", _settings(options)))
    asked += [(f"--set {one}", parse(one)) for one in sets]
    settings = build(asked)
    if resume:
        from glmtrain.output import resolved

        settings = build([resolved(Path(settings.run.output)), *asked])
    given = {
        f"{section}.{key}" for _, layer in asked for section in layer for key in layer[section]
    }
    with devices.join(settings.devices) as place:
        with display(terminal(to_stderr=True), quiet=output.quiet or not place.main) as shown:
            if dry_run:
                outcome = _measured(training.dry_run(settings, place, shown=shown))
            else:
                if rehearse:
                    rehearsal.rehearse(settings, place, shown)
                mode = Mode(resume=resume, overwrite=overwrite, force=force)
                result = training.train(settings, place, given=given, shown=shown, mode=mode)
                outcome = _outcome(result, output.command)
        if not place.main:
            sys.exit(0)
    output.finish(outcome)


def _read(path: Path) -> Settings:
    from glmtrain.config import from_file

    return from_file(path)


def _settings(options: dict[str, Any]) -> Settings:
    """The options that were given, as settings."""
    settings: dict[str, dict[str, Any]] = {}
    for option, value in options.items():
        if value is not None:
            section, _, key = OPTIONS[option].partition(".")
            settings.setdefault(section, {})[key] = value
    return settings


def _measured(found: DryRun) -> Outcome:
    text = str(found)
    return Outcome(result=found.as_json(), summary=lambda console: console.print(text))


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
    what = "model" if result.plan.config.model.method == "full" else "adapter"
    early = "" if result.last_step == steps else f" of {steps}, as held-out loss no longer fell"
    console.print(f"trained {result.last_step} steps{early}; {what} in {folder}", soft_wrap=True)
    if result.best_step is not None:
        best = f"the weights are those of step {result.best_step}, where held-out loss was lowest"
        console.print(best, soft_wrap=True)
    if result.learned is not None:
        learned = result.learned
        console.print(
            f"loss on {learned.answers} of the trained answers: {learned.before.loss:.3f} before, "
            f"{learned.after.loss:.3f} after: {WORDS[learned.verdict]}",
            soft_wrap=True,
        )
