"""An OpenAI-compatible endpoint: transformers' own server around a model as a run left it.

transformers makes and streams the answers. What is ours: prompts get the ids that training had, so
that `<|assistant|>` in a message stays text; one model under one name; a key; and nothing of the
server that reads other models from disk. Traffic stays on the address that it is bound to.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmprep.errors import UsageError
from glmprep.parse import parse
from glmprep.records import RawRow, Rejection

from glmtrain import pretrained
from glmtrain.inference import Inference
from glmtrain.prompt import CHAT, Prompter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LIBRARIES = ("fastapi", "uvicorn", "openai", "pydantic")
KEY_VARIABLE = "GLMTRAIN_API_KEY"
HEALTH = "/health"
PATHS = (HEALTH, "/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/responses")
"""What is answered; the rest of transformers' server would load other models."""
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
LOOPBACK = ["localhost", "127.0.0.1", "::1"]
GRACE = 3
"""Seconds that answers under way get when the server is asked to end."""


def require_libraries() -> None:
    """Raise UsageError where the server's libraries are missing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"serving needs {', '.join(missing)}: pip install 'glm-finetune-suite[serve]'"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_key(host: str, key: str | None) -> None:
    """Raise UsageError for an address that others can reach without a key."""
    if not is_loopback(host) and not key:
        raise UsageError(
            f"--host {host}: others can reach it, so it needs a key; "
            f"pass --key, or set {KEY_VARIABLE}"
        )
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise UsageError("--key: letters, digits and signs, at least one")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises UsageError where that address or port cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--host {host} --port {port}: {reason}; name another") from error


def app(
    made: Inference, *, name: str, key: str | None, template: Path | None, loopback: bool
) -> Any:
    """The ASGI application that answers as `name`."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    fast = pretrained.load(made.prompter.tokenizer, made.prompter.family, template)
    served = _transformers_app(made, _Processor(fast, made.prompter, made.window.max_length), name)
    # A page in a browser here could else ask a server of a name that points to this machine.
    hosts = LOOPBACK if loopback else ["*"]
    return Gate(TrustedHostMiddleware(served, allowed_hosts=hosts), key=key, name=name)


def run(application: Any, listening: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM comes; answers under way get a few seconds to end."""
    import uvicorn

    config = uvicorn.Config(
        application, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE
    )
    # An answer that outlasts the grace is cut off, which is no fault to be told with a traceback.
    logging.getLogger("uvicorn.error").addFilter(_not_cancelled)
    uvicorn.Server(config).run(sockets=[listening])


def _not_cancelled(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError)


class Gate:
    """Lets through what has the key and a path that is offered; tells the model's name itself."""

    def __init__(self, inner: Any, *, key: str | None, name: str) -> None:
        self._inner, self._name = inner, name
        self._expected = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, in the ASGI form."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif scope["type"] != "http" or scope["path"] not in PATHS:
            await _reply(send, 404, _error("not found", "invalid_request_error"))
        elif scope["path"] != HEALTH and not self._has_key(scope["headers"]):
            message = "wrong or missing key: pass it as `Authorization: Bearer KEY`"
            await _reply(send, 401, _error(message, "invalid_api_key"))
        elif scope["path"] == "/v1/models":
            model = {"id": self._name, "object": "model", "created": 0, "owned_by": "glmtrain"}
            await _reply(send, 200, {"object": "list", "data": [model]})
        else:
            await self._inner(scope, receive, send)

    def _has_key(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        if self._expected is None:
            return True
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


class _Greedy:
    """Handlers answer with the likeliest tokens, unless a request names a temperature."""

    most: int

    def _build_generation_config(self, body: dict[str, Any], own: Any, use_cb: bool = False) -> Any:
        from fastapi import HTTPException

        if body.get("generation_config") is not None:
            raise HTTPException(400, "generation_config: not offered, since it would set the stops")
        made = super()._build_generation_config(body, own, use_cb=use_cb)  # type: ignore[misc]
        made.do_sample = bool(body.get("temperature"))
        if not any(body.get(limit) for limit in LIMITS):
            made.max_new_tokens = self.most
        return made


class _Processor:
    """transformers' tokenizer, but with prompts that have the ids of training."""

    def __init__(self, fast: PreTrainedTokenizerFast, prompter: Prompter, longest: int) -> None:
        self._fast, self._prompter, self._longest = fast, prompter, longest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fast, name)

    def __call__(self, *texts: Any, **options: Any) -> Any:
        return self._fast(*texts, **options)

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **_: Any,
    ) -> Any:
        """The prompt for the next answer, as a batch of one; a bad request gets status 400."""
        import torch
        from fastapi import HTTPException
        from transformers import BatchEncoding

        value = {"messages": list(messages), **({"tools": list(tools)} if tools else {})}
        (asked,) = parse([RawRow(value=value, origin=CHAT)])
        if isinstance(asked, Rejection):
            raise HTTPException(400, asked.reason)
        ids = self._prompter(asked.messages, asked.tools)
        if len(ids) >= self._longest:
            raise HTTPException(400, f"{len(ids)} tokens, and the model reads {self._longest}")
        batch = torch.tensor([ids])
        return BatchEncoding({"input_ids": batch, "attention_mask": torch.ones_like(batch)})


def _transformers_app(made: Inference, processor: _Processor, name: str) -> Any:
    """transformers' FastAPI application, with our model as the only one."""
    from fastapi import HTTPException
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.server import build_server
    from transformers.cli.serving.utils import GenerationState

    causal = made.speaker.causal
    _configure(made)

    class OneModel(ModelManager):  # type: ignore[misc]
        """A model that is there already."""

        @staticmethod
        def process_model_name(model_id: str) -> str:
            return model_id

        def load_model_and_processor(self, *_: Any, **__: Any) -> tuple[Any, Any]:
            return causal, processor

    manager = OneModel(force_model=name)
    state = GenerationState()

    def handler(kind: type) -> Any:
        most = made.window.max_new_tokens
        return type(kind.__name__, (_Greedy, kind), {"most": most})(manager, state)

    served = build_server(
        manager,
        handler(ChatCompletionHandler),
        completion_handler=handler(CompletionHandler),
        response_handler=handler(ResponseHandler),
        transcription_handler=None,
        systemone_handler=None,
        generation_state=state,
    )
    served.add_exception_handler(HTTPException, _refusal)
    return served


async def _refusal(_: Any, error: Any) -> Any:
    """What a bad request gets, in the form that OpenAI's clients read."""
    from fastapi.responses import JSONResponse

    value = _error(str(error.detail), "bad_request")
    return JSONResponse(value, status_code=error.status_code)


def _configure(made: Inference) -> None:
    """Set how the model answers where a request leaves it open: greedily, to the stop contract."""
    from transformers import GenerationConfig

    causal, tokens = made.speaker.causal, made.speaker.vocabulary
    stops = sorted(made.prompter.stops)
    causal.generation_config = GenerationConfig(
        eos_token_id=stops,
        pad_token_id=stops[0],
        do_sample=False,
        use_cache=True,
        max_new_tokens=made.window.max_new_tokens,
        suppress_tokens=list(range(tokens, causal.config.vocab_size)) or None,
    )


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


async def _reply(send: Any, status: int, value: Mapping[str, Any]) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
