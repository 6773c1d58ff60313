"""The lower bound: nothing but the exact tokenization of the corpus's texts.

    python run_tokens.py fastokens|tokenizers CORPUS

Texts are those that the template puts behind role tokens: a message's, a call's, the list of tools.
Ids are made and thrown away. Prints the seconds of loading, of reading, and of tokenization alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

import orjson

AT_ONCE = 8192
Count = Callable[[list[str]], int]


def fastokens(config: str) -> Count:
    """The tokens of a batch, by fastokens."""
    from fastokens._native import Tokenizer

    encoder = Tokenizer.from_json_str(config)
    return lambda texts: len(encoder.encode_batch_flat(texts)[0]) // 4


def tokenizers(config: str) -> Count:
    """The tokens of a batch, by tokenizers."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_str(config)
    return lambda texts: sum(
        len(found) for found in encoder.encode_batch_fast(texts, add_special_tokens=False)
    )


ENGINES: dict[str, Callable[[str], Count]] = {"fastokens": fastokens, "tokenizers": tokenizers}


def plain() -> str:
    """The GLM-4 vocabulary without added tokens: every text is text."""
    from glmprep.encoders import embedded

    return embedded.bare()


def texts(corpus: str) -> Iterator[str]:
    """Every text that is tokenized."""
    from glmprep.families.glm4 import tools_text

    with open(corpus, "rb") as file:
        for row in map(orjson.loads, file):
            if row.get("tools"):
                yield tools_text(row["tools"])
            for message in row["messages"]:
                if message["content"]:
                    yield "\n" + message["content"]
                for call in message.get("tool_calls", ()):
                    yield f"{call['function']['name']}\n{call['function']['arguments']}"


def main(engine: str, corpus: str) -> None:
    """Tokenize and print what was measured."""
    begin = time.perf_counter()
    count = ENGINES[engine](plain())
    loaded = time.perf_counter()
    found = list(texts(corpus))
    read = time.perf_counter()
    tokens = sum(count(found[at : at + AT_ONCE]) for at in range(0, len(found), AT_ONCE))
    seconds = time.perf_counter() - read
    sums = {"loading": loaded - begin, "reading": read - loaded, "encoding": seconds}
    print(json.dumps({**sums, "texts": len(found), "tokens": tokens}))


if __name__ == "__main__":
    main(*sys.argv[1:])
