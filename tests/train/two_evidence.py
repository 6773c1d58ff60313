"""What each of two processes does for the test of evidence; see `test_evidence_of_two`.

Run as a script, with the environment that torchrun gives: one run for each strategy named, all with
a learning rate that makes the second step's loss NaN.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from glmprep.errors import SuiteError
from glmtrain import config, devices, settings
from glmtrain.progress import Silent
from glmtrain.run import Mode, train


def main(model_folder, shards, output, names):
    torch.set_num_threads(1)
    with devices.join(settings.Devices(bucket_mb=1)) as joined:
        for name in names:
            chosen = config.build(
                [
                    (
                        "test",
                        {
                            "model": {"path": str(model_folder), "method": "full"},
                            "data": {"shards": [str(shards)]},
                            "optimiser": {"learning_rate": 1e30},
                            "schedule": {"decay": "constant", "warmup": 0.0},
                            "precision": {"dtype": "fp32"},
                            "devices": {"strategy": name},
                            "run": {
                                "output": str(output / name),
                                "max_steps": 3,
                                "sample_tokens": 16,
                            },
                        },
                    )
                ]
            )
            place = replace(joined, strategy=name)
            try:
                train(chosen, place, given=(), shown=Silent(), mode=Mode(force=True))
            except SuiteError as error:
                (output / f"{name}.{place.rank}.txt").write_text(str(error))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), sys.argv[4:])
