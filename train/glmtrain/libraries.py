"""The libraries that only training and answering need."""

from __future__ import annotations

from importlib.util import find_spec

from glmprep.errors import UsageError

LIBRARIES = ("torch", "transformers", "peft", "safetensors")


def require() -> None:
    """Raise UsageError where only data preparation was installed."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"models need {', '.join(missing)}: pip install torch, the build for your hardware, "
            "then pip install 'glm-finetune-suite[train]'"
        )
