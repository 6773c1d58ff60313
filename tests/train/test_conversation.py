"""A conversation that outgrows the window: what the model sees of it, and that it always fits."""

from __future__ import annotations

import pytest
from glmprep import families
from glmprep.contexts.before import Note, Replay
from glmprep.contexts.memory import Memory
from glmprep.contexts.notes import Notes
from glmprep.contexts.outline import Outline
from glmprep.contexts.place import placed
from glmprep.errors import UsageError
from glmprep.exchanges import course
from glmprep.records import Conversation, Message, Origin
from glmprep.semantics.lexical import Lexical
from glmprep.sized import CLOSING, Limits, size
from glmprep.tokenizer import load
from glmtrain.conversation import Running, TooLong, Window
from glmtrain.prompt import Prompter
from hypothesis import given, settings
from hypothesis import strategies as st

TOKENIZER = load()
FAMILY = families.load("glm4", TOKENIZER)
PROMPTER = Prompter(FAMILY, TOKENIZER, thinks=True)
HEAD = (Message(role="system", content="You help with gardens."),)
WINDOW = Window(max_length=256, max_new_tokens=32)
TOPICS = ("roses", "tomatoes", "the pond", "苹果树", "the compost heap", "snails")
KINDS = ("none", "overlap", "memory", "outline")


class Last:
    """Recalls the last of the earlier messages, whole, and what it was asked for."""

    def __init__(self):
        self.asked = []

    def note(self, earlier, coming, budget):
        self.asked.append((len(earlier), [m.content for m in coming if m.role == "user"], budget))
        text = earlier[-1].content
        return text if len(TOKENIZER.encode(text)) <= budget else ""


def noted(recall, tokens=64, window=WINDOW):
    limits = Limits(max_length=window.max_length, context_tokens=tokens)
    return Note(recall, limits, FAMILY, TOKENIZER)


def before(kind, tokens=64, overlap=2, window=WINDOW):
    if kind in ("none", "overlap"):
        used = (overlap, tokens) if kind == "overlap" else (0, 0)
        return Replay(Limits(max_length=window.max_length, overlap=used[0], context_tokens=used[1]))
    made = (Memory if kind == "memory" else Outline)(TOKENIZER, Notes(), Lexical())
    return noted(made, tokens, window)


def running(before, head=HEAD, window=WINDOW):
    return Running(PROMPTER, before, window, head=head)


def question(number):
    return f"Question {number}: what do I do about {TOPICS[number % len(TOPICS)]} in May?"


def answer(number):
    topic = TOPICS[number % len(TOPICS)]
    return f"Answer {number}. Water {topic} each morning. Do not cut {topic} before June."


def talk(chat, count, first=0):
    """Ask and answer so many questions; the prompts."""
    prompts = []
    for number in range(first, first + count):
        prompt = chat.ask(question(number))
        prompts.append(prompt)
        chat.answered(prompt, Message(role="assistant", content=answer(number)))
    return prompts


def text(prompt):
    return TOKENIZER.decode(prompt.ids)


@pytest.mark.parametrize("kind", KINDS)
def test_while_all_of_it_fits_nothing_is_dropped_and_nothing_added(kind):
    chat = running(before(kind))
    prompts = talk(chat, 12)
    first = next(place for place, prompt in enumerate(prompts) if prompt.begin)
    for place, prompt in enumerate(prompts[:first]):
        assert (prompt.begin, prompt.note) == (0, "")
        assert list(prompt.ids) == PROMPTER([*HEAD, *chat.said[: 2 * place + 1]])
    unbroken = len(PROMPTER([*HEAD, *chat.said[: 2 * first + 1]])) + WINDOW.max_new_tokens
    assert unbroken > WINDOW.max_length - 4


@pytest.mark.parametrize("kind", KINDS)
def test_sixty_questions_go_through_a_small_window(kind):
    prompts = talk(running(before(kind)), 60)
    assert max(len(prompt.ids) for prompt in prompts) <= 256 - 32
    begins = [prompt.begin for prompt in prompts]
    assert begins == sorted(begins)
    assert len(set(begins)) > 8
    for number, prompt in enumerate(prompts):
        assert HEAD[0].content in text(prompt)
        assert f"<|user|>\n{question(number)}<|assistant|>" in text(prompt)
        for asked in range(prompt.begin, number):
            assert answer(asked) in text(prompt)


def test_a_question_that_no_longer_fits_begins_a_segment_of_its_own():
    recall = Last()
    prompts = talk(running(noted(recall)), 9)
    (first, *_) = [place for place, prompt in enumerate(prompts) if prompt.begin]
    new = prompts[first]
    assert new.begin == first
    assert new.note == answer(first - 1)
    expected = placed(HEAD, new.note, [Message(role="user", content=question(first))])
    assert list(new.ids) == PROMPTER(expected)
    assert [message.role for message in expected] == ["system", "system", "user"]


