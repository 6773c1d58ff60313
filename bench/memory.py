"""Predicted and measured peak memory of steps, evaluation, generation and resuming, on a CPU.

    OMP_NUM_THREADS=1 python bench/memory.py [--markdown] [--unseen] [WORD ...]

Small random models of three architectures; each configuration in turn, all or those whose line has
every WORD. Measured are tensors (`glmtrain.tensormemory`): what a caching allocator hands out,
without its rounding. A step is done once before, so that the optimiser's state is there. `trainer`
hf is transformers' own model with its own loss, as Hugging Face's Trainer calls it.
"""

from __future__ import annotations

import argparse
import gc
import runpy
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from glmprep import memory, memory_inference
from glmprep.memory import Training
from glmprep.memory_learning import learned
from glmprep.shape import Shape
from glmreport.text import Text
from glmtrain import checkpoint, footprint, lora, methods, precision, settings, strategies
from glmtrain.batches import Inputs
from glmtrain.devices import Place
from glmtrain.model import quiet_libraries
from glmtrain.precision import DTYPES
from glmtrain.quantised import state_tensors
from torch import Tensor

CPU = torch.device("cpu")
PLACE = Place(rank=0, ranks=1, local_rank=0, local_ranks=1, device=CPU, strategy="single")
MB = 1e6
RANK, PREFIX, NEW = 8, 16, 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is measured; the defaults are one batch of LoRA."""

    kind: Literal["Glm", "Glm4", "Glm4Moe"] = "Glm"
    sizes: str = "small"
    method: settings.Method = "lora"
    dtype: settings.DType = "fp32"
    pure: bool = False
    checkpointing: bool = False
    rows: int = 1
    length: int = 256
    tied: bool = False
    head_norms: bool = False
    accumulate: int = 1
    optimiser: settings.OptimiserName = "adamw"
    dropout: float = 0.0
    trainer: Literal["glmtrain", "hf"] = "glmtrain"
    phase: Literal["step", "evaluation", "generation", "resume"] = "step"

    def __str__(self) -> str:
        return ", ".join(
            f"{each.name}={getattr(self, each.name)}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        )

    @property
    def batch(self) -> memory.Batch:
        """What of it the arithmetic takes: a third of the tokens has a label."""
        labelled = self.rows * len(range(0, self.length, 3))
        return memory.Batch(
            rows=self.rows, length=self.length, labelled=labelled, masked=self.rows > 1
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Bytes predicted and measured."""

    case: Case
    predicted: int
    measured: int

    @property
    def error(self) -> float:
        """The share by which the prediction is off."""
        return self.predicted / self.measured - 1


def look(case: Case) -> Found:
    """Measure a configuration, and predict it."""
    with quiet_libraries():
        base = _model(case)
        shape = footprint.shape_of(base)
        measured = {
            "step": _hf_step if case.trainer == "hf" else _step,
            "evaluation": _evaluation,
            "generation": _generation,
            "resume": _resume,
        }[case.phase](case, base)
    return Found(case=case, predicted=predict(case, shape), measured=measured)


def predict(case: Case, shape: Shape) -> int:
    """What the arithmetic says."""
    training = _training(case)
    loss: memory.Loss = "naive" if case.trainer == "hf" else "chunked"
    if case.phase == "evaluation":
        return memory_inference.evaluation(shape, training, case.batch, loss, state=False).peak
    if case.phase == "generation":
        training = replace(training, method="full", learning=training.width)
        return memory_inference.generation(shape, training, case.rows, case.length, NEW).peak
    if case.phase == "resume":
        return _resumed(shape, training)
    return memory.footprint(shape, training, case.batch, loss).peak


def _resumed(shape: Shape, training: Training) -> int:
    """On a CPU the file lies beside the model: first that of the weights, then of the state."""
    found, learns = memory_inference.resuming(shape, training), learned(shape, training)
    weights = found.held - learns.state + training.learning * learns.parameters
    return round(max(weights, found.peak + learns.state))


def _training(case: Case) -> Training:
    return replace(footprint.training_of(_config(case), CPU), prefix=PREFIX)


def _config(case: Case) -> settings.Config:
    return settings.Config(
        model=settings.Model(method=case.method, gradient_checkpointing=case.checkpointing),
        data=settings.Data(accumulate=case.accumulate),
        optimiser=settings.Optimiser(name=case.optimiser, learning_rate=1e-4, weight_decay=0.1),
        lora=settings.Lora(rank=RANK, alpha=16.0, dropout=case.dropout),
        prefix=settings.Prefix(tokens=PREFIX),
        precision=settings.Precision(dtype=case.dtype, pure=case.pure),
    )


def _model(case: Case) -> Any:
    import transformers

    torch.manual_seed(0)
    more: dict[str, Any] = {}
    if case.kind == "Glm4Moe":
        more["use_qk_norm"] = case.head_norms
    more |= {"tie_word_embeddings": case.tied, "attention_bias": case.kind != "Glm4"}
    sizes = {**_sizes()[case.sizes], **more, "pad_token_id": 0}
    config = getattr(transformers, f"{case.kind}Config")(**sizes)
    model = getattr(transformers, f"{case.kind}ForCausalLM")(config)
    model.config.use_cache = False
    full = case.method == "full" and not case.pure and case.phase != "generation"
    return model.to(torch.float32 if full else DTYPES[case.dtype]).train()


