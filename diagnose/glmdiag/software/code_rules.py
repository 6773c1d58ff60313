"""Rules on a model folder's own code, beside the installed transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmprep.findings import Example, Finding, Rule, Severity, rule
from packaging.version import InvalidVersion, Version

from glmdiag.software.remote_code import Kind, RemoteCode, Trouble


@rule("EN011", Severity.ERROR)
def gone_import(code: RemoteCode) -> Iterator[Finding]:
    """The model's code imports what transformers no longer has.

    Evidence: {count} {count:|import|imports} that transformers {transformers} cannot satisfy, first
    {name} at {place}.
    Why: loading the model or its tokenizer with trust_remote_code ends in an ImportError.
    Fix: update the folder's files from where it came, load a model that transformers has itself
    (zai-org/glm-4-9b-chat-hf, the 0414 models), or install transformers {written}.
    """
    yield from _finding(gone_import, code, "import")


@rule("EN012", Severity.ERROR)
def missing_package(code: RemoteCode) -> Iterator[Finding]:
    """The model's code imports a package that is not installed.

    Evidence: Line {place} imports {name}, which is not installed ({count} such imports).
    Why: transformers refuses to load a model whose imports it cannot satisfy.
    Fix: run pip install {name}, or the package that holds a module of this name.
    """
    yield from _finding(missing_package, code, "package")


@rule("EN013", Severity.ERROR)
def gone_method(code: RemoteCode) -> Iterator[Finding]:
    """The model's code calls methods that transformers no longer has.

    Evidence: {count} {count:|call|calls} of methods that neither the folder nor transformers
    {transformers} has, first {name} at {place}.
    Why: training may run for hours before the first evaluation or generation reaches that line
    (GLM-4 issue 439: _extract_past_from_model_output).
    Fix: update the folder's files from where it came, load a model that transformers has itself
    (zai-org/glm-4-9b-chat-hf, the 0414 models), or install transformers {written}.
    """
    yield from _finding(gone_method, code, "method")


@rule("EN014", Severity.ERROR)
def old_override(code: RemoteCode) -> Iterator[Finding]:
    """The model's code overrides a method with parameters of an older transformers.

    Evidence: Transformers {transformers} calls {name}, which the method at {place} does not take
    ({count} in all).
    Why: the call ends in a TypeError, at the first padded batch for _pad (GLM-4 issue 605).
    Fix: update the folder's files from where it came, give the method that parameter with the
    default None, or install transformers {written}.
    """
    yield from _finding(old_override, code, "override")


@rule("EN015", Severity.ERROR)
def gone_keyword(code: RemoteCode) -> Iterator[Finding]:
    """The model's code passes a parameter that transformers no longer takes.

    Evidence: Line {place} calls {name}, a parameter that transformers {transformers} does not take
    ({count} such calls).
    Why: the call ends in a TypeError (GLM-4 issue 439: standardize_cache_format).
    Fix: update the folder's files from where it came, leave the parameter out of that call, or
    install transformers {written}.
    """
    yield from _finding(gone_keyword, code, "keyword")


@rule("EN016", Severity.ERROR)
def gone_setting(code: RemoteCode) -> Iterator[Finding]:
    """The model's code reads a setting that configurations no longer have.

    Evidence: Line {place} reads {name}; neither config.json nor transformers {transformers} sets it
    ({count} such reads).
    Why: loading ends with "object has no attribute" (GLM-4-Voice issue 181: max_length).
    Fix: add the setting to the folder's config.json, load a model that transformers has itself, or
    install transformers {written}.
    """
    yield from _finding(gone_setting, code, "config")


@rule("EN017", Severity.WARNING)
def tuple_cache(code: RemoteCode) -> Iterator[Finding]:
    """The model's code takes past key values for tuples.

    Evidence: Line {place} indexes past_key_values; in transformers {transformers} they are an
    object that cannot be indexed ({count} such places).
    Why: training does without them; generating ends in an error, such as "too many values to
    unpack" (ChatGLM3 issue 1300).
    Fix: generate with use_cache=False, update the folder's files, or load a model that transformers
    has itself (zai-org/glm-4-9b-chat-hf, the 0414 models).
    """
    yield from _finding(tuple_cache, code, "cache")


@rule("EN018", Severity.ERROR)
def no_post_init(code: RemoteCode) -> Iterator[Finding]:
    """A model of the folder is not finished as transformers expects.

    Evidence: At {place} {name} never calls self.post_init(), which transformers {transformers}
    needs ({count} such classes).
    Why: loading ends with "object has no attribute 'all_tied_weights_keys'" (transformers pull
    request 43951).
    Fix: add self.post_init() as the last line of that __init__, load a model that transformers has
    itself, or install transformers {written}.
    """
    yield from _finding(no_post_init, code, "post_init")


@rule("EN019", Severity.ERROR)
def vocabulary_too_late(code: RemoteCode) -> Iterator[Finding]:
    """The tokenizer sets its vocabulary after transformers asks for it.

    Evidence: Line {place} sets {name} after super().__init__(), which reads the vocabulary ({count}
    such lines).
    Why: loading the tokenizer ends with "has no attribute" since transformers 4.34 (ChatGLM-6B
    issue 1507).
    Fix: move that line above super().__init__(), or update the folder's files.
    """
    yield from _finding(vocabulary_too_late, code, "order")


@rule("EN020", Severity.WARNING)
def not_looked_into(code: RemoteCode) -> Iterator[Finding]:
    """A file of the folder could not be looked into.

    Evidence: {count} Python {count:|file was|files were} not read: {names}.
    Why: what is in there may fail all the same; a file that does not parse fails for certain.
    Fix: download the folder again; put files in the place of links.
    """
    if code.skipped:
        yield not_looked_into.finding(
            code.folder,
            examples=tuple(Example(where=s.name, excerpt=s.reason) for s in code.skipped),
            count=len(code.skipped),
            names=", ".join(f"{s.name} ({s.reason})" for s in code.skipped[:5]),
        )


@rule("EN021", Severity.INFO)
def native_instead(code: RemoteCode) -> Iterator[Finding]:
    """Transformers has this model itself.

    Evidence: {architectures} is part of transformers {transformers}; the folder brings code of its
    own too.
    Why: code of a folder ages with each release of transformers; transformers' own does not, and
    has the faster attention.
    Fix: load it without trust_remote_code; remove auto_map from config.json.
    """
    if code.native and code.remote:
        yield native_instead.finding(
            code.folder,
            architectures=", ".join(code.architectures),
            transformers=str(code.transformers),
        )


@rule("EN022", Severity.WARNING)
def written_for_newer(code: RemoteCode) -> Iterator[Finding]:
    """The model was written by a newer transformers.

    Evidence: config.json was written by transformers {written}; {transformers} is installed.
    Why: an older one may not know the architecture, or pass over settings that it does not know.
    Fix: run pip install -U "transformers>={written}".
    """
    written, installed = _release(code.written_for), _release(code.transformers)
    if written and installed and written > installed and not code.remote:
        yield written_for_newer.finding(
            code.folder, written=str(code.written_for), transformers=str(code.transformers)
        )


@rule("EN023", Severity.WARNING)
def nothing_to_compare(code: RemoteCode) -> Iterator[Finding]:
    """The folder's code could not be judged.

    Evidence: {count} Python files were read, but no transformers is installed to compare them with.
    Why: each check asks the installed transformers what it offers.
    Fix: run pip install "glm-finetune-suite[train]", then run this again.
    """
    if code.files and code.transformers is None:
        yield nothing_to_compare.finding(code.folder, count=len(code.files))


CODE_RULES = (
    gone_import,
    missing_package,
    gone_method,
    old_override,
    gone_keyword,
    gone_setting,
    tuple_cache,
    no_post_init,
    vocabulary_too_late,
    not_looked_into,
    native_instead,
    written_for_newer,
    nothing_to_compare,
)


def judge(code: RemoteCode) -> list[Finding]:
    """All findings on a model folder's code."""
    return [finding for each in CODE_RULES for finding in each(code)]


def _finding(which: Rule[Any], code: RemoteCode, kind: Kind) -> Iterator[Finding]:
    """One finding for all troubles of a kind, the first of them in its evidence."""
    found = [trouble for trouble in code.troubles if trouble.kind == kind]
    if found:
        yield which.finding(
            found[0].where,
            examples=tuple(_example(trouble) for trouble in found),
            count=len(found),
            name=found[0].name,
            place=found[0].where,
            transformers=str(code.transformers),
            written=code.written_for or "of its day",
        )


def _example(trouble: Trouble) -> Example:
    return Example(where=trouble.where, excerpt=f"{trouble.name}: {trouble.text}"[:200])


def _release(version: str | None) -> tuple[int, ...]:
    """Major and minor, nothing for what is no version."""
    try:
        return Version(version or "").release[:2]
    except InvalidVersion:
        return ()
