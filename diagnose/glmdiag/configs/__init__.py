"""Configurations of all known trainers as one record.

glmtrain's TOML, the official GLM-4 YAML, LLaMA-Factory, axolotl, ms-swift, TrainingArguments of
transformers, and DeepSpeed's JSON, alone or beside one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from glmprep.errors import InputError, UsageError

from glmdiag.configs import (
    adapter,
    axolotl,
    deepspeed,
    document,
    glmtrain,
    hugging_face,
    llamafactory,
    official,
    swift,
)
from glmdiag.configs.document import KNOWN, Document
from glmdiag.configs.reader import Format, Reader
from glmdiag.configs.record import DeepSpeed, Oddity, Said, Trainer, TrainerConfig

__all__ = ["FORMATS", "DeepSpeed", "Document", "Oddity", "Said", "TrainerConfig", "load", "read"]

MODULES: tuple[ModuleType, ...] = (
    deepspeed,
    official,
    axolotl,
    swift,
    llamafactory,
    hugging_face,
)
FORMATS: Mapping[Trainer, Format] = {
    module.FORMAT.name: module.FORMAT for module in (*MODULES, glmtrain)
}
RECIPE = "train"
"""The table of a recipe in which settings of training stand."""


def read(paths: Sequence[Path]) -> TrainerConfig:
    """The record of a trainer's configuration, a DeepSpeed JSON, or both.

    Raises InputError for a file that cannot be read or is of no known format, UsageError for two
    configurations of the same kind.
    """
    return load(paths)[0]


def load(paths: Sequence[Path]) -> tuple[TrainerConfig, list[Document]]:
    """The record, and the documents that it was read from, the trainer's first."""
    if not paths:
        raise UsageError("give a configuration file")
    readers = [_reader(document.load(path)) for path in paths]
    own = [each for each in readers if each.format.name != "deepspeed"]
    beside = [each for each in readers if each.format.name == "deepspeed"]
    for found, what in ((own, "configurations of a trainer"), (beside, "DeepSpeed files")):
        if len(found) > 1:
            names = ", ".join(str(each.document.path) for each in found)
            raise UsageError(f"{names}: two {what}; give one, and a DeepSpeed JSON beside it")
    main = (own or beside)[0]
    main.read()
    adapter.read_base(main)
    if own and not beside:
        beside = _named(main)
    plan = _deepspeed(main, beside)
    if beside and beside[0] is not main:
        beside[0].read()
        main.oddities += beside[0].oddities
    documents = [main.document, *(each.document for each in beside if each is not main)]
    config = TrainerConfig(
        trainer=main.format.name,
        sources=[each.path for each in documents],
        defaults=main.format.defaults,
        said=main.said,
        oddities=main.oddities,
        deepspeed=plan,
        **main.values,
    )
    return config, documents


def _reader(found: Document) -> Reader:
    """The reader of a document, by the names that it has."""
    if found.syntax == "toml":
        if glmtrain.recognised(found.tree):
            return Reader(format=glmtrain.FORMAT, document=found)
        if glmtrain.recognised(found.tree.get(RECIPE)):
            return Reader(format=glmtrain.FORMAT, document=found, root=RECIPE)
    else:
        for module in MODULES:
            if module.recognised(found.tree):
                return Reader(format=module.FORMAT, document=found)
    raise InputError(f"{found.path}: no known configuration; known: {KNOWN}")


def _named(main: Reader) -> list[Reader]:
    """The DeepSpeed file that a configuration names, where it is found."""
    key = "training_args.deepspeed" if main.format.name == "official" else "deepspeed"
    name = main.get(key)
    if not isinstance(name, str) or not name or deepspeed.preset(name) is not None:
        return []
    beside = main.document.path.parent
    for path in (beside / name, beside.parent / name, beside / Path(name).name, Path(name)):
        if _is_file(path):
            found = _reader(document.load(path))
            return [found] if found.format.name == "deepspeed" else []
    main.odd("missing", main.where(key), name)
    return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _deepspeed(main: Reader, beside: Sequence[Reader]) -> DeepSpeed | None:
    """DeepSpeed's settings: of a file, within the configuration, or by a name."""
    if beside:
        found = beside[0].document
        return deepspeed.build(found.tree, found.path)
    if main.format.name == "deepspeed":
        return deepspeed.build(main.document.tree, main.document.path)
    if main.format.name == "glmtrain":
        stage = glmtrain.STAGES.get(str(main.get("devices.strategy")))
        return None if stage is None else _own(main, stage)
    key = "training_args.deepspeed" if main.format.name == "official" else "deepspeed"
    said: Any = main.get(key)
    tree = deepspeed.preset(said) if isinstance(said, str) else said
    return deepspeed.build(tree, None) if isinstance(tree, Mapping) else None


def _own(main: Reader, stage: int) -> DeepSpeed:
    """What glmtrain makes of its strategies: its own values, gathered when it saves."""
    device = "cpu" if main.get("devices.offload") else "none"
    zero = {
        "stage": stage,
        "offload_optimizer": {"device": device},
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    auto = {name: {"enabled": "auto"} for name in ("bf16", "fp16")}
    return deepspeed.build({"zero_optimization": zero, "gradient_clipping": "auto", **auto}, None)
