"""Why a row is no conversation, and what of it is not read.

A rule that rejects takes a value and returns a reason, or None when the value is sound. Those on
what is not read take names of fields and return the ones that the rule is about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from glmprep.findings import Rule, Severity, rule

SHOWN = 6
MARKS = ("train", "training", "trainable", "loss", "loss_weight", "loss_scale")
"""What other trainers call the mark that is `weight` here (axolotl, ChatGLM3, ms-swift,
LLaMA-Factory); 1 or true trains the message, 0 or false does not."""
TRAINING_FIELDS = (
    *("train_detail", "training_detail", "prefix", "partial", "loss_mask", "mask", "masked"),
    *("token_weights", "weight", "sample_weight", "loss_weight", "train", "reward"),
)
"""Fields that mean something to training elsewhere, and nothing here where they stand."""
ANSWERS = ("output", "response", "completion", "answer")
LISTS = ("messages", "conversations", "conversation", "traj")
"""Fields that hold an answer, or a whole conversation; the first one is read."""


class Malformed(Exception):
    """A row that has no conversation in it; carries the rule that says so."""

    def __init__(self, rule: Rule[Any], reason: str, place: int | None = None) -> None:
        super().__init__(reason if place is None else f"message {place}: {reason}")
        self.rule_id = rule.id


def require(rule: Rule[Any], value: Any, place: int | None = None) -> None:
    """Raise Malformed where a rule has a reason against a value."""
    if (reason := rule(value)) is not None:
        raise Malformed(rule, reason, place)


@rule("DF010", Severity.ERROR)
def unknown_schema(value: Any) -> str | None:
    """A row has no known form.

    Evidence: rows in which no conversation was found: {count}.
    Why: without questions and answers there is nothing to train on.
    Fix: write {{"messages": [{{"role": "user", "content": "…"}}, {{"role": "assistant", …}}]}}, or
    another of the forms in docs/schemas.md.
    """
    if not isinstance(value, dict):
        return f"a row must be an object, not {kind(value)}"
    return f"no known form; its fields: {listed(value)}"


@rule("DF011", Severity.ERROR)
def unknown_role(role: Any, names: Mapping[str, str]) -> str | None:
    """A role is not known.

    Evidence: rows with a message whose role is not known: {count}.
    Why: the chat template has no place for it, and a guess could train on the wrong side.
    Fix: name what it stands for, for example --role client=user --role counselor=assistant.
    """
    if isinstance(role, str) and role in names:
        return None
    return f"unknown role {str(role)[:40]!r}"


@rule("DF012", Severity.ERROR)
def content_not_text(content: Any) -> str | None:
    """A message's content is not text.

    Evidence: rows with a message whose content is neither text, null nor text parts: {count}.
    Why: images, numbers and nested objects have no form in a text template; guessing one would
    train on something that the model never sees in use.
    Fix: write the content as a string.
    """
    if content is None or isinstance(content, str):
        return None
    if isinstance(content, list) and all(
        isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str)
        for p in content
    ):
        return None
    return f"content is {kind(content)}, not text"


@rule("DF013", Severity.ERROR)
def malformed_tools(value: Any) -> str | None:
    """Tools or tool calls are malformed.

    Evidence: rows whose tools or tool calls do not follow the function-calling form: {count}.
    Why: a call without a name or arguments cannot be rendered as the model would write it.
    Fix: write calls as {{"function": {{"name": "…", "arguments": {{…}}}}}} and tools as a list of
    such definitions.
    """
    function = value.get("function", value) if isinstance(value, dict) else value
    if isinstance(function, dict) and isinstance(function.get("name"), str) and function["name"]:
        return None
    return "a tool or tool call without a name"


@rule("DF014", Severity.ERROR)
def malformed_marks(message: Mapping[str, Any]) -> str | None:
    """A message's `weight` or `part` is malformed.

    Evidence: rows with a `weight` other than 0 or 1, or a `part` other than [i, n]: {count}.
    Why: these marks decide which tokens are trained, so a wrong one cannot be passed over.
    Fix: write "weight": 0 or 1; leave "part" to glmprep segment.
    """
    if message.get("weight") not in (None, 0, 1):
        return f"weight {str(message['weight'])[:40]} is neither 0 nor 1"
    part = message.get("part")
    if part is None:
        return None
    sound = (
        isinstance(part, list)
        and len(part) == 2
        and all(type(number) is int for number in part)
        and 0 <= part[0] < part[1]
    )
    return None if sound else f"part {str(part)[:40]} is not [i, n] with 0 <= i < n"


@rule("DF015", Severity.ERROR)
def preference_row(fields: Collection[str]) -> str | None:
    """A row compares answers.

    Evidence: rows of preference data (DPO, KTO), which hold a better and a worse answer or a
    verdict on one: {count}.
    Why: fine-tuning trains one answer; taking both would train the bad ones too.
    Fix: pass --take chosen to read the better answers alone, or give the set to a trainer for
    preferences.
    """
    return f"preference data: {', '.join(fields)}"


@rule("DF017", Severity.ERROR)
def pretraining_text(value: Any) -> str | None:
    """A row is running text.

    Evidence: rows of text without a question or an answer: {count}.
    Why: a chat model learns from such text neither to answer nor to stop; it is for pretraining.
    Fix: make questions and answers of it; rows that were rendered by a chat template have to be
    taken from before that.
    """
    return "text alone, without a question or an answer" if isinstance(value, str) else None


@rule("DF018", Severity.ERROR)
def multimodal_row(fields: Collection[str]) -> str | None:
    """A row has pictures, sound or video.

    Evidence: rows with pictures, sound or video: {count}.
    Why: these models read text; the words about a picture without the picture teach the model to
    make things up.
    Fix: leave these rows out, or train a model that sees.
    """
    return f"not text alone: {', '.join(fields)}" if fields else None


@rule("DF019", Severity.ERROR)
def contradiction(values: Mapping[str, Any]) -> str | None:
    """Two fields contradict each other.

    Evidence: rows with two fields that mean the same and say different things: {count}.
    Why: one of them is wrong, and a guess could train the wrong text or the wrong turn.
    Fix: keep the right one of the two.
    """
    values = {name: value for name, value in values.items() if value not in (None, "", [])}
    first, *others = values.values() if values else (None,)
    if all(other == first for other in others):
        return None
    return f"{' and '.join(map(repr, values))} contradict each other"


@rule("DF020", Severity.ERROR)
def malformed_training_mark(message: Mapping[str, Any]) -> str | None:
    """A mark of what is trained is neither yes nor no.

    Evidence: rows with a message whose `train`, `loss` or `loss_weight` is neither true, false, 1
    nor 0: {count}.
    Why: a turn is trained or it is not; a share of its loss is not supported, and ignoring the
    mark would train what was to be left out.
    Fix: write true or false, or leave the field out.
    """
    for name in MARKS:
        if message.get(name) not in (None, 0, 1):
            return f"{name!r} is {str(message[name])[:40]}, neither 0 nor 1"
    return None


@rule("DF021", Severity.INFO)
def rejected_answer(label: bool) -> str | None:
    """A row holds an answer that was judged bad.

    Evidence: rows whose answer was judged bad (KTO): {count}.
    Why: --take chosen reads the good answers; this one would teach what it is a warning of.
    Fix: nothing is to be done; the row is left out.
    """
    return None if label else "its answer is judged bad"


@rule("DF022", Severity.WARNING)
def unheeded_training_field(fields: Collection[str]) -> list[str]:
    """Fields about training are not heeded.

    Evidence: rows with fields that other trainers heed and this suite does not: {rows} ({fields}).
    Why: whoever wrote them meant to change what is trained; here the row is trained as if they
    were not there.
    Fix: express it as "weight": 0 on the assistant's messages that are not to be trained, or
    leave such rows out.
    """
    return [name for name in fields if name in TRAINING_FIELDS]


@rule("DF023", Severity.INFO)
def unread_field(fields: Collection[str]) -> list[str]:
    """Fields are not read.

    Evidence: rows with fields that are not read: {rows} ({fields}).
    Why: notes on where a row comes from do no harm; a prompt or an answer under a name that is not
    known would be missing.
    Fix: rename what belongs to the conversation; docs/schemas.md lists the names.
    """
    return [name for name in fields if not (name in TRAINING_FIELDS or name in (*ANSWERS, *LISTS))]


@rule("DF024", Severity.WARNING)
def second_conversation(fields: Collection[str]) -> list[str]:
    """A row holds a second conversation or answer.

    Evidence: rows with a conversation or an answer beside the one that is read: {rows} ({fields}).
    Why: only one can be trained, and the order in which forms are tried decides which.
    Fix: split such rows, or remove the copy.
    """
    return [name for name in fields if name in (*ANSWERS, *LISTS)]


@rule("DF026", Severity.ERROR)
def misplaced_reasoning(role: str) -> str | None:
    """Reasoning stands at a turn that is not the assistant's.

    Evidence: rows with reasoning in a message of another role: {count}.
    Why: templates put reasoning into the assistant's turn alone, so it would be lost.
    Fix: move it to the answer that it belongs to.
    """
    return None if role == "assistant" else f"reasoning by '{role}'"


def listed(fields: Collection[Any]) -> str:
    """Names of fields, the first few where there are many; they are data, so they are cut."""
    shown = [str(name)[:40] for _, name in zip(range(SHOWN), fields, strict=False)]
    rest = len(fields) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "") or "none"


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
