"""A person's own chat template: what the model would generate, found by rendering prefixes.

An answer begins where the rendering of the turns before it, with the generation prompt, ends. It
goes on to the token with which the template ends an answer (`<|im_end|>`), or, where there is none,
to the control token of the next turn, as in GLM. This is sound only if a template never changes
what it wrote earlier; small conversations (see `manner`) show that when it is loaded.

Text on both sides of the end of a generation prompt is encoded apart, as it is in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from glmprep.errors import UsageError
from glmprep.families import probes
from glmprep.families.controls import Controls
from glmprep.families.manner import learn
from glmprep.families.piece import NO_TOKEN, Piece, Reasoning, Thinking
from glmprep.families.prefixes import Unstable, Writer
from glmprep.families.regions import lay, regions
from glmprep.families.rendering import Renderer, Unrenderable
from glmprep.families.thought import last_round, reasoned_ends, rows_of
from glmprep.records import Conversation, Message
from glmprep.tokenizer import Tokenizer

PADS = ("pad_token", "unk_token", "bos_token", "eos_token")


class Template:
    """A jinja chat template as a family; `where` names it in messages.

    Raises UsageError for one that changes earlier turns, that has no token at which the model could
    stop, or that does not go with the tokenizer.
    """

    prefix: tuple[int, ...] = ()
    note = "the template is not one of those that are built in"

    def __init__(
        self, renderer: Renderer, tokenizer: Tokenizer, *, where: str, thinking: Thinking = "on"
    ) -> None:
        self.fingerprint = hashlib.sha256(renderer.source.encode()).hexdigest()
        self.name = f"template-{self.fingerprint[:12]}"
        self._controls = controls = Controls(tokenizer)
        self._thinking = thinking
        try:
            probe = Writer(renderer=renderer, controls=controls, thinking=thinking)
            self._manner = learn(probe)
            reasons = self._manner.reasons
            self._write = Writer(
                renderer=renderer, controls=controls, thinking=thinking, reasons=reasons
            )
            self._require_identical(tokenizer)
        except Unrenderable as error:
            raise UsageError(f"{where}: {error}; name a built-in --family instead") from error
        self.reasoning: Reasoning = "optional" if reasons else "untrained"
        self.stops = frozenset(controls.ids[text] for text in self._manner.stops)
        self.pad_id = self._pad(renderer)

    def rows(self, conversation: Conversation) -> Sequence[Conversation]:
        """The conversation, or a row for each round of reasoning where the template drops earlier.

        Raises Unrenderable where the template does, or where something said is not in its text.
        """
        rows: Sequence[Conversation] = (conversation,)
        if self._manner.rounds:
            normal = self._write.normal(conversation)
            ends = reasoned_ends(normal.messages)
            rows = rows_of(normal, ends, last_round, apart=self._thinking == "auto")
        for row in rows:
            self.pieces(row)
        return rows

    def pieces(self, conversation: Conversation) -> list[Piece]:
        """The conversation in order, without the closing stop; raises Unrenderable."""
        rendered = self._write(conversation)
        rendered.require_all()
        return lay(rendered, regions(rendered, self._manner, self._controls), self._controls)

    def closing(self, conversation: Conversation) -> int:
        """The stop token that the template leaves out at the end, NO_TOKEN for none."""
        return self.stop_after(conversation.messages[-1])

    def stop_after(self, message: Message) -> int:
        """The token that ends this turn where the template does not write it, else NO_TOKEN."""
        if message.role != "assistant" or not message.ends:
            return NO_TOKEN
        text = self._manner.closing[bool(message.tool_calls)]
        return self._controls.ids[text] if text else NO_TOKEN

    def _require_identical(self, tokenizer: Tokenizer) -> None:
        """Raise Unrenderable where pieces are encoded in another way than the text as a whole.

        So it is with a vocabulary that puts a space before the first word of a text, or that joins
        the end of the prompt and the start of an answer in one token.
        """
        for probe in (probes.PLAIN, probes.SYSTEM, probes.TOOLS):
            try:
                pieces = self.pieces(probe)
                whole = self._write(probe).whole
            except Unstable:
                raise
            except Unrenderable:
                continue
            ids: list[int] = []
            for piece in pieces:
                ids += [] if piece.header == NO_TOKEN else [piece.header]
                ids += tokenizer.encode(piece.text)
            if ids != tokenizer.encode_marked(whole):
                raise Unrenderable(
                    "its tokenizer encodes the start of an answer in another way alone"
                )

    def _pad(self, renderer: Renderer) -> int:
        """A token to pad with that is never trained."""
        named = (renderer.variables.get(name, "") for name in PADS)
        ids = self._controls.ids
        candidates = [ids[text] for text in named if text in ids] + sorted(ids.values())
        return next(token for token in candidates if token not in self.stops)
