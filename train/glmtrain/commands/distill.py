"""`glmtrain distill`: `glmtrain run` with a teacher."""

from __future__ import annotations

import click

from glmtrain.commands.run import run

OPTIONS = (
    click.Option(
        ["--teacher"],
        required=True,
        metavar="PATH|ID|RUN_DIR",
        help="Whose distributions are learned: a model, or what glmtrain run left.",
    ),
    click.Option(
        ["--weight"],
        type=float,
        metavar="SHARE",
        help="Share of the teacher in the loss; labels have the rest.  [default: 0.5]",
    ),
    click.Option(
        ["--temperature"],
        type=float,
        metavar="T",
        help="Distributions are softened by it, so that unlikely tokens count.  [default: 2]",
    ),
    click.Option(
        ["--hidden"],
        type=float,
        metavar="WEIGHT",
        help="Also bring the last hidden states nearer to the teacher's.  [default: 0]",
    ),
)

distill = click.Command(
    "distill",
    params=[*OPTIONS, *run.params],
    callback=run.callback,
    help="""Train a smaller model on shards, towards what a larger one says of them.

    --model names the student. Both must share a vocabulary. All other options are those of glmtrain
    run, which does the same where distill.teacher is set, and goes on with what was stopped.""",
)