def test_the_note_is_made_anew_as_the_questions_of_the_segment_grow():
    recall = Last()
    prompts = talk(running(noted(recall)), 9)
    first = next(place for place, prompt in enumerate(prompts) if prompt.begin)
    grown = [asked for asked in recall.asked if asked[0] == 2 * first]
    assert [len(questions) for _, questions, _ in grown] == list(range(1, len(grown) + 1))
    assert len(grown) > 1
    assert grown[-1][1][0] == question(first)


@pytest.mark.parametrize("kind", ["memory", "outline"])
@pytest.mark.parametrize("tokens", [16, 40, 64, 200])
def test_notes_keep_their_budget(kind, tokens):
    for prompt in talk(running(before(kind, tokens)), 30):
        assert len(TOKENIZER.encode(prompt.note)) <= tokens


@pytest.mark.parametrize("kind", ["memory", "outline", "overlap", "none"])
def test_a_segment_is_told_what_segmentation_would_have_put_there(kind):
    made = before(kind)
    chat = running(made)
    prompts = talk(chat, 40)
    whole = Conversation(id="whole", messages=(*HEAD, *chat.said), origin=Origin("test", 1))
    (sized,) = size([whole], FAMILY, TOKENIZER)
    room = WINDOW.max_length - WINDOW.max_new_tokens - sized.head - CLOSING
    ends = [n for n in range(40) if n == 39 or prompts[n + 1].begin != prompts[n].begin]
    assert len(ends) > 5
    for end in ends:
        begin = prompts[end].begin
        own = whole.messages[1 + 2 * begin : 1 + 2 * end + 2]
        told = made.messages(course(sized), begin, room, own)
        assert list(prompts[end].ids) == PROMPTER([*HEAD, *told, *own[:-1]])
        assert bool(told) == (begin > 0 and kind != "none")


def test_overlap_replays_whole_exchanges_within_its_tokens():
    replayed = {}
    for tokens in (0, 30, 64, 120):
        prompts = talk(running(before("overlap", tokens, overlap=4)), 12)
        new = next(prompt for prompt in prompts if prompt.begin)
        replayed[tokens] = text(new).count("<|user|>") - 1
        assert text(new).count("<|assistant|>") == replayed[tokens] + 1
    assert replayed[0] == replayed[30] == 0 < replayed[64] <= replayed[120] <= 2


def test_a_question_longer_than_the_window_is_told_and_changes_nothing():
    chat = running(before("memory"))
    talk(chat, 3)
    said = list(chat.said)
    long = chat.ask("rain " * 400)
    assert isinstance(long, TooLong)
    assert long.tokens > 400 > 256 - 32 > long.room > 150
    assert (chat.said, chat.begin) == (said, 0)
    assert talk(chat, 1, first=3)[0].begin == 0


def test_a_question_that_fits_just_so_leaves_the_note_less_room():
    chat = running(before("memory", 64))
    talk(chat, 8)
    words = next(n for n in range(20, 300) if isinstance(chat.ask("rain " * n), TooLong))
    lengths = [len(TOKENIZER.encode(chat.ask("rain " * n).note)) for n in (20, words - 1)]
    assert lengths[0] > 20 > lengths[1]
    assert len(chat.ask("rain " * (words - 1)).ids) <= 256 - 32


def test_reset_forgets_all_but_the_head():
    chat = running(before("memory"))
    first = talk(chat, 12)[0]
    assert chat.note
    chat.reset()
    assert (chat.said, chat.begin, chat.note) == ([], 0, "")
    assert chat.ask(question(0)) == first
    assert talk(chat, 12, first=30) == talk(running(before("memory")), 12, first=30)


def test_a_head_that_leaves_no_room_is_refused():
    head = (Message(role="system", content="Be kind. " * 200),)
    with pytest.raises(UsageError, match="leave no room for a question"):
        running(before("none"), head=head)


@pytest.mark.parametrize("most", [0, 256, 300])
def test_a_window_without_room_for_a_prompt_is_refused(most):
    with pytest.raises(UsageError, match=f"--max-new-tokens {most}: at least 1"):
        Window(max_length=256, max_new_tokens=most)


PIECES = st.sampled_from(("雨", "rain ", "<|user|>", "\n\n", "- ", "。", "What? ", "𠮷", " \t"))
TEXTS = st.lists(PIECES, min_size=1, max_size=40).map("".join)


@settings(max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    turns=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12),
    most=st.integers(24, 120),
    tokens=st.integers(0, 100),
)
def test_no_prompt_and_its_answer_are_ever_longer_than_the_window(kind, turns, most, tokens):
    window = Window(max_length=most, max_new_tokens=8)
    chat = running(before(kind, tokens, window=window), head=(), window=window)
    for asked, answered in turns:
        prompt = chat.ask(asked)
        if isinstance(prompt, TooLong):
            assert len(PROMPTER([Message(role="user", content=asked)])) + 8 > most - 4
            continue
        assert len(prompt.ids) + 8 <= most
        chat.answered(prompt, Message(role="assistant", content=answered))
