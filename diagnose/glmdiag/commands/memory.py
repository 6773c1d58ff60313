"""`glmdiag memory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from glmprep.console import Outcome, Output, output_options

COUNT = click.IntRange(min=1)
TOKENS = click.IntRange(1, 1 << 24)


@click.command()
@click.option("--model", metavar="DIR|NAME", help="A model folder, tiny, GLM-4-9B-chat, GLM-4.5, …")
@click.option("--config", type=click.Path(path_type=Path), help="Any trainer's configuration.")
@click.option("--shards", multiple=True, metavar="DIR", help="Shards that are trained on.")
@click.option("--length", type=TOKENS, metavar="N", help="Without shards: tokens of a row.")
@click.option(
    "--labelled", type=click.FloatRange(0, 1), metavar="SHARE", help="... and its share of labels."
)
@click.option("--tokens-per-batch", type=TOKENS, metavar="N", help="Tokens computed at a time.")
@click.option("--batch-size", type=COUNT, metavar="N", help="Or rows, as other trainers have it.")
@click.option("--max-length", type=TOKENS, metavar="N", help="Tokens at which rows are cut.")
@click.option("--accumulate", type=COUNT, metavar="N", help="Batches per optimiser step.")
@click.option("--trainer", type=click.Choice(["glmtrain", "hf"]), help="hf: all logits at once.")
@click.option("--method", type=click.Choice(["lora", "qlora", "ptuning", "full"]))
@click.option("--rank", type=COUNT, metavar="N", help="Rank of the adapters.")
@click.option("--prefix", type=COUNT, metavar="N", help="Tokens of a prefix.")
@click.option("--dropout", type=click.FloatRange(0, 1), metavar="SHARE", help="Of the adapters.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), help="What is computed in.")
@click.option("--pure/--no-pure", default=None, help="Weights that learn in that format too.")
@click.option("--optimiser", type=click.Choice(["adamw", "adamw8bit", "adafactor", "muon", "lion"]))
@click.option("--checkpointing/--no-checkpointing", default=None, help="Of gradients.")
@click.option("--zero", type=click.IntRange(0, 3), metavar="0..3", help="What is sliced; 3: FSDP2.")
@click.option("--gpus", type=COUNT, metavar="N", help="Cards that share the slices.")
@click.option("--offload/--no-offload", default=None, help="Slices in main memory.")
@click.option("--flash/--no-flash", default=None, help="Attention that needs no mask.")
@click.option("--answers", type=TOKENS, default=512, metavar="N", help="Tokens of an answer.")
@click.option("--card", metavar="CARD", help="V100, T4, 4090, A100, …; this machine's if not said.")
@click.option("--memory", type=click.FloatRange(0, min_open=True), metavar="GIB", help="Of a card.")
@output_options
def memory(
    output: Output, config: Path | None, card: str | None, memory: float | None, **options: Any
) -> None:
    """Predict the memory of a run, by bucket, and find the smallest change with which it fits.

    Nothing is loaded or run: this is arithmetic on the model's shape, checked against peaks
    measured on a CPU (docs/gpu-memory.md). What a card needs besides is an allowance, told apart.
    """
    from glmdiag.configs import read
    from glmdiag.memory.changes import smallest
    from glmdiag.memory.memory_rules import judge
    from glmdiag.memory.prediction import predict
    from glmdiag.memory.room import find
    from glmdiag.memory.setup import Asked, of_config, setup
    from glmdiag.views.memory import page, summary

    asked = Asked(**options)
    if config is not None:
        asked = asked.over(of_config(read([config])))
    prediction = predict(setup(asked, find(card, memory)))
    change = smallest(prediction.setup)
    findings = judge(prediction, change)
    result = {**prediction.as_json(), "change": None if change is None else change.as_json()}
    output.finish(
        Outcome(
            result=result,
            findings=findings,
            page=lambda: page(prediction, change, findings, output.command),
            summary=lambda console: summary(prediction, change, console),
        )
    )
