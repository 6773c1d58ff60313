"""Did it learn: the answers of a finished run, by the model that it began with and the one it left.

Trained answers tell whether the loss fell, the same behind other prompts whether it fell for more
than their manner, and held-out ones whether more was learned than the trained ones by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from glmprep.errors import InputError, UsageError
from glmprep.findings import Finding
from glmprep.shards import MANIFEST
from glmreport.text import Text
from torch import Tensor

from glmtrain import (
    inference,
    learned,
    model,
    newtokens,
    output,
    rules,
    settings,
    trained,
)
from glmtrain.evaluate import Mean, mean, summed
from glmtrain.generate import Speaker
from glmtrain.learned import Learned, Measured
from glmtrain.learner import Learner
from glmtrain.loss import Objective
from glmtrain.model import CausalModel
from glmtrain.precision import Precision
from glmtrain.sample import Sample, draw
from glmtrain.trained import Loaded, Trained

WRITTEN, MOST_WRITTEN = 8, 64
"""How many answers are generated, and how many tokens of each."""
PROMPT_END = 48
"""Tokens of a prompt that are shown."""

Verdict: TypeAlias = Literal["learned", "memorised", "unchanged", "worse"]
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The run's folder, and `count` answers of each kind to draw.

    `shards` and `model` say where the run's data and base lie now, `validation` which shards are
    held out. What is None is as the run has it.
    """

    run: Path
    shards: Sequence[str] = ()
    validation: str | None = None
    model: str | None = None
    tokenizer: str | None = None
    count: int = 20
    seed: int | None = None
    dtype: settings.DType = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The mean loss of held-out answers, and by how much it rose, in nats a token."""

    before: float
    after: float
    rise: Mean

    def as_json(self) -> dict[str, float | int]:
        """The same as JSON values."""
        counts = {"answers": self.rise.rows, "tokens": self.rise.tokens}
        rise = {"rise": self.rise.value, "standard_error": self.rise.error}
        return {**counts, "before": self.before, "after": self.after, **rise}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A trained answer and what the model writes in its place, behind the prompt with this end.

    Of the answer's `tokens`, MOST_WRITTEN at most, the first `same` were written again.
    """

    prompt: str
    answer: str
    made: str
    same: int
    tokens: int

    @property
    def exact(self) -> bool:
        """Whether it is the answer token by token."""
        return self.same == self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of the run in `folder`; `held_out` is None where there are no such answers.

    `remarks` say what is not as one would expect.
    """

    folder: Path
    method: settings.Method
    shards: Sequence[str]
    validation: str | None
    learned: Learned
    held_out: HeldOut | None
    written: Sequence[Written]
    remarks: Sequence[Text]

    @property
    def verdict(self) -> Verdict:
        """Whether the loss of trained answers fell, and not at the cost of others."""
        return "memorised" if self._memorised() else self.learned.verdict

    def findings(self) -> list[Finding]:
        """What stands out."""
        found = learned.judge(self.learned)
        if facts := self._memorised():
            found.append(rules.only_memorised.finding("run", **facts))
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "run": str(self.folder),
            "shards": list(self.shards),
            "validation": self.validation,
            "verdict": self.verdict,
            "learned": self.learned.as_json(),
            "held_out": self.held_out and self.held_out.as_json(),
            "written": [{**asdict(each), "exact": each.exact} for each in self.written],
        }

    def _memorised(self) -> Any:
        return self.held_out and rules.only_memorised(self.learned, self.held_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one model makes of a sample; `held_out` has the losses of each answer's tokens."""

    trained: Measured
    held_out: Sequence[Tensor]


def verify(wanted: Wanted, progress: Progress) -> Verification:
    """Measure a run; raises SuiteError (and its kinds) for what is no run, or no longer whole."""
    run = trained.read(wanted.run)
    path = wanted.model or run.config.model.path
    folders = trained.shards_of(run, wanted.shards)
    validation, remarks = _validation(wanted, run)
    read, unread = _reader(wanted.tokenizer, path, run)
    remarks += unread
    if run.config.model.adapter is not None:
        remarks.append(Text("verify.remark.adapter", adapter=run.config.model.adapter))
    with model.quiet_libraries():
        sample, before, lost = _draw(wanted, run, path, folders, validation)
        remarks += lost
        loaded = trained.load(str(run.folder) if run.whole else path, run, wanted.dtype)
        after = _side(loaded.causal, loaded.precision, sample)
        written = _write(loaded, sample, read, progress)
        if before is None:
            assert loaded.adapter is not None
            with loaded.adapter.disable_adapter():
                before = _side(loaded.causal, loaded.precision, sample)
    return Verification(
        folder=run.folder,
        method=run.config.model.method,
        shards=folders,
        validation=validation if sample.held_out else None,
        learned=Learned(
            before=before.trained,
            after=after.trained,
            answers=len(sample.trained),
            tokens=sum(len(exchange.answer) for exchange in sample.trained),
            exact=sum(each.exact for each in written) / len(written),
        ),
        held_out=_held_out(before, after),
        written=written,
        remarks=remarks,
    )


