from __future__ import annotations

import json
from dataclasses import replace

import pytest
from glmdiag.software import compatibility, environment, versions
from glmdiag.software.env_rules import judge
from glmdiag.software.environment import Environment
from glmdiag.software.versions import Unmet
from glmprep.errors import InputError
from glmreport import render
from packaging.specifiers import SpecifierSet
from packaging.version import Version

SOUND = Environment(
    versions={"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2", "numpy": "2.4.6"},
    clashes=[],
    python="3.11.7",
    built={"cuda": "12.8", "cudnn": "91002", "nccl": "2.27.3"},
    driver="570.1",
    driver_cuda="12.8",
)
FAULTY = {
    "EN001": replace(
        SOUND, clashes=compatibility.clashes({"peft": "0.17.1", "transformers": "5.0.0"})
    ),
    "EN002": replace(
        SOUND, unmet=[Unmet(package="peft", requirement="accelerate>=0.21", found=None)]
    ),
    "EN003": replace(SOUND, built={"cuda": "13.0"}),
    "EN004": replace(SOUND, built={"cuda": None}),
    "EN005": replace(SOUND, file="requirements.txt", unpinned=["torch", "requests"]),
}


@pytest.mark.parametrize("rule", FAULTY)
def test_a_rule_fires_alone_on_an_environment_with_its_fault(rule):
    assert [finding.rule for finding in judge(FAULTY[rule])] == [rule]


@pytest.mark.parametrize(
    "found",
    [
        SOUND,
        replace(SOUND, driver=None, driver_cuda=None, built={"cuda": None}),  # a machine without
        replace(SOUND, built=None),  # torch is not there
        replace(SOUND, built={"cuda": "12.9"}),  # a later build of the same CUDA
        replace(SOUND, file="requirements.txt", unpinned=["requests"]),
    ],
)
def test_a_sound_environment_has_no_findings(found):
    assert judge(found) == []


@pytest.mark.parametrize("found", [SOUND, *FAULTY.values()], ids=["sound", *FAULTY])
def test_every_environment_has_a_page_that_tells_its_findings(found):
    from glmdiag.views.environment import page

    findings = judge(found)
    html = render(page(found, findings, "glmdiag env"))
    assert all(finding.rule in html for finding in findings)


def inside(specifier: str) -> str:
    """A version that a specifier allows."""
    bounds = [Version(each.version) for each in SpecifierSet(specifier)]
    tried = [*bounds, *(Version(f"{b.major}.{b.minor + 1}") for b in bounds), Version("0.0.1")]
    return str(next(v for v in tried if v in SpecifierSet(specifier)))


@pytest.mark.parametrize("pair", compatibility.pairs(), ids=lambda pair: pair.id)
def test_a_known_pair_is_found_where_all_its_versions_are_there_and_is_mended_by_its_fix(pair):
    there = {name: inside(specifier) for name, specifier in pair.when.items()}
    assert compatibility.holds(pair, there)
    assert not compatibility.holds(pair, dict(list(there.items())[1:]))
    mended, _, bound = pair.install.partition(" ")[0].partition(
        "<" if "<" in pair.install else ">="
    )
    operator = "<" if "<" in pair.install else ">="
    fixed = inside(f"{operator}{bound}")
    assert not compatibility.holds(pair, there | {mended: fixed})
    assert pair.thread[-1].isdigit()


def test_what_installs_together_clashes_nowhere():
    assert compatibility.clashes(versions.installed().versions) == []


@pytest.mark.parametrize(
    ("torch", "vision", "clash"),
    [
        ("2.6.0+cu124", "0.21.0", False),
        ("2.6.0", "0.20.1", True),
        ("2.0.1", "0.15.2", False),
        ("2.13.0", "0.1.0", False),  # later than what is known
        ("nightly", "0.20.1", False),
    ],
)
def test_torchvision_has_to_be_the_one_of_its_torch(torch, vision, clash):
    found = compatibility.clashes({"torch": torch, "torchvision": vision})
    assert [each.pair.id for each in found] == ["torchvision"] * clash


def test_lists_of_pip_and_conda_are_read(tmp_path):
    path = tmp_path / "freeze.txt"
    path.write_text(
        "# a comment\n"
        "torch==2.6.0+cu124\n"
        "Flash_Attn==2.7.4.post1 ; python_version > '3'\n"
        "peft           0.17.0\n"  # pip list
        "numpy=1.26.4=py311h64a7726_0\n"  # conda list --export
        "transformers[torch]>=4.40\n"
        "deepspeed @ file:///build/deepspeed\n"
        "-r other.txt\n"
        "\x1b]0;title\x07 <script>\n"
    )
    found = versions.read(path)
    assert found.versions == {
        "torch": "2.6.0+cu124",
        "flash-attn": "2.7.4.post1",
        "peft": "0.17.0",
        "numpy": "1.26.4",
    }
    assert (found.unpinned, found.skipped) == (["transformers", "deepspeed"], 2)


@pytest.mark.parametrize("text", ["", "# nothing\n", "\x00\xff", "-e .\n" * 3])
def test_a_text_without_packages_is_refused(tmp_path, text):
    path = tmp_path / "freeze.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="names no package"):
        versions.read(path)


def test_a_huge_list_is_refused_and_a_hostile_line_takes_no_time(tmp_path):
    path = tmp_path / "freeze.txt"
    path.write_text("torch==2.6.0\n" + "a" * 1_000_000 + "\n" + "x[" * 100_000 + "\n")
    assert versions.read(path).versions == {"torch": "2.6.0"}
    path.write_text("x" * (versions.MOST_BYTES + 1))
    with pytest.raises(InputError, match="too large"):
        versions.read(path)


def test_requirements_of_installed_packages_are_looked_at(monkeypatch):
    monkeypatch.setattr(versions, "CHECKED", ("peft",))
    asked = ["torch>=99", "numpy>=1", "nothere", "extra-only; extra == 'test'", "!! broken"]
    monkeypatch.setattr(versions.metadata, "requires", lambda name: asked)
    found = {each.requirement: each.found for each in versions.unmet()}
    assert found.keys() == {"torch>=99", "nothere"}
    assert found["nothere"] is None


def test_env_judges_another_machine_by_its_list(glmdiag, tmp_path):
    listed = tmp_path / "freeze.txt"
    listed.write_text("torch==2.2.0\nnumpy==2.1.0\n")
    report = tmp_path / "env.html"
    status, out, _ = glmdiag("env", "--versions", listed, "--report", report, "--json", "-")
    found = json.loads(out)
    assert status == 1
    assert [f["data"]["install"] for f in found["findings"]] == ["numpy<2"]
    assert "openfederatedlearning issue 999" in report.read_text("utf-8")


def test_env_answers_wrong_calls_in_one_line(glmdiag, tmp_path):
    listed = tmp_path / "freeze.txt"
    listed.write_text("torch==2.6.0\n")
    for arguments in (
        ("--versions", tmp_path / "none.txt"),
        ("--versions", listed, "--model", tmp_path),
        ("--model", tmp_path / "none"),
    ):
        status, out, err = glmdiag("env", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)


def test_this_environment_is_examined():
    found = environment.examine()
    assert found.python is not None
    assert found.versions["glm-finetune-suite"]
    assert found.file is None
