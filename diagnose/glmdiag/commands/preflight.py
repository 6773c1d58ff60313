"""`glmdiag preflight`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from glmprep.console import Outcome, Output, output_options

# Option -> section and setting.
OPTIONS = {
    "model": ("model", "path"),
    "method": ("model", "method"),
    "attention": ("model", "attention"),
    "gradient_checkpointing": ("model", "gradient_checkpointing"),
    "shards": ("data", "shards"),
    "tokens_per_batch": ("data", "tokens_per_batch"),
    "dtype": ("precision", "dtype"),
}


@click.command()
@click.option("--model", metavar="tiny|PATH|ID", help="What would be trained.  [default: tiny]")
@click.option(
    "--shards",
    multiple=True,
    metavar="DIR[:WEIGHT]",
    help="Made by glmprep bucket.  [default: a few rows of a sample]",
)
@click.option("--method", metavar="lora|qlora|ptuning|full", help="[default: lora]")
@click.option("--config", type=click.Path(path_type=Path), help="Settings of the run, as TOML.")
@click.option("--dtype", metavar="auto|bf16|fp16|fp32", help="What the run would compute in.")
@click.option("--attention", metavar="auto|sdpa|eager|…", help="What the run would attend with.")
@click.option("--tokens-per-batch", type=int, metavar="N", help="Tokens computed at a time.")
@click.option("--gradient-checkpointing", is_flag=True, default=None)
@click.option("--skip-longest", is_flag=True, help="Leave out the largest batch of the run.")
@output_options
def preflight(output: Output, config: Path | None, skip_longest: bool, **options: Any) -> None:
    """Try a run before its first step: is the model fit to be trained, and in which number format?

    A few short conversations go forward and backward in every format and in every way that must not
    matter (padded, packed, accumulated, checkpointed); each switched-on feature has to show that it
    takes effect; the largest batch is done once. Errors mean: do not start.
    """
    from tempfile import TemporaryDirectory

    from glmtrain import libraries

    libraries.require()
    from glmtrain.config import build, from_file

    from glmdiag.preflight.trial import prepared
    from glmdiag.preflight.trial_rules import judge
    from glmdiag.preflight.whole import examine
    from glmdiag.views.preflight import page, summary

    asked = [(str(config), from_file(config))] if config else []
    settings = build([*asked, ("command line", _settings(options))])
    with (
        TemporaryDirectory(prefix="glmdiag-") as scratch,
        prepared(settings, Path(scratch)) as trial,
    ):
        found = examine(trial, longest=not skip_longest)
    findings = judge(found)
    output.finish(
        Outcome(
            result=found.as_json(),
            findings=findings,
            page=lambda: page(found, findings, settings.data.shards, output.command),
            summary=lambda console: summary(found, console),
        )
    )


def _settings(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options that were given, as settings."""
    found: dict[str, dict[str, Any]] = {}
    for option, value in options.items():
        if value not in (None, ()):
            section, key = OPTIONS[option]
            found.setdefault(section, {})[key] = value
    return found
