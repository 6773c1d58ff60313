"""The checks as a Great Expectations project, for teams whose data is watched by it.

The checks are computed in polars; Great Expectations gets a narrow table of numbers and flags, one
row per message, and expects each flag to be false. So the suite can be edited, and run again on
`messages.parquet`, without this package.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmprep.audit import Result
from glmprep.errors import UsageError
from glmprep.findings import Severity
from glmprep.records import ROLES
from glmprep.rules.format import FORMAT_RULES

if TYPE_CHECKING:
    import polars as pl

TABLE = "messages.parquet"
SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "warning", Severity.INFO: "info"}


def write_project(audit: Result, folder: Path) -> bool:
    """Write suite, checkpoint, result and Data Docs into `folder`; whether all expectations hold.

    Raises UsageError where great-expectations is not installed.
    """
    assert audit.flags is not None, "the audit was asked for flags"
    # Read when the library is imported: nothing is sent anywhere.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    try:
        import great_expectations as gx
    except ImportError as error:
        raise UsageError("--gx needs the extra: pip install 'glm-finetune-suite[gx]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    audit.flags.write_parquet(folder / TABLE)
    context = gx.get_context(mode="file", project_root_dir=folder)
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_or_update_pandas("glmprep")
    batch = source.add_dataframe_asset("messages").add_batch_definition_whole_dataframe("all")
    suite = context.suites.add_or_update(
        gx.ExpectationSuite(name="chat format", expectations=_expectations(audit.flags))
    )
    validation = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name="chat format", data=batch, suite=suite)
    )
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(
            name="chat format",
            validation_definitions=[validation],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="data docs")],
            result_format="SUMMARY",
        )
    )
    result = checkpoint.run(batch_parameters={"dataframe": audit.flags.to_pandas()})
    return bool(result.success)


def _expectations(flags: pl.DataFrame) -> list[Any]:
    """One expectation per rule, and some on the measures; failures carry the rule's fix."""
    import great_expectations.expectations as gxe

    made: list[Any] = [
        gxe.ExpectColumnValuesToBeInSet(column="role", value_set=sorted(ROLES)),
        gxe.ExpectColumnValuesToBeBetween(column="characters", min_value=0),
        gxe.ExpectColumnValuesToNotBeNull(column="where"),
    ]
    for rule in FORMAT_RULES:
        made.append(
            gxe.ExpectColumnValuesToBeInSet(
                column=rule.id,
                value_set=[False],
                severity=SEVERITIES[rule.severity],
                description=f"{rule.id}: {rule.title}",
                notes=f"{rule.why} {rule.fix}",
            )
        )
    return made
