"""Other trainers' rules, against small computations that follow each trainer's own algorithm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from glmprep.families import Family
from glmprep.labels import tokenize
from glmprep.peers import IGNORED, POLICIES, TRAINERS, Kept, Labelled, Rows
from glmprep.peers.llamafactory import accepts, read, share
from glmprep.peers.overlay import lay_over
from glmprep.records import Conversation, Message, ToolCall
from glmprep.tokenizer import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from .chats import TOOL, chat, conversations, no_shrinking

CHAT = chat(
    ("system", "Be brief."),
    ("user", "What is the capital of France, and how many people live there?"),
    ("assistant", "Paris. About two million people live in the city itself."),
    ("user", "And of Spain?"),
    ("assistant", "Madrid, with a little more than three million."),
)
CALL = ToolCall(name="look_up", arguments='{"key":  "法国"}')
WITH_TOOLS = chat(
    ("user", "Look it up."),
    Message(role="assistant", tool_calls=(CALL,)),
    ("tool", "Paris"),
    ("assistant", "It is Paris."),
    tools=(TOOL,),
)
few = settings(no_shrinking, max_examples=40)
POLICY = {policy.name: policy for policy in POLICIES}
TRAINER = {trainer.name: trainer for trainer in TRAINERS}


@pytest.fixture(scope="session")
def rows_of(family: Family, tokenizer: Tokenizer) -> Any:
    def make(*chats: Conversation) -> Rows:
        return Rows.of(chats, tokenize(chats, family, tokenizer), family, tokenizer)

    return make


@pytest.fixture(scope="session")
def turns_of(tokenizer: Tokenizer) -> Any:
    """Ids of each turn of a conversation without tools: header, then text with its line break."""

    def make(conversation: Conversation) -> list[tuple[str, list[int]]]:
        return [
            (m.role, [tokenizer.added_id(f"<|{m.role}|>"), *tokenizer.encode("\n" + m.content)])
            for m in conversation.messages
        ]

    return make


def sequence(rows: Rows, made: Labelled, row: int = 0) -> tuple[list[int], list[int]]:
    """Ids and labels of one row as the trainer would hand them to the model."""
    at = slice(int(rows.tokens.offsets[row]), int(rows.tokens.offsets[row + 1]))
    there = made.present[at]
    ids = rows.tokens.ids[at][there].tolist()
    labels = made.labels[at][there].tolist()
    if made.tail[row] >= 0:
        ids.append(int(made.tail[row]))
        labels.append(int(made.tail_label[row]))
    return ids, labels


def trained(kept: Kept) -> int:
    return int(kept.trained.sum())


class TestLlamaFactoryShares:
    @pytest.mark.parametrize(
        ("prompt", "answer", "room", "kept"),
        [
            # 2 x 100 < 2048: the answer is whole, the prompt gets 2048 - 100.
            (3000, 100, 2048, (1948, 100)),
            # 2 x 600 >= 1000, 2 x 300 < 1000: the prompt is whole, the answer gets 1000 - 300.
            (300, 900, 1000, (300, 700)),
            # Neither is short: 1000 x 900 / 1500 = 600 for the answer, the rest for the prompt.
            (600, 900, 1000, (400, 600)),
            # Both fit.
            (300, 600, 1000, (300, 600)),
            # 1000 x 10000 / 10500 = 952.38…: rounded down.
            (500, 10_000, 1000, (48, 952)),
            # One token more, and the prompt is short: 1001 - 500.
            (500, 10_000, 1001, (500, 501)),
            # 3 x 50 / 150 = 1.
            (100, 50, 3, (2, 1)),
        ],
    )
    def test_prompt_and_answer_are_cut_as_the_three_cases_say(self, prompt, answer, room, kept):
        found = share(*(np.array([n], np.int64) for n in (prompt, answer, room)))
        assert (int(found[0][0]), int(found[1][0])) == kept

    @given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))
    def test_never_more_than_the_room_is_taken_and_none_is_wasted(self, prompt, answer, room):
        found = share(*(np.array([n], np.int64) for n in (prompt, answer, room)))
        assert int(sum(found)[0]) == min(room, prompt + answer)


def llamafactory_by_hand(
    turns: list[tuple[str, list[int]]], prefix: list[int], end: int, limit: int
) -> tuple[list[int], list[int]]:
    """The algorithm turn by turn, in plain lists: pairs, shares, end-of-text labels."""
    pairs: list[tuple[list[int], list[int]]] = []
    prompt = list(prefix)
    for role, ids in turns:
        if role != "assistant":
            prompt += ids
            continue
        pairs.append(([*prompt, ids[0]], ids[1:]))
        prompt = []
    ids, labels, total = [], [], 1
    for number, (source, target) in enumerate(pairs):
        if total >= limit:
            break
        room, s, t = limit - total, len(source), len(target)
        if 2 * t < room:
            most = room
        elif 2 * s < room:
            most = room - s
        else:
            most = int(room * (t / (s + t)))
        target = target[:most]
        source = source[: max(room - len(target), 0)]
        total += len(source) + len(target)
        ids += source + target
        first = [IGNORED if number == 0 else end] * bool(source)
        labels += first + [IGNORED] * (len(source) - 1) + target
    return [*ids, end], [*labels, end]


@pytest.mark.parametrize("limit", [16, 20, 25, 30, 33, 40, 45, 50, 60, 100, 1000])
def test_llamafactory_labels_are_those_of_its_algorithm(rows_of, turns_of, tokenizer, limit):
    rows = rows_of(CHAT)
    end = tokenizer.added_id("<|endoftext|>")
    prefix = rows.tokens.ids[:2].tolist()
    by_hand = llamafactory_by_hand(turns_of(CHAT), prefix, end, limit)
    assert sequence(rows, TRAINER["llamafactory"].label(rows, limit)) == by_hand
    assert len(by_hand[0]) <= limit


def test_llamafactory_cuts_a_long_prompt_at_its_end_and_trains_the_answer(rows_of, tokenizer):
    rows = rows_of(chat(("user", "word " * 3000), ("assistant", "Yes, it is so.")))
    ids, labels = sequence(rows, TRAINER["llamafactory"].label(rows, 512))
    assert len(ids) == 512
    assert tokenizer.added_id("<|assistant|>") not in ids
    answer = tokenizer.encode("\nYes, it is so.")
    assert [label for label in labels if label != IGNORED][:-1] == answer


def test_llamafactory_trains_an_end_of_text_behind_a_cut_answer(rows_of, tokenizer):
    rows = rows_of(chat(("user", "Tell me."), ("assistant", "Once upon a time. " * 50)))
    _, labels = sequence(rows, TRAINER["llamafactory"].label(rows, 64))
    assert labels[-1] == tokenizer.added_id("<|endoftext|>")
    kept = POLICY["llamafactory"].keep(rows, 64)
    assert kept.stops_after_cut.tolist() == [True]
    # 64 - 1 for the end of text; the prompt is short and stays whole.
    prompt = int(rows.answers.begin[0])
    assert trained(kept) == 64 - 1 - prompt


def test_llamafactory_can_train_less_at_a_longer_limit(rows_of):
    # Prompt p with its `<|assistant|>`, answer a >> p. Up to room 2p both are cut in proportion,
    # so the answer gets nearly all; from 2p + 1 on the prompt is whole, so it gets about half.
    rows = rows_of(chat(("user", "word " * 200), ("assistant", "time " * 4000)))
    prompt = int(rows.pairs.answer[0] - rows.pairs.prompt[0])
    keep = POLICY["llamafactory"].keep
    shorter, longer = (trained(keep(rows, 1 + 2 * prompt + more)) for more in (0, 1))
    assert longer == prompt + 1
    assert shorter > 1.8 * longer


@pytest.mark.parametrize(
    ("conversation", "accepted"),
    [
        (CHAT, True),
        (WITH_TOOLS, True),
        (chat(("user", "a"), ("assistant", "b"), ("user", "c")), False),
        (chat(("user", "a"), ("user", "b"), ("assistant", "c")), False),
        (chat(("assistant", "a"), ("user", "b"), ("assistant", "c")), False),
        (chat(("user", "a"), ("system", "b"), ("assistant", "c")), False),
        (chat(("user", "a"), Message(role="assistant", content="b", tool_calls=(CALL,))), False),
        (chat(("user", "a"), Message(role="assistant", tool_calls=(CALL, CALL))), False),
        (chat(("system", "a")), False),
    ],
)
def test_llamafactory_takes_only_rows_in_which_prompts_and_answers_alternate(
    rows_of, conversation, accepted
):
    assert accepts(conversation) is accepted
    assert POLICY["llamafactory"].keep(rows_of(conversation), 512).dropped.tolist() == [
        not accepted
    ]


def test_llamafactory_writes_tools_behind_the_system_message_in_one_turn(family):
    made = read(chat(("system", "Be brief."), *WITH_TOOLS.messages, tools=(TOOL,)), family)
    first, *rest = made.conversation.messages
    assert first.role == "system"
    assert first.content.startswith("Be brief.你是一个名为 ChatGLM")
    assert "\n\n## look_up\n\n" in first.content
    assert made.conversation.tools == ()
    assert list(made.turns) == [0, 1, 2, 3, 4]
    assert rest[1].tool_calls[0].arguments == '{"key": "法国"}'


def official_by_hand(
    turns: list[tuple[str, list[int]]], prefix: list[int], user: int, limit: int, combine: bool
) -> tuple[list[int], list[int]]:
    """Mask message by message (or from the last answer on), then one place to the right."""
    ids, mask = list(prefix), [False] * len(prefix)
    for number, (role, tokens) in enumerate(turns):
        ids += tokens
        if combine:
            last = max(n for n, (r, _) in enumerate(turns) if r == "assistant")
            mask += [
                number > last or (number == last and place > 0) for place in range(len(tokens))
            ]
        else:
            mask += [role == "assistant"] * len(tokens)
    ids.append(user)
    moved = [False, *mask]
    labels = [token if on else IGNORED for token, on in zip(ids, moved, strict=True)]
    return ids[: limit + 1], labels[: limit + 1]


@pytest.mark.parametrize("limit", [12, 25, 33, 50, 58, 59, 60, 100])
@pytest.mark.parametrize("last", ["assistant", "user"])
@pytest.mark.parametrize("name", ["official", "official_combine"])
def test_the_official_labels_are_those_of_its_shifted_mask(
    rows_of, turns_of, tokenizer, name, last, limit
):
    messages = CHAT.messages if last == "assistant" else CHAT.messages[:-1]
    conversation = chat(*messages)
    rows = rows_of(conversation)
    user = tokenizer.added_id("<|user|>")
    prefix = rows.tokens.ids[:2].tolist()
    by_hand = official_by_hand(
        turns_of(conversation), prefix, user, limit, combine=name == "official_combine"
    )
    assert sequence(rows, TRAINER[name].label(rows, limit)) == by_hand


def test_the_official_script_without_combine_trains_what_this_suite_trains(rows_of):
    rows = rows_of(CHAT)
    made = TRAINER["official"].label(rows, 1000)
    theirs = [label for label in sequence(rows, made)[1] if label != IGNORED]
    assert theirs == rows.tokens.ids[rows.trained].tolist()


def test_the_official_script_ends_a_call_with_the_wrong_token(rows_of, tokenizer):
    rows = rows_of(chat(*WITH_TOOLS.messages[:2], tools=(TOOL,)))
    assert rows.tokens.ids[-1] == tokenizer.added_id("<|observation|>")
    for name in ("official", "official_combine"):
        _, labels = sequence(rows, TRAINER[name].label(rows, 1000))
        assert labels[-1] == tokenizer.added_id("<|user|>")


def test_the_official_script_without_an_answer_cannot_combine(rows_of):
    rows = rows_of(chat(("user", "Is anyone there?")))
    assert TRAINER["official_combine"].label(rows, 100).refused.tolist() == [True]
    assert TRAINER["official"].label(rows, 100).refused.tolist() == [False]


@pytest.mark.parametrize("limit", [10, 30, 57, 58, 200])
def test_trl_trains_the_first_tokens_all_of_them_and_no_token_behind_the_last(rows_of, limit):
    rows = rows_of(CHAT)
    template = rows.tokens.ids[:-1].tolist()
    ids, labels = sequence(rows, TRAINER["trl"].label(rows, limit))
    assert ids == labels == template[:limit]


def test_trl_with_assistant_only_loss_trains_text_without_stops(rows_of, tokenizer):
    rows = rows_of(CHAT)
    _, labels = sequence(rows, TRAINER["trl_answers"].label(rows, 1000))
    texts = [tokenizer.encode("\n" + CHAT.messages[turn].content) for turn in (2, 4)]
    assert [label for label in labels if label != IGNORED] == texts[0] + texts[1]


def test_trl_leaves_out_a_row_whose_answers_are_all_cut_off(rows_of):
    rows = rows_of(chat(("user", "word " * 100), ("assistant", "Yes.")))
    assert POLICY["trl"].keep(rows, 50).dropped.tolist() == [True]
    assert TRAINER["trl_answers"].label(rows, 50).refused.tolist() == [True]
    assert TRAINER["trl"].label(rows, 50).refused.tolist() == [False]


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_each_cut_keeps_the_targets_on_its_side_of_the_limit(rows_of, more):
    rows = rows_of(CHAT)
    mask = rows.trained.tolist()
    whole = len(mask)
    limit = whole - 12 + more
    assert trained(POLICY["trl"].keep(rows, limit)) == sum(mask[:limit])
    assert trained(POLICY["swift_right"].keep(rows, limit)) == sum(mask[:limit])
    assert trained(POLICY["official"].keep(rows, limit)) == sum(mask[: limit + 1])
    # The first token that is left has no label; here it is part of a prompt.
    assert not mask[whole - limit]
    assert trained(POLICY["swift_left"].keep(rows, limit)) == sum(mask[whole - limit :])


def test_ms_swift_trains_no_first_token_of_a_row_that_was_cut_on_the_left(rows_of):
    rows = rows_of(CHAT)
    # Five tokens from the end, all of the last answer and its stop.
    assert trained(POLICY["swift_left"].keep(rows, 5)) == 4


@pytest.mark.parametrize("name", ["axolotl", "swift_delete"])
def test_rows_that_are_too_long_are_left_out_whole(rows_of, name):
    rows = rows_of(CHAT, chat(("user", "Hi"), ("assistant", "Hello")))
    length = int(rows.tokens.lengths[0])
    fits, drops = (POLICY[name].keep(rows, limit) for limit in (length, length - 1))
    assert fits.dropped.tolist() == [False, False]
    assert trained(fits) == int(rows.trained.sum())
    assert drops.dropped.tolist() == [True, False]
    assert trained(drops) == int(rows.tokens.supervised[1])


def test_combine_keeps_the_last_answer_without_its_first_token(rows_of):
    rows = rows_of(CHAT)
    kept = POLICY["official_combine"].keep(rows, 1000)
    last = rows.answers.of == 1
    assert trained(kept) == int(last.sum()) - 1
    assert not kept.trained[rows.answers.begin[1]]


@given(st.lists(conversations(), min_size=1, max_size=3), st.integers(16, 200))
@few
def test_no_rule_keeps_more_than_there_is_and_plain_cuts_keep_more_at_longer_limits(
    rows_of, chats, limit
):
    rows = rows_of(*chats)
    for name, policy in POLICY.items():
        kept, more = policy.keep(rows, limit), policy.keep(rows, limit + 40)
        assert not (kept.trained & ~rows.trained).any()
        assert not (kept.trained & ~kept.present).any()
        assert not kept.present[kept.dropped[rows.row]].any()
        if name != "llamafactory":
            assert trained(kept) <= trained(more)
        if name.startswith("swift") or name in ("trl", "axolotl"):
            assert np.bincount(rows.row[kept.present], minlength=1).max(initial=0) <= limit


@given(st.lists(conversations(), min_size=1, max_size=3), st.integers(16, 200))
@few
def test_rule_for_length_and_labels_of_a_trainer_agree(rows_of, family, tokenizer, chats, limit):
    rows = rows_of(*(chat(*c.messages) for c in chats))
    for name in ("official", "official_combine", "llamafactory"):
        kept = POLICY[name].keep(rows, limit)
        over = lay_over(TRAINER[name], rows, limit, family, tokenizer)
        if over.reworded.any():
            continue  # Arguments in other words have other lengths.
        text = ~np.isin(rows.tokens.ids, list(family.stops))
        said = (over.labels == rows.tokens.ids) & rows.trained
        assert (said[text] == kept.trained[text]).all()
