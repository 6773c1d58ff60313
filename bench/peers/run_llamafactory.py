"""LLaMA-Factory's preprocessing, from its ShareGPT form to the tokenized data set that it saves.

    python run_llamafactory.py FORMS OUT LENGTH PROCESSES

`get_dataset` is what `llamafactory-cli train` calls: it reads, converts, tokenizes under the
template `glm4`, packs greedily within each batch of 1,000 rows, and saves to `tokenized_path`.
No model is loaded. `torchaudio` is imported there whatever the data, and the published builds need
a CUDA library; an empty module takes its place, since no row has sound.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


def main(forms: str, out: str, length: str, processes: str) -> None:
    """Preprocess and save."""
    silent = sys.modules["torchaudio"] = ModuleType("torchaudio")
    silent.__spec__ = ModuleSpec("torchaudio", None)
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    settings = {
        "model_name_or_path": f"{forms}/model",
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "template": "glm4",
        "dataset_dir": forms,
        "dataset": "corpus",
        "cutoff_len": int(length),
        "packing": True,
        "preprocessing_num_workers": int(processes),
        "overwrite_cache": True,
        "tokenized_path": f"{out}/tokenized",
        "output_dir": f"{out}/output",
        "use_cpu": True,
        "report_to": "none",
    }
    model_args, data_args, training_args, *_ = get_train_args(settings)
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    get_dataset(template, model_args, data_args, training_args, stage="sft", **module)


if __name__ == "__main__":
    main(*sys.argv[1:])
