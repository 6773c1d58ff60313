"""Check the tables beside this file against the suites in gx/expectations, once more.

    python run_checkpoint.py

Needs great-expectations and pandas with pyarrow, nothing else. Ends with 1 where an expectation
fails. Nothing is sent anywhere.
"""

import os
import sys
from pathlib import Path

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported

import great_expectations as gx
import pandas as pd

HERE = Path(__file__).resolve().parent
TABLES = ("messages", "conversations")


def main() -> int:
    """Run both checkpoints, print what fails, and bring the Data Docs up to date."""
    context = gx.get_context(mode="file", project_root_dir=HERE)
    failed: list[str] = []
    total = 0
    for table in TABLES:
        frame = pd.read_parquet(HERE / f"{table}.parquet")
        checkpoint = context.checkpoints.get(table)
        run = checkpoint.run(batch_parameters={"dataframe": frame})
        for validation in run.run_results.values():
            for result in validation.results:
                total += 1
                if not result.success:
                    failed.append(f"{table}: {describe(result)}")
    verdict = f"failed: {len(failed)} of {total} expectations"
    docs = f"Data Docs: {HERE / 'gx/uncommitted/data_docs/local_site/index.html'}"
    sys.stdout.write("\n".join([*failed, verdict, docs]) + "\n")
    return 1 if failed else 0


def describe(result: "gx.core.ExpectationValidationResult") -> str:
    """One failed expectation in one line."""
    config = result.expectation_config
    kwargs = {key: value for key, value in config.kwargs.items() if key != "batch_id"}
    name = config.description or f"{config.type} {kwargs}"
    found = result.result
    if "unexpected_count" in found:
        return f"{name} ({found['unexpected_count']} of {found['element_count']} rows)"
    return f"{name} (observed: {found.get('observed_value', 'nothing: it could not be computed')})"


if __name__ == "__main__":
    sys.exit(main())
