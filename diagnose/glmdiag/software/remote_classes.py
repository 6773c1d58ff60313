"""Classes of a model folder, with what they inherit from transformers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from glmdiag.software import library
from glmdiag.software.remote_source import Source

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Bindings: TypeAlias = Mapping[tuple[str, str], tuple[str, str]]
"""By a file and a name in it, the module that the name comes from and what it is called there."""
MOST_ANCESTORS = 32  # a class that inherits from itself would never end


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A name from a module; `guarded` imports may fail without harm."""

    module: str
    name: str | None
    bound: str
    line: int
    guarded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """A class: its methods, what it sets on itself, and the names of what it inherits from."""

    source: Source
    node: ast.ClassDef
    bases: Sequence[str]
    methods: Mapping[str, Function]
    attributes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a class and its ancestors in the folder define, and their classes of transformers.

    `complete` is False where an ancestor comes from elsewhere, so that it is not known what it has.
    """

    own: Sequence[Class]
    library: Sequence[type] = field(default=())
    complete: bool = True

    def defines(self, name: str) -> bool:
        """Whether the folder's classes have such a method or attribute."""
        return any(name in each.methods or name in each.attributes for each in self.own)

    def owner(self, name: str) -> type | None:
        """The class of transformers that has this attribute."""
        return next((kind for kind in self.library if hasattr(kind, name)), None)


def imports(source: Source) -> Iterator[Import]:
    """All imports of a file, in its order, relative ones left out."""
    guarded = _guarded(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield Import(
                    module=node.module,
                    name=alias.name,
                    bound=alias.asname or alias.name,
                    line=node.lineno,
                    guarded=id(node) in guarded,
                )
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(
                    module=alias.name,
                    name=None,
                    bound=alias.asname or alias.name.split(".")[0],
                    line=node.lineno,
                    guarded=id(node) in guarded,
                )


def classes(sources: Sequence[Source]) -> Sequence[Class]:
    """All classes of the files."""
    return [
        _class(source, node)
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    ]


def inherited(start: Class, known: Sequence[Class], bound: Bindings) -> Inherited:
    """The ancestors of a class among `known` ones and, by `bound`, in transformers."""
    own, found, complete = [start], [], True
    waiting = [(start, name) for name in start.bases]
    while waiting and len(own) < MOST_ANCESTORS:
        heir, name = waiting.pop(0)
        parent, origin = _named(name, heir, known), bound.get((heir.source.name, name))
        kind = library.lookup(*origin) if origin else None
        if parent is not None:
            if all(parent is not each for each in own):
                own.append(parent)
                waiting += [(parent, base) for base in parent.bases]
        elif kind is not None:
            found.append(kind)
        elif name not in ("object", "ABC"):
            complete = False
    generates = any("prepare_inputs_for_generation" in each.methods for each in own)
    mixin = library.mixes_in_generation() if generates else None
    return Inherited(own=own, library=[*found, *([mixin] if mixin else [])], complete=complete)


def bindings(sources: Sequence[Source]) -> Bindings:
    """The names of transformers that each file imports."""
    return {
        (source.name, each.bound): (each.module, each.name)
        for source in sources
        for each in imports(source)
        if each.name is not None and each.module.split(".")[0] == library.ROOT
    }


def _named(name: str, heir: Class, known: Sequence[Class]) -> Class | None:
    """The class that a name means in the file of its heir, else in any other."""
    found = [each for each in known if each.node.name == name]
    same = [each for each in found if each.source is heir.source]
    return next(iter([*same, *found]), None)


def _class(source: Source, node: ast.ClassDef) -> Class:
    methods = {
        each.name: each
        for each in node.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return Class(
        source=source,
        node=node,
        bases=[last_name(base) for base in node.bases],
        methods=methods,
        attributes=frozenset(_attributes(node)),
    )


def last_name(node: ast.expr) -> str:
    """The last part of a name: `PreTrainedModel` for `transformers.PreTrainedModel`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    """What is assigned in the class, or to self in one of its methods."""
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            yield each.attr
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            yield each.id


def _guarded(tree: ast.Module) -> set[int]:
    """Nodes that run only under a condition, or whose failure is caught, or inside a function."""
    found: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.stmt] = []
        if isinstance(node, ast.Try) and node.handlers:
            parts = [*node.body, *(each for handler in node.handlers for each in handler.body)]
        elif isinstance(node, ast.If):
            parts = [*node.body, *node.orelse]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = node.body
        found.update(id(inner) for part in parts for inner in ast.walk(part))
    return found
