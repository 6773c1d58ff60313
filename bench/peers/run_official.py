"""What GLM-4's own fine-tuning script does with its data, written anew.

    python run_official.py FORMS OUT LENGTH PROCESSES

zai-org/GLM-4 (formerly THUDM/GLM-4), finetune/finetune.py at commit 9c0e4215, with
`combine: false`, which trains all answers. Each message is rendered and tokenized by itself through
the chat template, and its first two tokens (the prefix) are cut off; labels are the ids where the
token before belongs to an answer; `<|user|>` is put behind; both are cut on the right. The rows are
mapped in batches by worker processes of `datasets`, and left as the Arrow files of its cache, which
is where the script trains from. There is no packing, and lists are Python's throughout, as there.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from datasets import load_dataset
from transformers import AutoTokenizer

PREFIX = (151331, 151333)
USER = 151336
IGNORED = -100
ASIDE = ("system", "user", "observation")


def process_batch(batch: dict[str, Any], tokenizer: Any, most: int) -> dict[str, Any]:
    """Ids and labels of a batch of conversations."""
    made: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for conversation in batch["messages"]:
        ids, answered = list(PREFIX), [False] * len(PREFIX)
        for message in conversation:
            rendered = tokenizer.apply_chat_template([message], tokenize=True, return_dict=False)
            rest = rendered[len(PREFIX) :]
            ids += rest
            answered += [message["role"] not in ASIDE] * len(rest)
        ids.append(USER)
        moved = [False, *answered]
        labels = [number if said else IGNORED for number, said in zip(ids, moved, strict=True)]
        made["input_ids"].append(ids[:most])
        made["labels"].append(labels[:most])
    torch.cuda.empty_cache()
    return made


def main(forms: str, out: str, length: str, processes: str) -> None:
    """Process the rows; they stay in the cache of `datasets`."""
    tokenizer = AutoTokenizer.from_pretrained(f"{forms}/model")
    rows = load_dataset(
        f"{forms}/glm4", data_files={"train": "train.jsonl"}, num_proc=int(processes)
    )["train"]
    work = functools.partial(process_batch, tokenizer=tokenizer, most=int(length))
    made = rows.map(work, batched=True, remove_columns=rows.column_names, num_proc=int(processes))
    with open(f"{out}/files.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{entry['filename']}\n" for entry in made.cache_files)


if __name__ == "__main__":
    main(*sys.argv[1:])
