"""Causes in memory and time."""

from __future__ import annotations

from glmdiag.report.suspects import Signs, cause


@cause("RC031", Signs(found={"LG044": 3.0, "DL118": 2.0, "LG028": 1.5, "DL108": 1.0, "LG032": 0.5}))
def long_rows_pad_batches() -> None:
    """Single long rows pad whole batches.

    Evidence: for it {pro}; against it {contra}.
    Why: a batch costs its longest row times its rows. Memory and time jump with each long row, and
    the largest decides whether the run fits.
    Fix: put rows of like length together (glmprep bucket; group_by_length), and limit a batch by
    tokens rather than rows.
    """


@cause("RC032", Signs(found={"LG046": 5.0, "LG029": 3.0, "CF304": 1.5}))
def evaluation_peaks() -> None:
    """Evaluation takes more memory than training.

    Evidence: for it {pro}; against it {contra}.
    Why: it keeps logits of all tokens over the whole vocabulary, often in larger batches, and runs
    out of memory hours after the start.
    Fix: lower per_device_eval_batch_size, set prediction_loss_only, and eval_accumulation_steps.
    """


@cause(
    "RC033",
    Signs(
        found={"LG033": 5.0, "CF301": 3.5, "CF243": 3.0, "CF306": 2.0, "CF307": 2.0, "CF242": 1.0}
    ),
)
def does_not_fit() -> None:
    """The run does not fit into memory.

    Evidence: for it {pro}; against it {contra}.
    Why: weights, optimiser, activations and logits together are more than the device has.
    Fix: glmdiag memory names the smallest change that fits; checkpointing and fewer tokens a batch
    come first.
    """


@cause("RC034", Signs(found={"LG031": 3.5, "LG030": 3.0, "CF241": 2.0, "HW010": 1.0}))
def slows_down() -> None:
    """The run becomes slower and slower.

    Evidence: for it {pro}; against it {contra}.
    Why: something is kept from step to step (a list of losses with their graphs, a cache), or the
    cache of the allocator is emptied again and again.
    Fix: take .item() or .detach() of what is remembered, leave torch.cuda.empty_cache() out, and
    look at clocks and temperature: glmdiag hw.
    """
