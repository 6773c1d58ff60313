"""What a Great Expectations checkpoint found, as plain records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glmprep.findings import Severity

SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "warning", Severity.INFO: "info"}
"""What the library calls our severities."""
PLACES = 3
"""So many places are kept of each expectation that fails."""
DOCS = Path("gx", "uncommitted", "data_docs", "local_site", "index.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How one expectation came out.

    `rule` is the rule whose flags it looks at, `name` else what it is about; `total` lines were
    looked at and `unexpected` of them break it, None for an expectation on the table as a whole,
    which has what was `observed`. `error` says why it could not be computed.
    """

    table: str
    rule: str | None
    name: str
    severity: Severity
    holds: bool
    total: int | None = None
    unexpected: int | None = None
    observed: str | None = None
    error: str | None = None
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A project and how its expectations came out, in the order of its suites.

    `kept` are the tables whose suite was there already and was used as it is.
    """

    folder: Path
    checks: Sequence[Check]
    kept: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        """Whether every expectation holds."""
        return all(check.holds for check in self.checks)

    @property
    def docs(self) -> Path:
        """The first page of the Data Docs."""
        return self.folder / DOCS

    def as_json(self) -> Mapping[str, Any]:
        """The result as plain JSON values."""
        return {"holds": self.holds, "checks": [asdict(check) for check in self.checks]}


def read_checks(table: str, run: Any) -> list[Check]:
    """The records of a checkpoint's run on a table."""
    return [_check(table, result) for one in run.run_results.values() for result in one.results]


def _check(table: str, result: Any) -> Check:
    """A record of one result, whose numbers may be of numpy."""
    config, found = result.expectation_config, result.result
    meta = config.meta or {}
    severities = {name: severity for severity, name in SEVERITIES.items()}
    observed, unexpected = found.get("observed_value"), found.get("unexpected_count")
    return Check(
        table=table,
        rule=meta.get("rule"),
        name=meta.get("check") or config.description or _described(config),
        severity=severities[str(getattr(config.severity, "value", config.severity))],
        holds=bool(result.success),
        total=None if unexpected is None else int(found["element_count"]),
        unexpected=None if unexpected is None else int(unexpected),
        observed=None if observed is None else str(observed),
        error=_error(result.exception_info or {}),
        places=tuple(map(_place, found.get("partial_unexpected_index_list", ())[:PLACES])),
    )


def _error(info: Mapping[str, Any]) -> str | None:
    """Why an expectation could not be computed: said at once, or for each measure it needs."""
    told = [info, *(part for part in info.values() if isinstance(part, dict))]
    messages = [part["exception_message"] for part in told if part.get("exception_message")]
    return str(messages[0]).splitlines()[0] if messages else None


def _described(config: Any) -> str:
    kwargs = {key: value for key, value in config.kwargs.items() if key != "batch_id"}
    return f"{config.type} {kwargs}"


def _place(line: Mapping[str, Any]) -> str:
    message = f" message {line['message']}" if "message" in line else ""
    return f"{line['where']}{message}"