def _validation(wanted: Wanted, run: Trained) -> tuple[str | None, list[Text]]:
    """The folder of held-out rows, and what is to be said where the run's is no longer there."""
    known = run.config.data.validation
    if wanted.validation is not None or known is None:
        return wanted.validation, []
    if (Path(known) / MANIFEST).is_file():
        return known, []
    return None, [Text("verify.remark.validation", folder=known)]


def _reader(
    asked: str | None, base: str, run: Trained
) -> tuple[Callable[[Sequence[int]], str], list[Text]]:
    """What makes texts of ids; the ids themselves where the run's tokenizer is not at hand."""
    try:
        return inference.tokenizer_of(asked, base, run).decode, []
    except UsageError:
        if asked is not None:
            raise
        return lambda ids: " ".join(map(str, ids)), [Text("verify.remark.tokenizer")]


def _draw(
    wanted: Wanted, run: Trained, path: str, folders: Sequence[str], validation: str | None
) -> tuple[Sample, Side | None, list[Text]]:
    """A sample, and what the base makes of it where no adapter can be taken off to see that.

    Where the base is gone, what the run measured of its own sample stands in. By the run's seed any
    sample begins with that one.
    """
    own, base = run.config.run, None
    chosen = trained.precision_of(wanted.dtype)
    if run.whole:
        try:
            base = trained.base(path, run, chosen)
        except InputError:
            if wanted.model is not None:
                raise
            sample = draw(folders, None, seed=own.seed, tokens=own.sample_tokens)
            return sample, _recorded(run), [Text("verify.remark.base", path=path)]
    seed = own.seed if wanted.seed is None else wanted.seed
    sample = draw(folders, validation, seed=seed, most=wanted.count)
    if base is None:
        return sample, None, []
    newtokens.make_room(base, sample.largest_id)
    return sample, _side(base.to(chosen.device, chosen.dtype).eval(), chosen, sample), []


def _recorded(run: Trained) -> Side:
    """What the run itself measured of its own sample before its first step."""
    before = output.read_record(run.folder)["learned"]["before"]
    return Side(trained=Measured.from_json(before), held_out=[])


@torch.no_grad()
def _side(causal: CausalModel, precision: Precision, sample: Sample) -> Side:
    learner = Learner(causal, objective=Objective(dtype=precision.dtype)).eval()
    held = (exchange.inputs() for exchange in sample.held_out)
    with precision.autocast():
        return Side(
            trained=learned.measure(learner, sample.trained, precision.device),
            held_out=learned.losses(learner, held, precision.device),
        )


def _write(
    loaded: Loaded, sample: Sample, read: Callable[[Sequence[int]], str], progress: Progress
) -> list[Written]:
    """Let the model write some of the trained answers again."""
    speaker = Speaker(
        causal=loaded.causal,
        precision=loaded.precision,
        vocabulary=model.head_weight(loaded.causal).shape[0],
    )
    chosen = sample.trained[:WRITTEN]
    written: list[Written] = []
    for exchange in chosen:
        progress(len(written), len(chosen))
        made = learned.again(speaker, exchange, sample.stops, MOST_WRITTEN)
        answer = exchange.answer[:MOST_WRITTEN].tolist()
        differs = [one != other for one, other in zip(answer, made, strict=False)]
        written.append(
            Written(
                prompt=read(exchange.prompt[-PROMPT_END:].tolist()),
                answer=read(answer),
                made=read(made),
                same=[*differs, True].index(True),
                tokens=len(answer),
            )
        )
    progress(len(chosen), len(chosen))
    return written


def _held_out(before: Side, after: Side) -> HeldOut | None:
    if not before.held_out:
        return None
    row = np.repeat(np.arange(len(before.held_out)), [len(each) for each in before.held_out])
    once, now = (torch.cat([*side.held_out]).double().cpu().numpy() for side in (before, after))
    rise = mean(summed(row, now - once))
    return HeldOut(before=float(once.mean()), after=float(now.mean()), rise=rise)
