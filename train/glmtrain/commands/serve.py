"""`glmtrain serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import click
from glmprep.console import Outcome, Output, printable, terminal
from glmprep.errors import UsageError

from glmtrain import libraries
from glmtrain.asking import asked, model_options, result_options


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    metavar="N",
    help="0: a free one.",
)
@click.option(
    "--key",
    envvar="GLMTRAIN_API_KEY",
    metavar="KEY",
    help="What clients must know; others on this machine can read it in a command line, but not "
    "in the variable GLMTRAIN_API_KEY.",
)
@click.option(
    "--name", metavar="NAME", help="What clients call the model.  [default: its folder's]"
)
@click.option("--print-vllm", is_flag=True, help="Print vLLM's command for a GPU instead.")
@model_options
@result_options
def serve(
    host: str,
    port: int,
    key: str | None,
    name: str | None,
    print_vllm: bool,
    json: str | None,
    quiet: bool,
    **options: Any,
) -> NoReturn:
    """Answer over HTTP as OpenAI's API does, with the training's template and stops.

    Only this machine can reach the default address; any other needs a key. Requests are answered
    one after the other, greedily unless they name a temperature. Ctrl-C or SIGTERM ends it.
    """
    if options["adapter"] is None and options["model"] is None:
        raise UsageError("no model; pass --model tiny, --model PATH or --adapter RUN_DIR")
    name = name or _name(options["adapter"] or options["model"])
    if print_vllm:
        from glmtrain.vllm import command

        lines = command(asked(**options), host=host, port=port, name=name, keyed=bool(key))
        Output(json=json, quiet=quiet).finish(
            Outcome(
                result={"commands": lines},
                summary=lambda console: console.print("\n".join(lines), soft_wrap=True),
            )
        )
    libraries.require()
    from glmtrain import serving
    from glmtrain.inference import prepare
    from glmtrain.model import quiet_libraries
    from glmtrain.stop import StopSignal

    serving.require_libraries()
    serving.require_key(host, key)
    with serving.bind(host, port) as listening, quiet_libraries(), StopSignal() as stop:
        made = prepare(asked(**options))
        loopback, template = serving.is_loopback(host), options["template"]
        answers = serving.app(made, name=name, key=key, template=template, loopback=loopback)
        place = listening.getsockname()[1]
        console = terminal(to_stderr=True)
        for remark in (*made.remarks, f"serving {name} at http://{host}:{place}/v1"):
            if not quiet:
                console.print(printable(remark), soft_wrap=True)
        serving.run(answers, listening)
    result = {"settings": made.settings, "name": name, "port": place, "stopped_by": stop.received}
    Output(json=json, quiet=quiet).finish(Outcome(result=result))


def _name(path: str | Path) -> str:
    """A plain name from a folder's or a hub's."""
    return Path(path).resolve().name if Path(path).exists() else str(path).rpartition("/")[2]
