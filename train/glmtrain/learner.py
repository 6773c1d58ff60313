"""A model with its loss, as one module from a batch to what is minimised.

One module with one way in, because whatever shares the work among devices wraps a module and acts
when it is called.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from glmtrain.batches import Inputs
from glmtrain.loss import Objective, each_loss, summed_loss
from glmtrain.model import CausalModel

Returns: TypeAlias = Literal["sum", "each", "own"]


class Learner(nn.Module):
    """A causal language model of which some weights learn.

    `adapter` is peft's view of the model, or a prefix; None where all of it learns. `objective` is
    what is minimised.
    """

    adapter: Any

    def __init__(
        self,
        causal: CausalModel,
        *,
        objective: Objective,
        adapter: Any | None = None,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.objective = objective
        # Not a submodule: its weights are the model's own.
        object.__setattr__(self, "adapter", adapter)

    def learning(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by their names in the causal model."""
        named = self.causal.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def forward(self, inputs: Inputs, returns: Returns = "sum") -> Tensor:
        """Cross-entropy of the labelled tokens in float32.

        sum: what is minimised, as one number. each: that of every token, [labelled], without
        smoothing or gradient. own: the same, by the logits that the model itself makes, which takes
        their memory and is there to compare with.
        """
        if returns == "own":
            return self._own(inputs)
        loss = summed_loss if returns == "sum" else each_loss
        head = self.causal.get_output_embeddings()
        return loss(self.states(inputs), inputs.labels, head, self.objective)

    def states(self, inputs: Inputs) -> Tensor:
        """The decoder's last hidden states, [rows, length, width]."""
        states: Tensor = self.causal.get_decoder()(**self._places(inputs)).last_hidden_state
        return states

    def _own(self, inputs: Inputs) -> Tensor:
        logits = self.causal(**self._places(inputs)).logits[:, :-1].float()
        targets = inputs.labels[:, 1:]
        labelled = targets >= 0
        return cross_entropy(logits[labelled], targets[labelled], reduction="none")

    def _places(self, inputs: Inputs) -> dict[str, Any]:
        return {
            "input_ids": inputs.input_ids,
            "position_ids": inputs.position_ids,
            "attention_mask": inputs.attention_mask,
            "use_cache": False,
        }
