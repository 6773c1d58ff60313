"""One run of Hugging Face's Trainer or of TRL's SFTTrainer for bench/train.py.

    python train_peers.py SPEC.json RESULT.json

Runs in the environment that bench/peers.sh made for TRL. SPEC.json is written by bench/train.py;
its `contender` is a key of CONTENDERS below. All get the ids and labels that glmprep made, LoRA by
peft on all linear layers, and the same settings; what they do with rows and losses is their own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from peft import LoraConfig, get_peft_model
from stopwatch import Stopwatch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

IGNORED = -100
PAD = "<|endoftext|>"
COUNTED = ("attention_mask", "position_ids", "labels")
Spec = dict[str, Any]


class Laps(TrainerCallback):
    """Stops the time of each step."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step is done, its gradients forgotten."""
        self.watch.lap()


class Counting:
    """Beside a Trainer: keeps what was in each batch and its loss, to be counted at the end."""

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        """One batch."""
        seen = {name: inputs[name] for name in COUNTED if name in inputs}
        loss = super().training_step(model, inputs, *rest, **more)  # type: ignore[misc]
        self.__dict__.setdefault("batches", []).append(seen)
        self.__dict__.setdefault("losses", []).append(loss)
        return loss


class CountingTrainer(Counting, Trainer):
    """Hugging Face's."""


def tokenizer(pad_id: int) -> PreTrainedTokenizerFast:
    """One that can only pad: all rows are ids already."""
    words = Tokenizer(models.WordLevel({PAD: pad_id}, unk_token=PAD))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=PAD, eos_token=PAD)


def base(spec: Spec) -> Any:
    """The model, without a cache of keys and values."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[spec["dtype"]]
    model = AutoModelForCausalLM.from_pretrained(
        spec["model"], dtype=dtype, attn_implementation=spec["attention"]
    )
    model.config.use_cache = False
    return model


def lora(spec: Spec) -> LoraConfig:
    """Adapters on all linear layers but the output."""
    return LoraConfig(
        r=spec["rank"],
        lora_alpha=spec["alpha"],
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def arguments(spec: Spec, batch: int) -> dict[str, Any]:
    """What all runs share; nothing is logged or saved."""
    return {
        "output_dir": spec["output"],
        "max_steps": spec["steps"],
        "per_device_train_batch_size": batch,
        "learning_rate": spec["rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": spec["dtype"] == "bf16",
        "gradient_checkpointing": spec["checkpointing"],
        "use_cpu": not torch.cuda.is_available(),
        "seed": spec["seed"],
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def rows(spec: Spec) -> list[dict[str, Any]]:
    """Those of the Parquet file."""
    found: list[dict[str, Any]] = pq.read_table(spec["data"]).to_pylist()
    return found


def trainer(spec: Spec, laps: Laps, strategy: str, collate: Any, batch: int) -> Any:
    """Hugging Face's, with a sampling strategy of its own."""
    shared = arguments(spec, batch)
    return CountingTrainer(
        model=get_peft_model(base(spec), lora(spec)),
        args=TrainingArguments(train_sampling_strategy=strategy, **shared),
        train_dataset=rows(spec),
        data_collator=collate,
        callbacks=[laps],
    )


def padded(spec: Spec, laps: Laps, strategy: str = "random") -> Any:
    """A number of rows a batch, padded to the longest."""
    collate = DataCollatorForSeq2Seq(tokenizer(spec["pad_id"]), label_pad_token_id=IGNORED)
    return trainer(spec, laps, strategy, collate, spec["batch"])


def by_length(spec: Spec, laps: Laps) -> Any:
    """The same, rows of like length together."""
    return padded(spec, laps, "group_by_length")


def our_rows(spec: Spec, laps: Laps) -> Any:
    """Rows that glmprep packed, one a batch, in glmtrain's order."""

    def collate(batch: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([row[name] for row in batch]) for name in batch[0]}

    return trainer(spec, laps, "sequential", collate, 1)


def trl(spec: Spec, laps: Laps, *, packing: bool = False) -> Any:
    """TRL's, with its own padding, or its own packing."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class CountingSFTTrainer(Counting, SFTTrainer):
        pass

    shared = arguments(spec, 1 if packing else spec["batch"])
    return CountingSFTTrainer(
        model=base(spec),
        args=SFTConfig(max_length=spec["tokens"], packing=packing, **shared),
        train_dataset=Dataset.from_list(rows(spec)),
        processing_class=tokenizer(spec["pad_id"]),
        peft_config=lora(spec),
        callbacks=[laps],
    )


def trl_packing(spec: Spec, laps: Laps) -> Any:
    """TRL's, rows packed by best fit decreasing."""
    return trl(spec, laps, packing=True)


CONTENDERS: dict[str, Callable[[Spec, Laps], Any]] = {
    "padded": padded,
    "by-length": by_length,
    "our-rows": our_rows,
    "trl": trl,
    "trl-packing": trl_packing,
}


def counts(batch: dict[str, torch.Tensor]) -> tuple[int, int, int, int]:
    """Real tokens, labels, computed tokens, and the sum of squared lengths of the segments."""
    labels = batch["labels"]
    if "attention_mask" in batch:
        lengths = batch["attention_mask"].sum(1)
    else:
        (starts,) = (batch["position_ids"].flatten() == 0).nonzero(as_tuple=True)
        lengths = torch.diff(starts, append=starts.new_tensor([labels.numel()]))
    return (
        int(lengths.sum()),
        int((labels != IGNORED).sum()),
        labels.numel(),
        int((lengths**2).sum()),
    )


def main(spec_file: str, result_file: str) -> None:
    """Train, and write what the steps took."""
    spec = json.loads(Path(spec_file).read_bytes())
    laps = Laps()
    made = CONTENDERS[spec["contender"]](spec, laps)
    made.train()
    names = ("tokens", "supervised", "computed", "squares")
    columns = zip(*map(counts, made.batches), strict=True)
    result = {
        **laps.watch.result(),
        "first_loss": float(made.losses[0]),
        **dict(zip(names, map(list, columns), strict=True)),
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
