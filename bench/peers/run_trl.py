"""TRL's preparation of a data set with packing, saved to disk.

    python run_trl.py FORMS OUT LENGTH PROCESSES

It is what `SFTTrainer` does with its data before training, with losses on answers only and its
default packing (best fit decreasing within each batch of 1,000 rows; what is longer is cut). The
trainer is not initialised, so that neither a model nor what belongs to one is loaded: this is in
TRL's favour.
"""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main(forms: str, out: str, length: str, processes: str) -> None:
    """Prepare and save."""
    tokenizer = AutoTokenizer.from_pretrained(f"{forms}/model")
    tokenizer.chat_template = Path(forms, "model/training_template.jinja").read_text("utf-8")
    config = SFTConfig(
        output_dir=f"{out}/output",
        max_length=int(length),
        packing=True,
        assistant_only_loss=True,
        dataset_num_proc=int(processes),
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    rows = load_dataset("json", data_files=f"{forms}/glm4/train.jsonl", split="train")
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer._tokenizer = tokenizer
    trainer.chat_template = None
    trainer.completion_only_loss = False
    made = trainer._prepare_dataset(rows, tokenizer, config, True, None, "train")
    made.save_to_disk(f"{out}/tokenized")


if __name__ == "__main__":
    main(*sys.argv[1:])
