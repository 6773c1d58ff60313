"""What a model folder's own code asks of transformers that the installed one no longer has.

Models with `auto_map` in their config.json bring their Python along, written for the transformers
of their day. It is read as a syntax tree and never run. Each check asks the installed transformers
itself whether a name, a method or a parameter is there, so nothing here ages with its versions.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from glmprep.errors import UsageError
from glmprep.model import CONFIG
from glmprep.tokenizer import read_json

from glmdiag.software import library, remote_classes, remote_source
from glmdiag.software.remote_classes import Class, Function, Inherited
from glmdiag.software.remote_source import Skipped, Source

Kind: TypeAlias = Literal[
    "import", "package", "method", "override", "keyword", "config", "cache", "post_init", "order"
]
CALLED_WITH: Mapping[str, str] = {"_pad": "padding_side", "tie_weights": "recompute_mapping"}
"""Methods that transformers calls with a parameter that older ones did not have."""
ONCE_OF_CONFIGS = (
    *("max_length", "min_length", "do_sample", "num_beams", "temperature", "top_k", "top_p"),
    *("repetition_penalty", "torchscript", "pruned_heads", "use_return_dict", "use_cache"),
    *("tie_word_embeddings", "is_encoder_decoder", "is_decoder", "add_cross_attention"),
)
"""What every configuration had by itself in transformers 4."""
PAST = "past_key_values"
MOST_TROUBLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A place that will fail: `name` is what is missing there, `text` the line."""

    kind: Kind
    where: str
    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCode:
    """A model folder: its architecture, what it was written for, and where its code fails.

    `native` is whether transformers has the architecture itself, `remote` whether the config asks
    for code of the folder. `transformers` is the version that was asked, None where there is none.
    """

    folder: str
    architectures: Sequence[str]
    written_for: str | None
    native: bool
    remote: bool
    transformers: str | None
    files: Sequence[str]
    skipped: Sequence[Skipped]
    troubles: Sequence[Trouble]


