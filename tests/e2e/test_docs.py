"""The documents say what is so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)\)")
OURS = ("glmprep", "glmtrain", "glmdiag", "glmreport")


@pytest.mark.parametrize("maker", ["make_rules.py", "make_settings.py"])
def test_pages_made_of_the_code_are_up_to_date(maker: str) -> None:
    pages = runpy.run_path(str(ROOT / "docs" / maker))["pages"]()
    for path, text in pages.items():
        assert path.read_text("utf-8") == text, f"{path.name}: run make docs"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    for target in LINK.findall(document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("package", ["dataprep/glmprep", "train/glmtrain"])
def test_the_architecture_names_every_module(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    folder = ROOT / package
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__", "libraries"}
    modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
    named = set(re.findall(r"`([a-z_]+)/?`", text)) | {"errors", "findings", "records", "files"}
    assert modules <= named, modules - named


def test_nothing_in_the_repository_names_a_machine_or_a_host() -> None:
    hosts = re.compile(r"/work/|/root/|files\.pythonhosted|pypi\.org")
    for path in ROOT.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        if hidden or path.suffix not in {".py", ".md", ".toml", ".sh", ".txt"}:
            continue
        if path != Path(__file__):
            assert not hosts.search(path.read_text("utf-8")), path
