"""What the installed transformers offers: names, methods, and what they take.

transformers itself is imported for this; a model's own code never is.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

ROOT = "transformers"


@cache
def version() -> str | None:
    """The installed version, None without transformers (or with one that does not load)."""
    module = _module(ROOT)
    return None if module is None else str(module.__version__)


def has_name(module: str, name: str) -> bool:
    """Whether `from module import name` works."""
    found = _module(module)
    return found is not None and (_attribute(found, name) is not None or has_module(module, name))


def has_module(module: str, name: str) -> bool:
    """Whether a module has a submodule of this name."""
    return _module(f"{module}.{name}") is not None


def lookup(module: str, name: str) -> type | None:
    """A class by the module that it is imported from."""
    found = _attribute(_module(module), name)
    return found if isinstance(found, type) else None


def parameters(owner: type, method: str) -> Sequence[inspect.Parameter] | None:
    """What a method takes, None where that cannot be told."""
    try:
        return list(inspect.signature(getattr(owner, method)).parameters.values())
    except (AttributeError, TypeError, ValueError):
        return None


def mixes_in_generation() -> type | None:
    """What transformers adds to remote models that can generate; None where it adds nothing."""
    if not has_name(f"{ROOT}.models.auto.auto_factory", "add_generation_mixin_to_remote_model"):
        return None
    return lookup(f"{ROOT}.generation", "GenerationMixin")


@cache
def config_has(name: str) -> bool:
    """Whether a configuration has this attribute though nobody gave it."""
    kind = lookup(ROOT, "PretrainedConfig")
    if kind is None:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return inspect.getattr_static(kind(), name, None) is not None or name in vars(kind())


def cache_is_tuple_like() -> bool:
    """Whether past key values can be indexed as the tuples that they once were."""
    kind = lookup(ROOT, "DynamicCache")
    return kind is None or hasattr(kind, "__getitem__")


def ties_in_post_init() -> bool:
    """Whether a model lacks what loading needs unless its __init__ ends in post_init()."""
    kind = lookup(ROOT, "PreTrainedModel")
    body = getattr(getattr(kind, "post_init", None), "__code__", None)
    return body is not None and "all_tied_weights_keys" in body.co_names


def native_architectures() -> frozenset[str]:
    """Language models that transformers has itself."""
    found = _module(f"{ROOT}.models.auto.modeling_auto")
    names: Any = _attribute(found, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    return frozenset(names.values()) if names else frozenset()


def is_installed(package: str) -> bool:
    """Whether a package that stands at the top level could be imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


@cache
def _module(name: str) -> Any:
    if name.split(".")[0] != ROOT:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(name)
        except (ImportError, OSError, RuntimeError, AttributeError):
            return None


def _attribute(module: Any, name: str) -> Any:
    """A lazy module imports on the first question, which may fail as an import does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(module, name, None)
        except (ImportError, OSError, RuntimeError):
            return None