def scan(folder: Path) -> RemoteCode:
    """Look through a model folder.

    Raises UsageError for what is no folder, InputError for a config.json that cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"--model {folder}: not a folder")
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    read = remote_source.read(folder)
    asked = library.version()
    architectures = _texts(config.get("architectures"))
    return RemoteCode(
        folder=str(folder),
        architectures=architectures,
        written_for=_text(config.get("transformers_version")),
        native=bool(library.native_architectures().intersection(architectures)),
        remote=isinstance(config.get("auto_map"), dict),
        transformers=asked,
        files=[source.name for source in read.sources],
        skipped=read.skipped,
        troubles=[] if asked is None else troubles(read.sources, frozenset(config)),
    )


def troubles(sources: Sequence[Source], given: frozenset[str] = frozenset()) -> list[Trouble]:
    """Where the files will fail; `given` are the keys of config.json."""
    known, bound = remote_classes.classes(sources), remote_classes.bindings(sources)
    found = [trouble for source in sources for trouble in _imports(source)]
    configs = [remote_classes.inherited(each, known, bound) for each in known]
    of_configs = given.union(*(_own(each) for each in configs if _is(each, "PretrainedConfig")))
    for each in known:
        above = remote_classes.inherited(each, known, bound)
        found += _methods(each, above)
        found += _overrides(each, above)
        if _is(above, "PreTrainedModel"):
            found += _configs(each, of_configs)
            found += _caches(each)
            found += _post_init(each, above)
        if _is(above, "PreTrainedTokenizer"):
            found += _order(each)
    unique = {(each.kind, each.where, each.name): each for each in found}
    return list(unique.values())[:MOST_TROUBLES]


def _imports(source: Source) -> Iterator[Trouble]:
    """Names that transformers no longer has, packages that are not installed."""
    for each in remote_classes.imports(source):
        top = each.module.split(".")[0]
        if each.guarded or top in sys.stdlib_module_names:
            continue
        if top != library.ROOT:
            if not library.is_installed(top):
                yield _trouble("package", source, each.line, top)
        elif each.name is None:
            if not library.has_module(*_parent(each.module)):
                yield _trouble("import", source, each.line, each.module)
        elif each.name != "*" and not library.has_name(each.module, each.name):
            yield _trouble("import", source, each.line, f"{each.module}.{each.name}")


def _methods(each: Class, above: Inherited) -> Iterator[Trouble]:
    """Calls of methods that neither the folder nor transformers has, or with what they lack."""
    if not above.library or not above.complete:
        return
    for call in (node for node in ast.walk(each.node) if isinstance(node, ast.Call)):
        name, of_super = _called(call)
        if name is None or (not of_super and above.defines(name)):
            continue
        if of_super and any(name in one.methods for one in above.own[1:]):
            continue
        owner = above.owner(name)
        if owner is None:
            yield _trouble("method", each.source, call.lineno, name)
            continue
        if name == "__init__":  # configurations wrap theirs, so its signature tells nothing
            continue
        for keyword in _unknown(call, library.parameters(owner, name)):
            yield _trouble("keyword", each.source, call.lineno, f"{name}({keyword}=)")


def _overrides(each: Class, above: Inherited) -> Iterator[Trouble]:
    """Methods of the folder that transformers calls with a parameter that they do not take."""
    for method, parameter in CALLED_WITH.items():
        own, owner = each.methods.get(method), above.owner(method)
        if own is None or owner is None or own.args.kwarg is not None:
            continue
        offered = [found.name for found in library.parameters(owner, method) or ()]
        if parameter in offered and parameter not in _parameters(own):
            yield _trouble("override", each.source, own.lineno, f"{method}({parameter}=)")


def _configs(each: Class, given: frozenset[str]) -> Iterator[Trouble]:
    """Reads of `config.max_length` and the like, which configurations had by themselves."""
    for node in ast.walk(each.node):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Load)
            and node.attr in ONCE_OF_CONFIGS
            and node.attr not in given
            and remote_classes.last_name(node.value) == "config"
            and not library.config_has(node.attr)
        ):
            yield _trouble("config", each.source, node.lineno, f"config.{node.attr}")


def _caches(each: Class) -> Iterator[Trouble]:
    """Past key values indexed as tuples: `past_key_values[0][0]`."""
    if library.cache_is_tuple_like():
        return
    for node in ast.walk(each.node):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Load)
            and remote_classes.last_name(node.value) == PAST
        ):
            yield _trouble("cache", each.source, node.lineno, f"{PAST}[…]")


def _post_init(each: Class, above: Inherited) -> Iterator[Trouble]:
    """Models whose __init__ does not end in post_init(), without which loading fails now."""
    own = each.methods.get("__init__")
    calls = {_called(node)[0] for one in above.own for node in _calls(one.methods.get("__init__"))}
    if own is not None and library.ties_in_post_init() and "post_init" not in calls:
        yield _trouble("post_init", each.source, own.lineno, f"{each.node.name}.__init__")


def _order(each: Class) -> Iterator[Trouble]:
    """What get_vocab needs is set after super().__init__(), which calls get_vocab since 4.34."""
    own = each.methods.get("__init__")
    begins = [node.lineno for node in _calls(own) if _called(node) == ("__init__", True)]
    if own is None or not begins:
        return
    needed = {
        node.attr
        for name in ("vocab_size", "get_vocab", "_convert_id_to_token")
        for node in _walk(each.methods.get(name))
        if isinstance(node, ast.Attribute) and remote_classes.last_name(node.value) == "self"
    }
    set_before: set[str] = set()
    stores = [n for n in ast.walk(own) if isinstance(n, ast.Attribute)]
    for node in sorted(stores, key=lambda found: found.lineno):
        if not isinstance(node.ctx, ast.Store) or remote_classes.last_name(node.value) != "self":
            continue
        if node.lineno < begins[0]:
            set_before.add(node.attr)
        elif node.attr in needed - set_before:
            yield _trouble("order", each.source, node.lineno, f"self.{node.attr}")


def _is(above: Inherited, name: str) -> bool:
    kind = library.lookup(library.ROOT, name)
    return kind is not None and any(issubclass(found, kind) for found in above.library)


def _own(above: Inherited) -> frozenset[str]:
    """What a configuration has: what it sets, its parameters, its properties."""
    init = above.own[0].methods.get("__init__")
    methods = frozenset(name for each in above.own for name in each.methods)
    return methods.union(*(each.attributes for each in above.own), _parameters(init))


def _called(call: ast.Call) -> tuple[str | None, bool]:
    """The method of `self.name(…)` or `super().name(…)`, and whether it is the latter."""
    if not isinstance(call.func, ast.Attribute):
        return None, False
    owner = call.func.value
    if isinstance(owner, ast.Name) and owner.id == "self":
        return call.func.attr, False
    if isinstance(owner, ast.Call) and remote_classes.last_name(owner.func) == "super":
        return call.func.attr, True
    return None, False


def _unknown(call: ast.Call, offered: Sequence[Any] | None) -> Iterator[str]:
    """Keywords of a call that the method does not take."""
    if offered is None or any(found.kind is found.VAR_KEYWORD for found in offered):
        return
    names = {found.name for found in offered}
    yield from (word.arg for word in call.keywords if word.arg and word.arg not in names)


def _parameters(function: Function | None) -> frozenset[str]:
    if function is None:
        return frozenset()
    found = function.args
    return frozenset(each.arg for each in (*found.posonlyargs, *found.args, *found.kwonlyargs))


def _walk(function: Function | None) -> Iterator[ast.AST]:
    return iter(()) if function is None else ast.walk(function)


def _calls(function: Function | None) -> Iterator[ast.Call]:
    return (node for node in _walk(function) if isinstance(node, ast.Call))


def _parent(module: str) -> tuple[str, str]:
    parent, _, name = module.rpartition(".")
    return parent or library.ROOT, name


def _trouble(kind: Kind, source: Source, line: int, name: str) -> Trouble:
    return Trouble(kind=kind, where=f"{source.name}:{line}", name=name, text=source.line(line))


def _text(value: object) -> str | None:
    return value[:100] if isinstance(value, str) else None


def _texts(value: object) -> list[str]:
    return (
        [each[:100] for each in value if isinstance(each, str)] if isinstance(value, list) else []
    )
