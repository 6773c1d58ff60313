"""Loss on held-out rows while a run goes on."""

from __future__ import annotations

from glmprep.errors import UsageError

from glmtrain import data, evaluate
from glmtrain.batches import collate
from glmtrain.devices import Place
from glmtrain.measuring import measuring
from glmtrain.settings import Config
from glmtrain.strategies import Strategy


class Validation:
    """The same rows each time, drawn by the seed from `data.validation`; each process has a share.

    Raises UsageError where they were not made as the rows to learn were.
    """

    def __init__(self, config: Config, learned: data.TrainingData, place: Place) -> None:
        assert config.data.validation is not None
        assert config.data.tokens_per_batch is not None
        self._place = place
        self._data = data.load([config.data.validation])
        if self._data.manifests[0].tokenizer != learned.manifests[0].tokenizer:
            raise UsageError(
                f"{config.data.validation}: made with another tokenizer than what is trained on"
            )
        places = evaluate.drawn(
            self._data,
            config.evaluation.tokens,
            tokens_per_batch=config.data.tokens_per_batch,
            seed=config.run.seed,
            ranks=place.ranks,
        )
        self._batches = [each[place.rank] for each in places]

    def loss(self, strategy: Strategy) -> float:
        """Mean over all labelled tokens, of all processes; a joint act of them."""
        found, tokens = 0.0, 0
        with measuring(strategy) as model:
            for batch in self._batches:
                inputs = collate(self._data.rows, batch, self._data.pad_id, self._place.device)
                found += float(model(inputs, "each").double().sum())
                tokens += inputs.supervised
        total, tokens_of_all = self._place.total([found, tokens])
        return total / tokens_of_all