def _inputs(case: Case) -> Inputs:
    ids = torch.randint(3, 2048, (case.rows, case.length))
    mask = torch.ones_like(ids)
    mask[1:, -5:] = 0
    labels = torch.where(torch.arange(case.length) % 3 == 0, ids, -100)
    return Inputs(
        input_ids=ids,
        position_ids=torch.arange(case.length).repeat(case.rows, 1),
        attention_mask=mask,
        labels=labels,
        tokens=int(mask.sum()),
        supervised=case.batch.labelled,
    )


def _strategy(case: Case, base: Any) -> strategies.Strategy:
    config, dtype = _config(case), DTYPES[case.dtype]
    chosen = precision.Precision(
        dtype=dtype, device=CPU, reason=Text("train.reason.given"), scaler=None, pure=case.pure
    )
    if case.method in ("lora", "qlora"):
        targets = lora.targets(base, config.lora, quantised=case.method == "qlora")
        config = replace(config, lora=replace(config.lora, target_modules=targets))
    learner = methods.prepare(base, config, dtype, device=CPU)
    return strategies.make(PLACE, learner, config, chosen)


def _peak(run: Callable[[], object], model: Any, optimiser: Any = None) -> int:
    states = () if optimiser is None else optimiser.state.values()
    held: Iterable[Any] = [
        *model.parameters(),
        *model.buffers(),
        *state_tensors(model),
        *(value for state in states for value in state.values()),
    ]
    gc.collect()
    return footprint.peak_of(run, CPU, [each for each in held if isinstance(each, Tensor)])


def _step(case: Case, base: Any) -> int:
    strategy = _strategy(case, base)
    step = footprint.step_of(strategy, _inputs(case), min(2, case.accumulate), 1.0)
    step()
    return _peak(step, strategy.learner, strategy.optimiser)


def _hf_step(case: Case, base: Any) -> int:
    if case.method == "lora":
        from peft import LoraConfig, get_peft_model

        get_peft_model(base, LoraConfig(r=RANK, target_modules="all-linear"))
    learning = [weight for weight in base.parameters() if weight.requires_grad]
    for weight in learning:
        weight.data = weight.data.to(DTYPES[case.dtype] if case.pure else torch.float32)
    if case.checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    base.config.use_cache = not case.checkpointing
    optimiser, inputs = torch.optim.AdamW(learning, lr=1e-4, fused=True), _inputs(case)
    mixed = case.dtype != "fp32" and not case.pure
    facts = {"attention_mask": inputs.attention_mask, "labels": inputs.labels}

    def step() -> None:
        with torch.autocast("cpu", DTYPES[case.dtype]) if mixed else nullcontext():
            loss = base(input_ids=inputs.input_ids, **facts).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    step()
    return _peak(step, base, optimiser)


def _evaluation(case: Case, base: Any) -> int:
    strategy, inputs = _strategy(case, base), _inputs(case)
    strategy.learner.eval()

    @torch.no_grad()
    def evaluate() -> None:
        if case.trainer == "hf":
            facts = {"attention_mask": inputs.attention_mask, "labels": inputs.labels}
            base(input_ids=inputs.input_ids, **facts)
        else:
            strategy.model(inputs, "each")

    return _peak(evaluate, strategy.learner)


def _generation(case: Case, base: Any) -> int:
    base.eval()
    base.config.use_cache = True
    base.generation_config.eos_token_id = None
    inputs = _inputs(case)

    @torch.no_grad()
    def answer() -> None:
        mask = inputs.attention_mask
        base.generate(inputs.input_ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False)

    return _peak(answer, base)


def _resume(case: Case, base: Any) -> int:
    first = _strategy(case, base)
    footprint.step_of(first, _inputs(replace(case, length=32)), 1, 1.0)()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint.Saved(place=PLACE, strategy=first, parts={}).save(folder, 1, keep=1)
        again = _strategy(case, _model(case))
        saved = checkpoint.Saved(place=PLACE, strategy=again, parts={})
        return _peak(lambda: saved.restore(checkpoint.latest(folder)), again.learner)


@cache
def _beside() -> SimpleNamespace:
    """The configurations, which lie beside this file, wherever it is called from."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("memory_cases.py"))))


def _sizes() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = _beside().SIZES
    return found


def cases(*, unseen: bool = False) -> Iterator[Case]:
    """All configurations; or those that the arithmetic was only tried on when it was done."""
    made = _beside()
    yield from (Case(**facts) for facts in (made.UNSEEN if unseen else made.CASES))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--unseen", action="store_true", help="other shapes")
    parser.add_argument("words", nargs="*")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [
        case
        for case in cases(unseen=asked.unseen)
        if all(word in str(case) for word in asked.words)
    ]
    errors = []
    for case in chosen:
        found = look(case)
        errors.append(abs(found.error))
        print(_line(found, markdown=asked.markdown), flush=True)
    mean, worst = sum(errors) / max(1, len(errors)), max(errors, default=0.0)
    print(f"{len(errors)} configurations: mean {mean:.1%}, worst {worst:.1%}")


def _line(found: Found, *, markdown: bool) -> str:
    name = str(found.case) or "method=lora"
    sizes = (f"{size / MB:.1f}" for size in (found.measured, found.predicted))
    cells = (name, *sizes, f"{found.error:+.1%}")
    if markdown:
        return "| " + " | ".join(cells) + " |"
    return f"{cells[1]:>8} {cells[2]:>8} {cells[3]:>7}  {name}"


if __name__ == "__main__":
    main()
