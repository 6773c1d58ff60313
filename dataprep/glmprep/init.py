"""A first recipe: what data and machine are like, what follows, and the file that says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glmreport.text import Text

from glmprep import __version__, families, machine, model, remote, tokenizer
from glmprep.errors import UsageError
from glmprep.files import write_atomically
from glmprep.machine import Machine
from glmprep.model import Model
from glmprep.proposal import Choice, Proposal, propose
from glmprep.read import SAMPLE
from glmprep.source import Source
from glmprep.survey import Survey, survey
from glmprep.written import recipe_toml

RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was seen, and what was chosen."""

    survey: Survey
    machine: Machine
    model: Model
    proposal: Proposal

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        recipe: dict[str, dict[str, Any]] = {}
        for choice in self.proposal.choices:
            if not choice.off:
                recipe.setdefault(choice.table, {})[choice.key] = choice.value
        return {
            "data": self.survey.as_json(),
            "machine": self.machine.as_json(),
            "model": self.model.name,
            "recipe": recipe,
        }


def init(
    source: Source, target: Path, *, model_spec: str | None, force: bool, language: str
) -> Result:
    """Look at data and machine, and write a recipe for `glmprep build`.

    Raises UsageError where the recipe exists already, for standard input, which cannot be read
    again, and for a model that is none; InputError where nothing can be trained on.
    """
    if target.exists() and not force:
        raise UsageError(f"{target}: exists already; pass --force to replace it")
    if "-" in source.paths:
        raise UsageError("-: a recipe names files, so that they can be read again; write one first")
    chosen = model.read(model_spec)
    vocabulary = tokenizer.load(chosen.tokenizer)
    found = survey(source, families.load("auto", vocabulary), vocabulary)
    seen = machine.look()
    proposal = _from_folder(propose(found, seen, chosen), target.parent)
    result = Result(survey=found, machine=seen, model=chosen, proposal=proposal)
    write_atomically(target, recipe_toml(proposal, _notes(result), language).encode())
    return result


def commands(result: Result, target: Path) -> list[Sequence[str]]:
    """The next three command lines, in words."""
    return [
        ["glmprep", "build", str(target), "--dry-run"],
        ["glmprep", "build", str(target)],
        ["glmtrain", "run", "--config", str(target), "--output", RUN],
    ]


def machine_text(seen: Machine) -> Text:
    """The machine in a sentence."""
    return Text(
        f"prep.init.machine.{'cards' if seen.cards else 'none'}",
        count=len(seen.cards),
        cards=", ".join(dict.fromkeys(card.name for card in seen.cards)),
        each=min((card.memory for card in seen.cards), default=0),
        cores=seen.cores,
        memory=seen.memory,
    )


def _notes(result: Result) -> list[Text]:
    return [
        Text("prep.init.head", version=__version__),
        machine_text(result.machine),
        Text(
            f"prep.init.model.{'assumed' if result.model.assumed else 'named'}",
            model=result.model.name,
        ),
    ]


def _from_folder(proposal: Proposal, folder: Path) -> Proposal:
    """The same with paths as they are to be read from the recipe's folder."""
    return replace(proposal, choices=[_moved(choice, folder) for choice in proposal.choices])


def _moved(choice: Choice, folder: Path) -> Choice:
    if (choice.table, choice.key) == ("data", "paths") and isinstance(choice.value, list):
        return replace(choice, value=[_relative(path, folder) for path in choice.value])
    if (choice.table, choice.key) == ("tokenizer", "path") and choice.value != tokenizer.EMBEDDED:
        return replace(choice, value=_relative(str(choice.value), folder))
    return choice


def _relative(path: str, folder: Path) -> str:
    """A path from another folder; one from the root stays, and so do samples and URLs."""
    if path.startswith(SAMPLE) or remote.is_url(path) or os.path.isabs(path):
        return path
    return os.path.relpath(path, folder)
