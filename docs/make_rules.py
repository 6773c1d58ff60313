"""Write docs/rules.md and docs/rules.zh.md from the rules' own texts (`make docs`)."""

from __future__ import annotations

from pathlib import Path

from glmdiag.explain import all_rules, describe

HEADS = {
    "en": ("Rules", "Made by `make docs` from the rules' docstrings.", "Evidence", "Why", "Fix"),
    "zh": ("规则", "由 `make docs` 从规则自身的文本生成。", "证据", "为什么", "怎么改"),
}


def rules_page(language: str) -> str:
    """All rules of all commands in one language."""
    title, note, evidence, why, fix = HEADS[language]
    parts = [f"# {title}\n\n{note}\n"]
    for rule in (describe(each, language) for each in all_rules()):
        parts.append(
            f"## {rule['id']} · {rule['severity']}\n\n"
            f"**{rule['title']}**\n\n*{evidence}:* {rule['evidence']}\n\n"
            f"*{why}:* {rule['why']}\n\n*{fix}:* {rule['fix']}\n"
        )
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Each file and what it is to hold."""
    here = Path(__file__).parent
    return {here / "rules.md": rules_page("en"), here / "rules.zh.md": rules_page("zh")}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
