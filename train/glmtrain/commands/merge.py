"""`glmtrain merge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from glmprep.console import Outcome, Output, printable, terminal

from glmtrain import libraries
from glmtrain.asking import FILE, SHOWN

if TYPE_CHECKING:
    from rich.console import Console

    from glmtrain.merging import Merged
    from glmtrain.vllm import Exported

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FOLDER, metavar="RUN_DIR")
@click.option("-o", "--output", type=FOLDER, required=True, metavar="DIR", help="A new folder.")
@click.option(
    "--dtype",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    help="Number format of the weights.  [default: the run's]",
)
@click.option("--model", "base", metavar="PATH", help="Where the base lies.  [default: the run's]")
@click.option("--tokenizer", metavar="glm4|PATH", help="[default: the run's, or the base's]")
@click.option("--template", type=FILE, help="The run's chat template, where it is one of your own.")
@click.option(
    "--vllm", is_flag=True, help="Merge nothing: write the LoRA adapter in the layout of vLLM."
)
@click.option("--overwrite", is_flag=True, help="Replace the merged model in --output.")
@SHOWN[0]
@SHOWN[1]
def merge(
    run: Path,
    output: Path,
    vllm: bool,
    overwrite: bool,
    json: str | None,
    quiet: bool,
    **options: Any,
) -> NoReturn:
    """Write a run's model with its adapter merged in, and prove that it answers alike.

    The folder stands by itself: weights, configuration, tokenizer, template, and the stops of the
    training data. It is loaded again and its logits are compared with those of base and adapter;
    where they differ by more than rounding, nothing is left and the exit status is 1.
    """
    libraries.require()
    told = Output(json=json, quiet=quiet)
    if vllm:
        from glmtrain.vllm import export

        exported = export(run, output, overwrite=overwrite)
        summary = _exported(exported)
        told.finish(Outcome(result=exported.as_json(), summary=summary))
    from glmtrain import merging

    merged = merging.merge(
        merging.Wanted(run=run, output=output, overwrite=overwrite, **options),
    )
    remarks = terminal(to_stderr=True)
    for remark in merged.remarks if not quiet else ():
        remarks.print(printable(remark), style="dim", soft_wrap=True)
    told.finish(
        Outcome(
            result=merged.as_json(),
            summary=lambda console: _summary(console, merged),
            failed=not merged.written,
        )
    )


def _summary(console: Console, merged: Merged) -> None:
    proof, folder = merged.proof, printable(str(merged.output))
    verdict = f"merged model in {folder}" if merged.written else f"NOT merged: {folder} not written"
    effect = "" if proof.effect is None else f", where the adapter changes {proof.effect:.2g}"
    console.print(
        f"{verdict}, {merged.dtype}; logits of {proof.tokens} positions "
        f"({printable(merged.compared_on)}) differ by {proof.mean:.2g} of their standard deviation "
        f"in the mean, {proof.largest:.2g} at most ({proof.tolerance:g} and "
        f"{proof.largest_allowed:g} are allowed){effect}; the likeliest token is the same at "
        f"{proof.agreement:.1%}",
        soft_wrap=True,
    )


def _exported(exported: Exported) -> Any:
    def summary(console: Console) -> None:
        console.print(
            f"adapter for vLLM in {printable(str(exported.output))}: {exported.weights} weights, "
            f"rank {exported.rank}; start it with",
            soft_wrap=True,
        )
        console.print("\n".join(exported.command), soft_wrap=True)

    return summary
