"""Seconds and memory of one loss with its gradients, over the GLM-4 vocabulary on a CPU.

    python bench/loss.py [--tokens 2048] [--width 256] [--threads 2]

One third of the tokens is labelled, in float32. Each way runs once in a process of its own, after a
small problem that loads what is loaded lazily. CPU seconds are those of all threads, which other
work on the machine changes less. Extra memory is the highest resident memory during the loss and
its backward pass, less what was resident before: it holds the gradients that are kept.

naive          all logits, then torch's cross-entropy, as transformers' models do
checkpointed   chunks of 512 labelled tokens, whose logits are made again in the backward pass
ours           glmtrain.loss, the output layer learns
... frozen     it does not learn, as with adapters elsewhere
... LoRA       an adapter of rank 16 on it
... rows       four of its rows learn, as for new special tokens
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch
from glmtrain.heads import CHUNK
from glmtrain.loss import IGNORED, Objective, summed_loss
from glmtrain.model import quiet_libraries
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

VOCABULARY = 151_552
LABELLED = 1 / 3
WAYS = ("naive", "checkpointed", "ours", "ours, frozen", "ours, LoRA", "ours, rows")


def naive(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    logits = head(hidden).float()[:, :-1].flatten(0, 1)
    return cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def checkpointed(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    labelled = labels[:, 1:] != IGNORED
    rows, targets = hidden[:, :-1][labelled], labels[:, 1:][labelled]

    def part(rows: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(head(rows).float(), targets, reduction="sum")

    chunks = zip(torch.split(rows, CHUNK), torch.split(targets, CHUNK), strict=True)
    parts = [checkpoint(part, *chunk, use_reentrant=False) for chunk in chunks]
    return torch.stack(parts).sum()


def ours(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    return summed_loss(hidden, labels, head, Objective(dtype=torch.float32))


def output_layer(way: str, width: int, vocabulary: int) -> nn.Module:
    head = nn.Linear(width, vocabulary, bias=False)
    if "," not in way:
        return head
    holder = nn.ModuleDict({"lm_head": head.requires_grad_(False)})
    if way == "ours, frozen":
        return head
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model

    lora = LoraConfig(r=16, target_modules=["lm_head"])
    rows = TrainableTokensConfig(target_modules=["lm_head"], token_indices=[0, 1, 2, 3])
    adapted = get_peft_model(holder, lora if way == "ours, LoRA" else rows)
    layer: nn.Module = adapted.base_model.model["lm_head"]
    return layer


def problem(tokens: int, width: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(1, tokens, width, requires_grad=True)
    labels = torch.randint(0, vocabulary, (1, tokens))
    labels[torch.rand(1, tokens) > LABELLED] = IGNORED
    return hidden, labels


def step(way: str, hidden: Tensor, labels: Tensor, head: nn.Module) -> float:
    """One forward and backward pass; returns the mean loss."""
    named: dict[str, Callable[..., Tensor]] = {"naive": naive, "checkpointed": checkpointed}
    labelled = int((labels[:, 1:] != IGNORED).sum())
    loss = named.get(way, ours)(hidden, labels, head) / labelled
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss)


def measure(way: str, tokens: int, width: int) -> dict[str, float]:
    """Seconds, bytes and the mean loss of one pass in this process."""
    with quiet_libraries():
        step(way, *problem(16, 8, 50), output_layer(way, 8, 50))
        hidden, labels = problem(tokens, width, VOCABULARY)
        head = output_layer(way, width, VOCABULARY)
    before = psutil.Process().memory_info().rss
    began, used = time.perf_counter(), time.process_time()
    loss = step(way, hidden, labels, head)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "cpu": cpu, "extra": peak - before, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help="measure one in this process, as JSON")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.way:
        print(json.dumps(measure(given.way, given.tokens, given.width)))
        return
    found = {way: measured(way, given) for way in WAYS}
    print(f"{given.tokens:,} tokens x {VOCABULARY:,}, width {given.width}, one third labelled\n")
    print("| Loss | Seconds | CPU seconds | to naive | Extra memory, GB | to naive | Mean loss |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way, of in found.items():
        cpu, extra = (f"{of[name] / found['naive'][name]:.2f}" for name in ("cpu", "extra"))
        times = f"{of['seconds']:.1f}", f"{of['cpu']:.1f}", cpu
        cells = way, *times, f"{of['extra'] / 1e9:.2f}", extra, f"{of['loss']:.5f}"
        print(f"| {' | '.join(cells)} |")


def measured(way: str, given: argparse.Namespace) -> dict[str, float]:
    """What `measure` finds in a process of its own."""
    options = {"--way": way, "--tokens": given.tokens, "--width": given.width}
    options["--threads"] = given.threads
    words = [str(word) for pair in options.items() for word in pair]
    told = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True)
    found: dict[str, float] = json.loads(told.stdout)
    return found


if __name__ == "__main__":
    main()
