"""What a run left: the model with what it learned, and how its data was prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glmprep.errors import InputError, UsageError

from glmtrain import config, model, output, precision, preparation, settings
from glmtrain.methods import ADAPTER_WEIGHTS
from glmtrain.model import CausalModel
from glmtrain.precision import DTYPES, Precision
from glmtrain.preparation import Preparation
from glmtrain.probe import default_device

WHOLE = "model*.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A run that has its weights, in `folder`.

    `base` is the fingerprint of the model that it began with; `tokenizer` has name and sha256 of
    the one that its data was made with, `family` is the name of the template.
    """

    folder: Path
    config: settings.Config
    base: str
    tokenizer: Mapping[str, str]
    family: str
    prepared: Preparation

    @property
    def whole(self) -> bool:
        """Whether all weights were trained, so that no base model is needed."""
        return self.config.model.method == "full"


def read(folder: Path) -> Trained:
    """The run in a folder; raises InputError for one that is none, or has no weights yet."""
    if not (folder / output.RECORD).is_file():
        raise InputError(f"{folder}: holds no run; name the --output of a glmtrain run")
    record = output.read_record(folder)
    settings = config.build([output.resolved(folder)])
    weights = WHOLE if settings.model.method == "full" else ADAPTER_WEIGHTS
    if not any(folder.glob(weights)):
        raise InputError(
            f"{folder}: its run is {record.get('state')}, so it has no weights yet; "
            f"go on with: glmtrain run --output {folder} --resume"
        )
    try:
        return Trained(
            folder=folder,
            config=settings,
            base=record["base"]["fingerprint"],
            tokenizer={name: record["tokenizer"][name] for name in ("name", "sha256")},
            family=record["family"],
            prepared=preparation.of_run(record),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder / output.RECORD}: does not tell how the data was prepared ({error!r}); "
            "train again with this version"
        ) from error


def load(path: str, run: Trained | None, dtype: settings.DType) -> tuple[CausalModel, Precision]:
    """The model at `path` with what the run learned, ready to answer, and the number format.

    Raises UsageError for another model than the run's, InputError for what cannot be loaded.
    """
    chosen = precision.choose(settings.Precision(dtype=dtype), default_device())
    if run is None or run.whole:
        return model.load(path, chosen.dtype).to(chosen.device).eval(), chosen
    # Loaded as in training, so that its fingerprint is the same.
    trained_in = DTYPES.get(run.config.precision.dtype, chosen.dtype)
    causal = model.load(path, trained_in)
    if model.fingerprint(causal) != run.base:
        raise UsageError(
            f"{path}: not the model that {run.folder} adapts, which was "
            f"{run.config.model.path}; leave out --model, or name where that one lies"
        )
    causal = causal.to(chosen.dtype)
    _adapt(causal, run.folder)
    return causal.to(chosen.device).eval(), chosen


def _adapt(causal: CausalModel, folder: Path) -> None:
    """Put an adapter's layers in the model; raises InputError where they do not fit."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    try:
        adapter = PeftModel.from_pretrained(causal, str(folder))
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            saved = set(file.keys())
        # What has no weights in the file would be left as it was made, which peft only warns of.
        if saved != get_peft_model_state_dict(adapter, save_embedding_layers=False).keys():
            raise ValueError("its weights are of other layers than its configuration")
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder}: its adapter does not fit the model ({reason})") from error
