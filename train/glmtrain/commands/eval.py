"""`glmtrain eval`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn

import click
from glmprep.console import Outcome, Output, output_options

from glmtrain import libraries
from glmtrain.asking import FILE, asked, model_options

if TYPE_CHECKING:
    from rich.console import Console

    from glmtrain.evaluation import Evaluation


@click.command()
@model_options
@click.option("--shards", multiple=True, metavar="DIR", help="Loss on these; repeatable.")
@click.option(
    "--data", "paths", multiple=True, metavar="FILE", help="Answer these conversations; repeatable."
)
@click.option(
    "--answers",
    "count",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many to generate, drawn at random.",
)
@click.option(
    "--turns",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="Which answers of each conversation may be drawn.",
)
@click.option(
    "--general",
    multiple=True,
    metavar="FILE",
    help="Texts on which the model is to be as before.  [default: the samples that come along]",
)
@click.option("--probe", "probes", type=FILE, help='JSON Lines of {"question": …, "expected": …}.')
@click.option(
    "--base",
    metavar="none|PATH|ID",
    help="What to compare with.  [default: what the run began with]",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=65536,
    show_default=True,
    help="Look at about so many labelled tokens of the shards, drawn at random.",
)
@click.option(
    "--tokens-per-batch",
    type=click.IntRange(1),
    metavar="N",
    help="Tokens computed at a time.  [default: what the shards were made for]",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True)
@output_options
def eval(output: Output, **options: Any) -> NoReturn:
    """Measure a model on data that it was not trained on.

    Loss by length, turn and kind on shards; answers to conversations beside their references, how
    they end, and tool calls; what it says of itself; and how far it is from its base on general
    texts.
    """
    libraries.require()
    from glmtrain.evaluation import Wanted, evaluate
    from glmtrain.forgetting import GENERAL

    options["general"] = options["general"] or GENERAL
    wanted = Wanted(**{each.name: options.pop(each.name) for each in fields(Wanted)})
    result = evaluate(asked(**options), wanted, output.progress)
    output.finish(_outcome(result, output.command))


def _outcome(result: Evaluation, command: str) -> Outcome:
    def page() -> Any:
        from glmtrain.eval_report import page

        return page(result, command)

    return Outcome(
        result=result.as_json(),
        findings=result.findings(),
        page=page,
        summary=lambda console: _summary(console, result),
    )


def _summary(console: Console, result: Evaluation) -> None:
    for line in [*result.remarks, *_lines(result)]:
        console.print(line, soft_wrap=True)


def _lines(result: Evaluation) -> list[str]:
    from glmreport.numbers import show_number

    lines = []
    if result.loss is not None:
        whole = result.loss.sums.all
        lines.append(
            f"loss {whole.value:.3f} ± {whole.error:.3f} on {whole.tokens:,} labelled tokens in "
            f"{whole.rows:,} rows, perplexity {show_number(whole.perplexity)}"
        )
        if result.loss.sums.gap is not None:
            gap, error = result.loss.sums.gap
            lines.append(f"long conversations cost {gap:+.3f} ± {error:.3f} more than short ones")
    if result.answers is not None:
        made, endings = result.answers, result.answers.endings
        lines += [
            f"{each.language}: ROUGE-L {each.rouge_l:.1f}, BLEU {each.bleu:.1f}, "
            f"chrF {each.chrf:.1f} of {each.answers} answers"
            for each in made.scores
        ]
        lines += [
            f"{each.language}: {each.exact} of {each.wanted} tool calls exactly as the reference"
            for each in made.calls
            if each.wanted
        ]
        lines.append(
            f"{endings.endless} of {endings.fitting} answers reach the limit without a stop, "
            f"{endings.loops} of {endings.answers} end in a loop"
        )
    if result.divergence is not None:
        moved = result.divergence.all
        lines.append(
            f"KL to the base on general texts: {moved.value:.4f} ± {moved.error:.4f} nats a token"
        )
    return lines
