"""Rules on what is installed: each takes an `Environment` and yields its findings."""

from __future__ import annotations

from collections.abc import Iterator

from glmprep.findings import Example, Finding, Severity, rule

from glmdiag.software import code_rules
from glmdiag.software.environment import Environment

WANTED = ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "deepspeed")


@rule("EN001", Severity.ERROR)
def known_clash(environment: Environment) -> Iterator[Finding]:
    """Versions that are known not to work together.

    Evidence: Installed are {versions}, known to end in "{symptom}" ({thread}).
    Why: such a pair installs without a word and fails at the import, in the middle of a run, or
    with wrong numbers.
    Fix: run pip install "{install}".
    """
    for clash in environment.clashes:
        versions = ", ".join(f"{name} {version}" for name, version in clash.versions.items())
        yield known_clash.finding(
            clash.pair.id,
            severity=clash.pair.severity,
            versions=versions,
            symptom=clash.pair.symptom,
            thread=clash.pair.thread,
            install=clash.pair.install,
        )


@rule("EN002", Severity.WARNING)
def unmet_requirement(environment: Environment) -> Iterator[Finding]:
    """A package's own requirements are not met.

    Evidence: {count} {count:|requirement|requirements} of installed packages {count:|is|are} not
    met, first {package}: {requirement}, where {found} is installed.
    Why: the package was written against other versions; what it calls may be gone.
    Fix: run pip install -U {package}, or install what it asks for: "{requirement}".
    """
    if environment.unmet:
        first = environment.unmet[0]
        yield unmet_requirement.finding(
            first.package,
            examples=tuple(
                Example(where=each.package, excerpt=f"{each.requirement} ({each.found or '-'})")
                for each in environment.unmet
            ),
            count=len(environment.unmet),
            package=first.package,
            requirement=first.requirement,
            found=first.found or "-",
        )


@rule("EN003", Severity.ERROR)
def cuda_newer_than_driver(environment: Environment) -> Iterator[Finding]:
    """Torch's CUDA is newer than what the driver runs.

    Evidence: Torch {torch} was built with CUDA {cuda}; driver {driver} runs CUDA up to {newest}.
    Why: torch computes on the processor, or ends with "the NVIDIA driver on your system is too
    old".
    Fix: update the driver, or install torch for an older CUDA from
    https://pytorch.org/get-started/previous-versions.
    """
    cuda, newest = (environment.built or {}).get("cuda"), environment.driver_cuda
    if cuda and newest and int(cuda.split(".")[0]) > int(newest.split(".")[0]):
        yield cuda_newer_than_driver.finding(
            "torch",
            torch=environment.versions.get("torch", "?"),
            cuda=cuda,
            driver=environment.driver or "?",
            newest=newest,
        )


@rule("EN004", Severity.ERROR)
def torch_for_cpu(environment: Environment) -> Iterator[Finding]:
    """Torch was built without CUDA, beside an NVIDIA driver.

    Evidence: Driver {driver} is loaded, but torch {torch} was built without CUDA.
    Why: training runs on the processor, a hundred times slower, and nothing says so; it happens
    when another package pulls torch in from a mirror of CPU builds.
    Fix: uninstall torch, and install it again from the index for your CUDA, as
    https://pytorch.org/get-started says.
    """
    built = environment.built
    if environment.driver is not None and built is not None and built.get("cuda") is None:
        yield torch_for_cpu.finding(
            "torch", driver=environment.driver, torch=environment.versions.get("torch", "?")
        )


@rule("EN005", Severity.INFO)
def versions_open(environment: Environment) -> Iterator[Finding]:
    """The list leaves versions open.

    Evidence: {count} packages that matter here have no version: {names}.
    Why: what pip chooses today is not what it chose when the run worked, and pairs that clash are
    not seen here.
    Fix: give what pip freeze wrote on the machine, and keep it as constraints.txt.
    """
    names = sorted({name for name in environment.unpinned if name in WANTED})
    if names:
        yield versions_open.finding(
            environment.file or "versions", count=len(names), names=", ".join(names)
        )


ENV_RULES = (
    known_clash,
    unmet_requirement,
    cuda_newer_than_driver,
    torch_for_cpu,
    versions_open,
)


def judge(environment: Environment) -> list[Finding]:
    """All findings on an environment, and on its model's code where there is a model."""
    found = [finding for each in ENV_RULES for finding in each(environment)]
    if environment.model is not None:
        found += code_rules.judge(environment.model)
    return found
