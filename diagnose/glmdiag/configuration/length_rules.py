"""Rules on what of the data is trained: limits, labels, templates and stop tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmprep.findings import Finding, Severity, rule

from glmdiag.configs.record import TrainerConfig
from glmdiag.configuration.lengths import Measured

CUTTERS = ("official", "llamafactory", "transformers")
DROPPERS = ("axolotl", "swift")
MANY_ANSWERS, SOME_ANSWERS = 0.05, 0.005
MANY_BARE = 0.01
MANY_DROPPED = 0.05
STOPS = {"<|user|>": 151336, "<|observation|>": 151338}
"""The tokens of GLM-4 that end a turn; there is no end-of-turn token besides."""
TEMPLATES = {
    "llamafactory": (
        (r"glm-?4\.7", {"glm4_7"}),
        (r"glm-?4\.[56](v)?", {"glm4_moe", "glm4_5v"}),
        (r"glm-?z1", {"glmz1", "glm4"}),
        (r"glm-?4v|glm-?4\.1v", {"glm4v"}),
        (r"glm-?4", {"glm4"}),
        (r"chatglm3", {"chatglm3"}),
    ),
    "swift": (
        (r"glm-?4\.7", {"glm4_7"}),
        (r"glm-?4\.[56]v", {"glm4_5v"}),
        (r"glm-?4\.[56]", {"glm4_5"}),
        (r"glm-?4v", {"glm4v"}),
        (r"glm-?4-(9b|32b)-.*0414|glm-?4-0414", {"glm4"}),
        (r"glm-?4-9b", {"chatglm4", "glm4"}),
        (r"chatglm3", {"chatglm3"}),
    ),
}
"""Templates that fit a model, by its name, in the trainers' own words."""
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj", "query_key_value"}
REMOTE = {"query_key_value", "dense_h_to_4h", "dense_4h_to_h", "dense"}
SPLIT = {"gate_proj", "up_proj"}
"""Layers that dense GLM-4 models do not have: theirs is one, gate_up_proj."""


@rule("CF221", Severity.ERROR)
def answers_cut(config: TrainerConfig, measured: Measured | None) -> Iterator[Finding]:
    """The limit cuts answers.

    Evidence: at {limit} tokens ({said}) {answers:.1%} of the answers are cut in their middle,
    {lost:.1%} of the trained tokens are lost, and {bare} {bare:|conversation keeps|conversations
    keep} no label; {rows:.1%} of the conversations are longer.
    Why: a cut answer teaches the model to stop anywhere, or never to stop; a row without labels
    gives a loss of NaN, or nothing.
    Fix: allow {needed} tokens, which holds 95 % of the conversations whole, and split longer ones
    with glmprep segment.
    """
    cut = None if measured is None else measured.cut
    if cut is None or measured is None or config.trainer not in CUTTERS:
        return
    answers = cut.answers_cut / max(1, measured.answers)
    total = len(measured.conversations)
    lost = cut.supervised_lost / max(1, measured.supervised)
    if max(answers, lost, cut.without_labels / total) < SOME_ANSWERS:
        return
    many = (
        answers >= MANY_ANSWERS or lost >= MANY_ANSWERS or cut.without_labels >= MANY_BARE * total
    )
    yield answers_cut.finding(
        config.where("max_length", "max_output_length"),
        severity=Severity.ERROR if many else Severity.WARNING,
        limit=cut.max_length,
        said=_limit_said(config),
        answers=answers,
        lost=lost,
        bare=cut.without_labels,
        rows=measured.share_longer(cut.max_length),
        needed=measured.covering,
    )


@rule("CF222", Severity.WARNING)
def rows_left_out(config: TrainerConfig, measured: Measured | None) -> Iterator[Finding]:
    """The limit leaves whole conversations out.

    Evidence: {rows:.1%} of the conversations are longer than {limit} tokens ({said}); {trainer}
    leaves them out.
    Why: the longest conversations are often the ones that matter, and the count of rows in the log
    is the only sign of it.
    Fix: allow {needed} tokens, which holds 95 % of the conversations whole, or split longer ones
    with glmprep segment.
    """
    if measured is None or config.limit is None or config.trainer not in DROPPERS:
        return
    share = measured.share_longer(config.limit)
    if share > MANY_DROPPED:
        yield rows_left_out.finding(
            config.where("max_length"),
            rows=share,
            limit=config.limit,
            said=config.key("max_length"),
            trainer=config.trainer,
            needed=measured.covering,
        )


@rule("CF223", Severity.INFO)
def limit_not_compared(config: TrainerConfig, measured: Measured | None) -> Iterator[Finding]:
    """A short limit, and no data to hold it against.

    Evidence: rows are cut at {limit} tokens ({said}); no data was given to compare with.
    Why: the official script and LLaMA-Factory cut without a word; of long answers and of dialogues
    with several turns the end is lost first, with the token that teaches the model to stop.
    Fix: give the data: glmdiag config CONFIG --data DATA, or --shards DIR.
    """
    limit = config.limit
    if measured is None and limit is not None and limit <= 2048 and config.trainer in CUTTERS:
        yield limit_not_compared.finding(
            config.where("max_length", "max_output_length"), limit=limit, said=_limit_said(config)
        )


@rule("CF224", Severity.WARNING)
def prompts_trained(config: TrainerConfig) -> Iterator[Finding]:
    """Prompts are trained too.

    Evidence: {said} = {value}, so what users say has labels as well.
    Why: the model learns to write the user's part; where prompts are longer than answers they
    outweigh them, and the model goes on in the user's name instead of stopping.
    Fix: train answers alone ({said} off).
    """
    if config.train_on_prompt is True:
        value = str(config.said["train_on_prompt"].value).lower()
        yield prompts_trained.finding(
            config.where("train_on_prompt"), said=config.key("train_on_prompt"), value=value
        )


