"""How a chat template writes turns, learnt from small conversations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from glmprep.families import probes
from glmprep.families.controls import Controls
from glmprep.families.forms import parts_replies
from glmprep.families.prefixes import Rendered, Unstable, Writer
from glmprep.families.rendering import Unrenderable
from glmprep.records import Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """What the probes show.

    `prompt` asks for an answer. `heads` stand before what a role says. `ends` are the tokens
    that end an answer, none where the next turn's token does; `stops` are those at which the model
    stops in either case. `closing` is left out at the end of a row: behind an answer, behind a
    call. `reasons` says that reasoning is written apart, `rounds` only behind the last question.
    """

    prompt: str
    heads: dict[str, str]
    ends: frozenset[str]
    stops: frozenset[str]
    closing: tuple[str, str]
    reasons: bool
    rounds: bool


@dataclass(frozen=True, slots=True)
class _Turn:
    """An answer in a probe: the token that ends it, if the template writes one, and what follows.

    `head` is the text up to what is said next, `next` the first control token in it.
    """

    end: str
    head: str
    next: str


def learn(write: Writer) -> Manner:
    """What the probes show of a template.

    Raises Unstable for one that changes earlier turns, Unrenderable for one that has no token at
    which the model could stop, or cannot write a question and an answer at all.
    """
    controls = write.controls
    plain = write(probes.PLAIN)
    plain.require_stable()
    _try(write, probes.SYSTEM)
    answer = _turn(plain, controls, 1, probes.ANSWER, probes.FURTHER)
    call = _call(write, controls) or answer
    # Where an answer has no token of its own, what ends a call is a tag that closes it.
    ends = frozenset((answer.end, call.end)) if answer.end and call.end else frozenset()
    prompt = plain.whole[plain.length(1) : plain.length(1, prompt=True)]
    if ends:
        last = _turn(plain, controls, 3, probes.REST, "")
        stops = ends
        closing = ("", "") if last.end else (answer.end, call.end)
    else:
        if not answer.next:
            raise Unrenderable("no control token ends an answer, so no model could learn to stop")
        stops = frozenset((answer.next, call.next))
        if parts_replies(write.renderer):
            # Between the text of a reply and its call the model must ask itself.
            stops |= {match[0] for match in controls.find(prompt, 0, len(prompt))}
        closing = (answer.next, call.next)
    reasons, rounds = _reasoning(write)
    return Manner(
        prompt=prompt,
        heads={"user": answer.head, "tool": call.head, "observation": call.head},
        ends=ends,
        stops=stops,
        closing=closing,
        reasons=reasons,
        rounds=rounds,
    )


def _turn(rendered: Rendered, controls: Controls, place: int, said: str, then: str) -> _Turn:
    whole = rendered.whole
    start, end = rendered.length(place, prompt=True), rendered.length(place + 1)
    at = whole.rfind(said, start, end)
    further = whole.find(then, end) if then else end
    if at < 0 or further < 0:
        raise Unrenderable("the template leaves out what is said")
    tail = [match[0] for match in controls.find(whole, at + len(said), end)]
    head = whole[end:further]
    following = [match[0] for match in controls.find(head, 0, len(head))]
    return _Turn(tail[-1] if tail else "", head, following[0] if following else "")


def _call(write: Writer, controls: Controls) -> _Turn | None:
    """A call; None where the template has no calls."""
    rendered = _try(write, probes.TOOLS)
    if rendered is None:
        return None
    said = next((text for text in probes.CALLED if text in rendered.whole), "")
    try:
        rendered.require_all()
        turn = _turn(rendered, controls, _place(rendered), said, probes.RESULT)
    except Unrenderable:
        return None
    return turn


def _place(rendered: Rendered) -> int:
    return next(p for p, said in enumerate(rendered.said) if said.form["role"] == "assistant")


def _reasoning(write: Writer) -> tuple[bool, bool]:
    """Whether reasoning is written apart, and whether that of earlier rounds is left out."""
    thoughts = write(probes.THOUGHTS)
    try:
        if probes.SECOND_THOUGHT not in thoughts.whole:
            return False, False
        thoughts.require_stable()
    except Unstable:
        first = replace(probes.THOUGHTS, messages=probes.THOUGHTS.messages[:2])
        last = write(probes.LAST_THOUGHT)
        write(first).require_stable()
        last.require_stable()
        if last.whole != thoughts.whole:
            raise
        return True, True
    return True, False


def _try(write: Writer, probe: Conversation) -> Rendered | None:
    """A probe rendered, None where the template refuses it; raises Unstable."""
    rendered = write(probe)
    try:
        rendered.require_stable()
    except Unstable:
        raise
    except Unrenderable:
        return None
    return rendered
