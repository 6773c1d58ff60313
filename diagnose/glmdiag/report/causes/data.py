"""Causes in the data: what is trained, and what is not."""

from __future__ import annotations

from glmdiag.report.suspects import Signs, by_share, cause, if_error


@cause(
    "RC001",
    Signs(found={"DL101": by_share(5.0), "LG003": 2.0, "LG001": 1.0, "LG011": 1.0, "LG012": 1.0}),
)
def rows_without_labels() -> None:
    """Rows have no label, so there is nothing to learn from.

    Evidence: for it {pro}; against it {contra}.
    Why: a limit on the length cuts from the right, and where the prompt alone fills it no token of
    the answer is left. The mean over no label is NaN, which the Hugging Face Trainer logs as 0.0.
    Fix: prepare the data with glmprep bucket, which cuts no answer away in silence, or raise the
    limit to what glmprep audit DATA shows; split what is longer with glmprep segment.
    """


@cause(
    "RC002",
    Signs(found={"DL102": by_share(4.5), "DL111": by_share(4.5), "CF221": 3.0, "CF222": 1.0}),
)
def answers_cut_off() -> None:
    """Answers are cut off by the limit on the length.

    Evidence: for it {pro}; against it {contra}.
    Why: the model learns from beginnings alone; what it is told to say at the end it never sees,
    and neither how to stop.
    Fix: raise --max-length to the percentile that glmprep audit DATA shows, or divide long
    conversations with glmprep segment DATA -o OUT.jsonl.
    """


@cause(
    "RC003",
    Signs(
        found={
            "DL103": by_share(4.5),
            "DL116": by_share(3.0),
            "CF114": 4.0,
            "LG103": 0.5,
            "LG111": 1.0,
        }
    ),
)
def stop_never_trained() -> None:
    """The token that ends an answer is not trained.

    Evidence: for it {pro}; against it {contra}.
    Why: GLM ends a turn with the next role token. A model that is never trained to write it goes on
    talking until the limit of the output.
    Fix: prepare the data with glmprep bucket, which trains <|user|> and <|observation|> behind each
    answer; glmdiag labels SHARDS shows the ends of answers.
    """


@cause("RC004", Signs(found={"DL112": by_share(5.0)}))
def stop_behind_cut_answer() -> None:
    """A stop token is trained behind answers that were cut.

    Evidence: for it {pro}; against it {contra}.
    Why: the model learns to stop in the middle of a sentence, at whatever length the limit was.
    Fix: raise the limit, or prepare the data with glmprep bucket: only the last piece of an answer
    trains the stop.
    """


@cause("RC005", Signs(found={"DL109": 5.0, "LG047": 1.0, "DL110": 3.0, "DL105": by_share(4.5)}))
def labels_shifted() -> None:
    """The labels stand one place off.

    Evidence: for it {pro}; against it {contra}.
    Why: models shift labels themselves. Labels that were shifted before teach the token after the
    next one, and the first token of an answer has no label at all.
    Fix: let labels be the ids themselves where they are trained, -100 elsewhere: glmprep bucket, or
    glmprep export --labels for other trainers.
    """


@cause("RC006", Signs(found={"DL106": if_error(4.5), "CF224": 1.5}, odd={"DL127": 2.0}))
def prompt_is_trained() -> None:
    """The prompt is trained as if it were an answer.

    Evidence: for it {pro}; against it {contra}.
    Why: the model learns to ask what users ask; long prompts outweigh the answers in the loss, so
    it may fall while no answer gets better.
    Fix: train the turns of the assistant alone: glmprep bucket does; in other trainers turn
    train_on_prompt or train_on_inputs off.
    """


@cause("RC007", Signs(found={"DL115": 4.5, "DL120": 3.0, "CK021": 4.0, "CF115": 3.0, "CF227": 2.0}))
def stops_do_not_agree() -> None:
    """Generation does not stop where training taught to stop.

    Evidence: for it {pro}; against it {contra}.
    Why: the model writes the token that it was taught, and the server reads on past it, so answers
    run into an invented next turn.
    Fix: set eos_token_id in generation_config.json, and the server's stop ids, to the tokens that
    glmdiag labels shows as trained ends.
    """


@cause(
    "RC008",
    Signs(found={"DL125": by_share(3.5), "LG039": 2.0, "LG002": 2.0, "LG009": 1.0, "LG045": 1.5}),
)
def answer_in_the_prompt() -> None:
    """The answer can be read off the prompt.

    Evidence: for it {pro}; against it {contra}.
    Why: copying is learned within some steps, the loss falls to zero, and nothing else is learned:
    where the prompt lacks the answer the model has none.
    Fix: remove the answer from the prompts; glmprep audit DATA lists conversations whose prompt
    holds the answer.
    """


@cause("RC009", Signs(found={"DL117": by_share(3.5), "LG026": 1.0}))
def much_repeated() -> None:
    """The same conversations are trained again and again.

    Evidence: for it {pro}; against it {contra}.
    Why: a loss that falls towards zero then shows memory, not skill.
    Fix: remove copies with glmprep merge DATA --groups, or train fewer epochs.
    """


@cause("RC046", Signs(found={"DL126": 1.5, "CF256": 1.5, "LG036": 1.5}))
def data_in_order() -> None:
    """The data comes sorted rather than mixed.

    Evidence: for it {pro}; against it {contra}.
    Why: the model follows what came last, and forgets what came first; the loss goes up and down
    with the order, not with what is learned.
    Fix: shuffle: data.order = "shuffled" or "length-mixed" in glmtrain, and no custom sampler in
    other trainers.
    """


@cause("RC052", Signs(found={"DL128": 4.0, "LG047": 2.0, "LG038": 2.0, "CF127": 5.0, "DL121": 5.0}))
def another_vocabulary() -> None:
    """The data was made with the vocabulary of another model.

    Evidence: for it {pro}; against it {contra}.
    Why: each id means another word to the model, so the loss begins above that of a guess and what
    is learned is a cipher.
    Fix: make the shards again with the tokenizer of the model: glmprep bucket DATA --tokenizer
    MODEL -o SHARDS.
    """
