"""The checks as a Great Expectations project, for teams whose data is watched by it.

The checks are computed in polars; Great Expectations gets two narrow tables of numbers and flags,
one line per message and one per conversation. So a suite can be edited, and run again on the
written tables, without this package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from glmprep.audit import Result as Audit
from glmprep.errors import InputError, UsageError
from glmprep.findings import RULES, Rule
from glmprep.gxresult import SEVERITIES, Check, Result, read_checks
from glmprep.records import ROLES
from glmprep.rules.lengths import no_labels, too_long

if TYPE_CHECKING:
    import polars as pl

FILES = ("README.md", "README.zh.md", "run_checkpoint.py")
SUITES = Path("gx", "expectations")


def require_library() -> None:
    """Raises UsageError where great-expectations is not installed."""
    # Read when the library is imported: nothing is sent anywhere.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    try:
        import great_expectations  # noqa: F401
    except ImportError as error:
        raise UsageError("--gx needs the extra: pip install 'glm-finetune-suite[gx]'") from error


def write_project(audit: Audit, folder: Path) -> Result:
    """Write tables, suites, checkpoints and Data Docs into `folder`, and check the tables.

    A suite that is there already is used as it is. Raises UsageError where great-expectations is
    not installed, InputError for a project there that it cannot use, OSError as writing does.
    """
    assert audit.flags is not None, "the audit was asked for flags"
    require_library()
    flags = _without_nulls(audit.flags)
    tables = {"messages": flags, "conversations": audit.table}
    suites = {"messages": _on_messages(flags), "conversations": _on_conversations(audit)}
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        packed = resources.files("glmprep").joinpath("assets", "gx", name)
        (folder / name).write_bytes(packed.read_bytes())
    kept = [name for name in tables if _is_kept(folder / SUITES / f"{name}.json")]
    checks: list[Check] = []
    try:
        context = _context(folder)
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet")
            checkpoint = _checkpoint(context, name, None if name in kept else suites[name])
            checks += read_checks(name, checkpoint.run({"dataframe": table.to_pandas()}))
    except OSError:
        raise
    except Exception as error:  # the library raises what its parts raise, for any file it reads
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise InputError(
            f"{folder / 'gx'}: great-expectations cannot use this project ({reason}); "
            "mend what was edited there, or delete it to have it written anew"
        ) from error
    return Result(folder=folder, checks=checks, kept=kept)


def _is_kept(suite: Path) -> bool:
    """Whether there is a suite; raises InputError for one that could be used only in part.

    The library would leave out what it does not know, and call the rest a success.
    """
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    if not suite.exists():
        return False
    try:
        kinds = [expected["type"] for expected in orjson.loads(suite.read_bytes())["expectations"]]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{suite}: not a suite ({error}); mend it or delete it") from error
    known = {*list_registered_expectation_implementations()}
    for place, kind in enumerate(kinds, 1):
        if kind not in known:
            raise InputError(f"{suite}: expectation {place}: there is none called {kind!r}")
    return True


def _context(folder: Path) -> Any:
    import great_expectations as gx

    context = gx.get_context(mode="file", project_root_dir=folder)
    context.enable_analytics(enable=False)
    context.variables.progress_bars = {"globally": False}
    context.variables.save()
    return context


def _checkpoint(context: Any, name: str, expectations: Sequence[Any] | None) -> Any:
    """The checkpoint of a table and a new suite, or the suite that is there.

    It brings the Data Docs up to date when it is run.
    """
    import great_expectations as gx

    if expectations is not None:
        context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
    source = context.data_sources.add_or_update_pandas(name)
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    validation = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=name, data=batch, suite=context.suites.get(name))
    )
    return context.checkpoints.add_or_update(
        gx.Checkpoint(
            name=name,
            validation_definitions=[validation],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="data docs")],
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": _place_columns(name),
            },
        )
    )


def _place_columns(table: str) -> list[str]:
    return ["where", "message"] if table == "messages" else ["where"]


def _on_messages(flags: pl.DataFrame) -> list[Any]:
    """One expectation per rule that was checked, and some on the measures."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToNotBeNull(column="where", meta={"check": "where"}),
        gxe.ExpectColumnValuesToBeInSet(
            column="role", value_set=sorted(ROLES), meta={"check": "role"}
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="characters", min_value=0, meta={"check": "characters"}
        ),
        *(
            gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[False], **_words(RULES[name]))
            for name in flags.columns
            if name in RULES
        ),
    ]


def _on_conversations(audit: Audit) -> list[Any]:
    """What can be expected of the lengths; the limit only where the audit was given one."""
    import great_expectations.expectations as gxe

    within = {"max_value": audit.max_length} if audit.max_length else {}
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, meta={"check": "rows"}),
        gxe.ExpectColumnValuesToBeBetween(
            column="turns", min_value=2, meta={"check": "turns"}, severity="warning"
        ),
        gxe.ExpectColumnValuesToBeBetween(column="supervised", min_value=1, **_words(no_labels)),
        *(
            gxe.ExpectColumnValuesToBeBetween(column="tokens", **{name: most}, **_words(too_long))
            for name, most in within.items()
        ),
    ]


def _words(rule: Rule[Any]) -> dict[str, Any]:
    """What an expectation says of the rule that it stands for; a failure shows the fix."""
    return {
        "severity": SEVERITIES[rule.severity],
        "description": f"{rule.id}: {rule.title}",
        "notes": f"{rule.why} {rule.fix}",
        "meta": {"rule": rule.id},
    }


def _without_nulls(flags: pl.DataFrame) -> pl.DataFrame:
    """Where a rule cannot say (null) it did not fire; nulls would turn flags into objects."""
    import polars.selectors as cs

    return flags.with_columns(cs.boolean().fill_null(False))