@rule("CF225", Severity.WARNING)
def last_answer_alone(config: TrainerConfig) -> Iterator[Finding]:
    """Only the last answer of a conversation is trained.

    Evidence: {said} = {value}: of a conversation with several turns, the last answer alone has
    labels.
    Why: the other answers cost computing and teach nothing; the official script shifts this mask
    twice besides, so that the answer's first token has no label either.
    Fix: turn it off, if the earlier answers are as good as the last one.
    """
    if config.last_answer_only is True:
        official = config.trainer == "official"
        yield last_answer_alone.finding(
            config.where("last_answer_only"),
            severity=Severity.WARNING if official else Severity.INFO,
            said=config.key("last_answer_only"),
            value=str(config.said["last_answer_only"].value).lower(),
        )


@rule("CF226", Severity.ERROR)
def template_unfit(config: TrainerConfig) -> Iterator[Finding]:
    """The template is not the model's.

    Evidence: {said} is {template}, and {model} needs {fits}.
    Why: with another template the role tokens are other ones; the model unlearns its own, and a
    server that uses the model's template gets answers that do not stop or have no sense.
    Fix: set template: {fits}.
    """
    fits = next(
        (
            names
            for pattern, names in TEMPLATES.get(config.trainer, ())
            if config.model and re.search(pattern, config.model.lower())
        ),
        None,
    )
    if fits is None or config.template in fits:
        return
    if config.template is None and config.trainer == "swift":
        return  # taken from the model there
    yield template_unfit.finding(
        config.where("template", "model"),
        said="template",
        template=config.template or "none",
        model=str(config.model),
        fits=sorted(fits, key=len)[0],
    )


@rule("CF227", Severity.WARNING)
def stops_missing(config: TrainerConfig) -> Iterator[Finding]:
    """The stop tokens are not those of GLM.

    Evidence: {said} names {given}; missing: {missing}.
    Why: GLM ends a turn with the next role token, and a tool call with <|observation|>; what is not
    trained or listed as a stop lets the model talk on, or call tools for ever.
    Fix: list <|user|> and <|observation|> besides <|endoftext|>.
    """
    given = config.stop_tokens
    if given is None:
        return
    missing = [t for t, number in STOPS.items() if t not in given and str(number) not in given]
    if missing:
        yield stops_missing.finding(
            config.where("stop_tokens"),
            said=config.key("stop_tokens"),
            given=", ".join(given) or "none",
            missing=", ".join(missing),
        )


@rule("CF228", Severity.WARNING)
def targets_absent(config: TrainerConfig) -> Iterator[Finding]:
    """LoRA is put on layers that the model does not have.

    Evidence: {said} names {absent}; {model} has {has}.
    Why: PEFT passes over names that match nothing as long as another one matches, so part of what
    was to be trained is not; if none matches it stops with an error.
    Fix: name {has}, or all-linear where the trainer knows it.
    """
    targets, model = set(config.targets or ()), (config.model or "").lower()
    dense = re.search(r"glm-?4-|glm-?z1|glm-?edge", model) is not None
    own_code = dense and re.search(r"-hf|0414|glm-?z1", model) is not None
    absent = targets & SPLIT if dense else set()
    absent |= targets & REMOTE if own_code else set()
    if absent:
        yield targets_absent.finding(
            config.where("targets"),
            said=config.key("targets"),
            absent=", ".join(sorted(absent)),
            model=str(config.model),
            has=", ".join(_instead(absent)),
        )


@rule("CF229", Severity.INFO)
def attention_alone(config: TrainerConfig) -> Iterator[Finding]:
    """LoRA is on attention alone.

    Evidence: {said} is {targets}: no layer of the feed-forward part is adapted.
    Why: most weights of a layer, and most of what it knows, are in the feed-forward part; adapters
    on attention alone learn manner more readily than content.
    Fix: adapt all linear layers, at a smaller rank if memory is short.
    """
    targets = set(config.targets or ())
    if targets and targets <= ATTENTION and config.method in ("lora", "qlora"):
        yield attention_alone.finding(
            config.where("targets"),
            said=config.key("targets"),
            targets=", ".join(config.targets or ()),
        )


def judge(config: TrainerConfig, measured: Measured | None) -> list[Finding]:
    """All findings on limits, labels, templates and layers."""
    by_length = (answers_cut, rows_left_out, limit_not_compared)
    alone = (
        prompts_trained,
        last_answer_alone,
        template_unfit,
        stops_missing,
        targets_absent,
        attention_alone,
    )
    found = [finding for each in by_length for finding in each(config, measured)]
    return found + [finding for each in alone for finding in each(config)]


def _limit_said(config: TrainerConfig) -> str:
    if config.effective("max_input_length") is not None:
        return f"{config.effective('max_input_length')} + {config.effective('max_output_length')}"
    return config.key("max_length")


def _instead(absent: set[str]) -> list[str]:
    """The names of GLM's own classes for layers that are called otherwise elsewhere."""
    names = {
        "query_key_value": ("q_proj", "k_proj", "v_proj"),
        "dense": ("o_proj",),
        "dense_h_to_4h": ("gate_up_proj",),
        "dense_4h_to_h": ("down_proj",),
        "gate_proj": ("gate_up_proj",),
        "up_proj": ("gate_up_proj",),
    }
    return sorted({name for each in absent for name in names[each]})
