"""A run with all that can be examined of it, each examination on its own.

What is missing or cannot be read is noted, and the rest is examined all the same: people bring a
log without its data, a configuration without a run, a folder that another machine wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from glmprep.errors import SuiteError, UsageError
from glmprep.findings import Finding

from glmdiag.explain import all_rules
from glmdiag.report import suspects
from glmdiag.report.found import RESOLVED, configs_of, logs_of, near, shards_of
from glmdiag.report.suspects import Suspect

Examined: TypeAlias = tuple[Any, Sequence[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user names; what is None is looked for in the run's folder."""

    run: Path
    shards: Path | None = None
    configs: Sequence[Path] = ()
    base: str | None = None
    card: str | None = None
    machine: Path | None = None
    tokenizer: str | None = None


@dataclass(slots=True, kw_only=True)
class Case:
    """What was examined of a run, by area; `unseen` says why an area was not."""

    given: Given
    records: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, Sequence[Finding]] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    _suspects: list[Suspect] | None = None

    @property
    def shards(self) -> Path | None:
        """The data: shards, or another trainer's dataset."""
        return self.given.shards or shards_of(self.given.run)

    @property
    def base(self) -> Path | None:
        """The base model's folder, where it is here."""
        config = self.records.get("config")
        name = self.given.base or (None if config is None else config.model)
        return None if name is None else near(name, self.given.run)

    @property
    def all_findings(self) -> list[Finding]:
        """Those of all areas."""
        return [finding for found in self.findings.values() for finding in found]

    @property
    def suspects(self) -> list[Suspect]:
        """The causes that they name, best first."""
        if self._suspects is None:
            all_rules()  # so that causes are registered, and every rule that they speak of
            self._suspects = suspects.rank(self.all_findings, self.findings)
        return self._suspects

    def as_json(self) -> dict[str, Any]:
        """Causes and evidence as plain JSON values."""
        return {
            "run": str(self.given.run),
            "causes": [suspect.as_json() for suspect in self.suspects],
            "examined": {
                area: [finding.as_json() for finding in found]
                for area, found in self.findings.items()
            },
            "unseen": dict(self.unseen),
        }


def examine(given: Given) -> Case:
    """Everything that can be examined; raises UsageError where that is nothing at all."""
    case = Case(given=given)
    for area, examination in EXAMINATIONS.items():
        try:
            case.records[area], case.findings[area] = examination(case)
        except SuiteError as error:
            case.unseen[area] = str(error)
    if not {"config", "labels", "log", "checkpoint"} & set(case.findings):
        reason = case.unseen["log"]
        raise UsageError(f"{given.run}: nothing of a run could be examined; {reason}")
    return case


def _labels(case: Case) -> Examined:
    from glmdiag import labels
    from glmdiag.labels import label_rules

    if case.shards is None:
        raise UsageError("no shards or dataset were found; name them with --shards DIR")
    config = case.records.get("config")
    wanted = labels.Wanted(
        tokenizer=case.given.tokenizer,
        model=case.base,
        max_length=None if config is None else config.limit,
    )
    found = labels.read(case.shards, wanted)
    return found, label_rules.judge(found)


def _machine(case: Case) -> Examined:
    """The machine that was named, else this one, unless the run was hardly made on it."""
    from glmdiag.machine import hardware, hardware_rules

    given = case.given
    machine = hardware.choose(given.card, given.machine)
    if not (machine.devices or given.machine or (given.run / RESOLVED).is_file()):
        raise UsageError(
            "this machine has no accelerator, so the run was made on another; "
            "name it with --simulate CARD or --machine FILE"
        )
    return machine, hardware_rules.judge(machine)


def _config(case: Case) -> Examined:
    """The configuration against the machine and the lengths of the data."""
    from glmdiag import configs
    from glmdiag.configuration import rules as config_rules
    from glmdiag.configuration.step_rules import width_of

    files = list(case.given.configs) or configs_of(case.given.run)
    if not files:
        raise UsageError("no configuration was found; name it with --config FILE")
    config = configs.read(files)
    lengths = _lengths(case, config.limit)
    name = case.given.base or config.model
    base = None if name is None else near(name, case.given.run)
    width = None if base is None else width_of(str(base))
    return config, config_rules.judge(config, case.records.get("machine"), lengths, width)


def _lengths(case: Case, limit: int | None) -> Any:
    """Lengths of our shards; what a trainer's own dataset lost cannot be told from it."""
    from glmdiag.configuration.lengths import of_shards

    if not (folder := _own_shards(case)):
        return None
    try:
        return of_shards(folder, limit)
    except SuiteError:
        return None


def _own_shards(case: Case) -> list[Path]:
    """The shards where they are this suite's."""
    from glmprep.shards import MANIFEST

    folder = case.shards
    return [folder] if folder is not None and (folder / MANIFEST).is_file() else []


def _log(case: Case) -> Examined:
    from glmtrain.detectors import detect

    from glmdiag import logs

    log = logs.read(*logs_of(case.given.run))
    return log, detect(log.steps)


def _memory(case: Case) -> Examined:
    from glmdiag.memory import memory_rules
    from glmdiag.memory.changes import smallest
    from glmdiag.memory.prediction import predict
    from glmdiag.memory.setup import Room, of_config, setup

    config, machine = case.records.get("config"), case.records.get("machine")
    if config is None or machine is None or not machine.devices:
        raise UsageError("needs a configuration and a card: --config FILE, --simulate CARD")
    device = machine.devices[0]
    room = Room(name=device.name, memory=device.memory_total)
    base = None if case.base is None else str(case.base)
    named = replace(_rows(case), model=base)
    prediction = predict(setup(named.over(of_config(config)), room))
    return prediction, memory_rules.judge(prediction, smallest(prediction.setup))


def _rows(case: Case) -> Any:
    """Our shards, or the longest row and the labels of another trainer's dataset."""
    from glmdiag.memory.setup import Asked

    if folder := _own_shards(case):
        return Asked(shards=[str(each) for each in folder])
    labels = case.records.get("labels")
    if labels is None:
        return Asked()
    longest = int(labels.rows.lengths.max())
    return Asked(length=longest, labelled=labels.total.supervised_share)


def _checkpoint(case: Case) -> Examined:
    from glmdiag.checkpoints import checkpoint_rules, learning

    found = learning.read(case.given.run, case.base)
    weights = [] if found.checkpoint is None else checkpoint_rules.judge(found.checkpoint)
    return found, [*weights, *found.findings()]


def _environment(case: Case) -> Examined:
    from glmdiag.software import env_rules, environment

    found = environment.examine(case.base)
    return found, env_rules.judge(found)


EXAMINATIONS: Mapping[str, Callable[[Case], Examined]] = {
    "machine": _machine,
    "config": _config,
    "labels": _labels,
    "log": _log,
    "checkpoint": _checkpoint,
    "environment": _environment,
    "memory": _memory,
}
