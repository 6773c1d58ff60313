"""The corpus in the forms that the other trainers read, made before anything is timed.

    python bench/peers/forms.py CORPUS.jsonl MODEL FOLDER

FOLDER gets
- `sharegpt.jsonl` and `dataset_info.json` for LLaMA-Factory. Its own reader for OpenAI's form
  would have Arrow unite the arguments of all tools into one struct, so calls and tools are text, as
  in its demos. Its rows must alternate and end on an answer, so neighbours of one role are joined
  and what follows the last answer is left off; text beside a call, and all but the first of several
  calls at once, has no place and goes.
- `glm4/train.jsonl` for TRL and the official script: the form of GLM-4's own fine-tuning data, with
  tools rendered into a system message, calls as `metadata` and text, and results as observations.
  Empty messages and conversations without an answer are left out, since TRL stops at them.
- `model/`: the tokenizer and chat template of GLM-4-9B-chat, from the folder MODEL, as transformers
  loads them, and the template with the marks that TRL wants.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glmprep.families.glm4 import LINE, tools_text

Row = dict[str, Any]
TAGS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
ODD, EVEN = ("human", "observation"), ("gpt", "function_call")
BODY = "{{ item['metadata'] }}\n{{ item['content'] }}"
MARKED = (
    f"{{% if item['role'] == 'assistant' %}}{{% generation %}}{BODY}{{% endgeneration %}}"
    f"{{% else %}}{BODY}{{% endif %}}"
)
"""The body of a turn, the assistant's marked as TRL wants it; the text stays the same."""


def main() -> None:
    """Write everything into the folder."""
    corpus, model, folder = map(Path, sys.argv[1:])
    (folder / "glm4").mkdir(parents=True, exist_ok=True)
    tokenizer(model, folder / "model")
    (folder / "dataset_info.json").write_text(json.dumps(INFO))
    with (
        corpus.open("rb") as rows,
        (folder / "sharegpt.jsonl").open("w", encoding="utf-8") as shared,
        (folder / "glm4/train.jsonl").open("w", encoding="utf-8") as own,
    ):
        for row in map(json.loads, rows):
            for file, made in ((shared, sharegpt(row)), (own, glm4(row))):
                if made is not None:
                    file.write(json.dumps(made, ensure_ascii=False) + "\n")


INFO = {
    "corpus": {
        "file_name": "sharegpt.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "tools": "tools", "system": "system"},
    }
}


def sharegpt(row: Row) -> Row | None:
    """A row for LLaMA-Factory; None where nothing is left of it."""
    messages = row["messages"]
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    turns: list[Row] = []
    for tag, text in (said for m in messages[bool(system) :] for said in _said(m)):
        wanted = EVEN if len(turns) % 2 else ODD
        if tag in wanted:
            turns.append({"from": tag, "value": text})
        elif not turns:
            continue
        elif turns[-1]["from"] == tag and tag != "function_call":
            turns[-1]["value"] += "\n" + text
        elif tag == "function_call":
            turns[-1] = {"from": tag, "value": text}
    turns = turns[: len(turns) // 2 * 2]
    tools = json.dumps(row["tools"], ensure_ascii=False) if row.get("tools") else ""
    return {"conversations": turns, "system": system, "tools": tools} if turns else None


def _said(message: Row) -> Iterator[tuple[str, str]]:
    """What a message says, as tagged turns."""
    calls = message.get("tool_calls")
    if not calls:
        yield TAGS[message["role"]], message["content"]
        return
    function = calls[0]["function"]
    call = {"name": function["name"], "arguments": json.loads(function["arguments"])}
    yield "function_call", json.dumps(call, ensure_ascii=False)


def glm4(row: Row) -> Row | None:
    """A row of GLM-4's own form; None where there is no answer."""
    messages: list[Row] = []
    if row.get("tools"):
        messages.append(_turn("system", tools_text(row["tools"]).removeprefix(LINE)))
    for message in row["messages"]:
        role = "observation" if message["role"] == "tool" else message["role"]
        if message["content"]:
            messages.append(_turn(role, message["content"]))
        for call in message.get("tool_calls", ()):
            function = call["function"]
            messages.append(_turn(role, function["arguments"], function["name"]))
    answered = any(message["role"] == "assistant" for message in messages)
    return {"messages": messages} if answered else None


def _turn(role: str, content: str, metadata: str = "") -> Row:
    return {"role": role, "metadata": metadata, "content": content}


def tokenizer(model: Path, folder: Path) -> None:
    """The GLM-4 tokenizer as a folder that transformers loads."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = (model / "tokenizer.json.gz").read_bytes()
    (folder / "tokenizer.json").write_bytes(gzip.decompress(packed))
    config = (model / "tokenizer_config.json").read_text("utf-8")
    (folder / "tokenizer_config.json").write_text(config, "utf-8")
    marked = json.loads(config)["chat_template"].replace(BODY, MARKED)
    (folder / "training_template.jinja").write_text(marked, "utf-8")
    about = {"model_type": "glm", "vocab_size": 151552, "transformers_version": "5.0.0"}
    (folder / "config.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
