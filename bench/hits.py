"""How often each rule on messages fires on real data: docs/rules-on-real-data.md.

    python bench/hits.py

The data lie in the folder that GLM_ASSETS names, or in ../shared/assets beside the repository. They
are read as every command reads them; rows that no schema fits, and rejected ones, are told beside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from glmprep import families
from glmprep.intake import Intake
from glmprep.rules.format import FORMAT_RULES
from glmprep.rules.text import TEXT_RULES
from glmprep.source import Source
from glmprep.tokenizer import load

SETS: Mapping[str, Sequence[str]] = {
    "SMILECHAT": ["smilechat"],
    "SGD": ["sgd"],
    "tau-bench": ["tau_bench/gpt-4o-airline.json.gz"],
    "identity": ["llamafactory/identity.json"],
    "Alpaca en": ["llamafactory/alpaca_en_demo.json"],
    "Alpaca zh": ["llamafactory/alpaca_zh_demo.json"],
    "Glaive": [
        "llamafactory/glaive_toolcall_en_demo.json",
        "llamafactory/glaive_toolcall_zh_demo.json",
    ],
    "DPO": ["llamafactory/dpo_en_demo.json", "llamafactory/dpo_zh_demo.json"],
    "KTO": ["llamafactory/kto_en_demo.json"],
    "reasoning": ["llamafactory/reason_tool_use_demo_50.jsonl"],
    "meetings": ["sample:meetings"],
}
ROLES = {"client": "user", "counselor": "assistant"}
RULES = (*FORMAT_RULES, *TEXT_RULES)


def main() -> None:
    """Print one table of all sets and all rules that fired."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "assets"
    folder = Path(os.environ.get("GLM_ASSETS", beside)) / "data"
    tokenizer = load()
    family = families.load("auto", tokenizer)
    counts: dict[str, dict[str, int]] = {}
    print("| set | rows | rejected | messages |\n|---|---|---|---|")
    for name, paths in SETS.items():
        found = [path if path.startswith("sample:") else str(folder / path) for path in paths]
        intake = Intake(
            Source(paths=found, roles=ROLES, take="chosen"),
            family=family,
            special_tokens=list(tokenizer.added),
            rules=RULES,
        )
        for _ in intake.batches():
            pass
        hits = intake.findings(max_length=0)
        counts[name] = {hit.rule: int(hit.data["count"]) for hit in hits}
        print(f"| {name} | {intake.rows:,} | {len(intake.rejections):,} | {intake.messages:,} |")
    print("\n| rule | " + " | ".join(SETS) + " |\n|---|" + "---|" * len(SETS))
    for rule in sorted(RULES, key=lambda rule: rule.id):
        row = [counts[name].get(rule.id, 0) for name in SETS]
        print(
            f"| {rule.id} {rule.title} | " + " | ".join(f"{n:,}" if n else "" for n in row) + " |"
        )


if __name__ == "__main__":
    main()
