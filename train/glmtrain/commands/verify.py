"""`glmtrain verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from glmprep.console import Outcome, Output, output_options, printable

from glmtrain import libraries

if TYPE_CHECKING:
    from rich.console import Console

    from glmtrain.verification import Verification, Written

SHOWN, WIDTH = 3, 72
"""How many of the answers are printed, and how many characters of each."""
WORDS = {
    "learned": "it learned",
    "memorised": "it learned by heart",
    "unchanged": "it hardly changed",
    "worse": "it is worse than before",
}


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN_DIR")
@click.option(
    "--shards",
    multiple=True,
    metavar="DIR",
    help="Where the run's shards lie now; repeatable.  [default: where they lay]",
)
@click.option(
    "--validation",
    metavar="DIR",
    help="Shards that it was not trained on.  [default: the run's]",
)
@click.option("--model", metavar="tiny|PATH|ID", help="The base model.  [default: the run's]")
@click.option("--tokenizer", metavar="glm4|PATH", help="[default: the run's, or the model's]")
@click.option(
    "--answers",
    "count",
    type=click.IntRange(2),
    default=20,
    show_default=True,
    help="How many to draw of the trained ones, and of the held-out ones.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="[default: the run's]")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "bf16", "fp16", "fp32"]),
    default="auto",
    show_default=True,
    help="Number format; auto asks the hardware.",
)
@output_options
def verify(output: Output, **options: Any) -> NoReturn:
    """Tell whether a finished run learned from its data.

    Measures some trained answers by the base and by the model that the run left: their loss behind
    their own prompts and behind others, whether it ends its turns, and what it writes word for
    word. Held-out answers, where there are some, tell learning from learning by heart.
    """
    libraries.require()
    from glmtrain import verification

    result = verification.verify(verification.Wanted(**options), output.progress("answers"))
    output.finish(_outcome(result, output.command))


def _outcome(result: Verification, command: str) -> Outcome:
    def page() -> Any:
        from glmtrain.verify_report import page

        return page(result, command)

    return Outcome(
        result=result.as_json(),
        findings=result.findings(),
        page=page,
        summary=lambda console: _summary(console, result),
    )


def _summary(console: Console, result: Verification) -> None:
    from glmreport.text import Catalogue

    words = Catalogue.load("en")
    lines = [printable(words.say(remark)) for remark in result.remarks]
    for line in [*lines, *_lines(result), *map(_line, result.written[:SHOWN])]:
        console.print(line, soft_wrap=True)


def _lines(result: Verification) -> list[str]:
    learned, held = result.learned, result.held_out
    before, after = learned.before, learned.after
    lines = [
        WORDS[result.verdict],
        f"loss of {learned.answers} trained answers: {before.loss:.3f} before, "
        f"{after.loss:.3f} after",
        f"behind other prompts: {before.shuffled:.3f} before, {after.shuffled:.3f} after",
    ]
    if held is not None:
        lines.append(
            f"loss of {held.rise.rows} held-out answers: {held.before:.3f} before, "
            f"{held.after:.3f} after ({held.rise.value:+.3f} ± {held.rise.error:.3f})"
        )
    if before.stop is not None and after.stop is not None:
        lines.append(f"chance of ending the turn: {before.stop:.0%} before, {after.stop:.0%} after")
    exact = sum(each.exact for each in result.written)
    return [*lines, f"written again word for word: {exact} of {len(result.written)}"]


def _line(written: Written) -> str:
    from glmtrain.verify_report import excerpt

    prompt = excerpt(written.prompt, end=True, limit=WIDTH)
    answer, made = (excerpt(text, limit=WIDTH) for text in (written.answer, written.made))
    same = f"{written.same} of {written.tokens} tokens"
    return f"  {printable(prompt)} | {printable(answer)} | {printable(made)} | {same}"
