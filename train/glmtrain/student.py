"""A learner that has a teacher: what it minimises is in part the distance to a larger model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glmtrain import settings
from glmtrain.batches import Inputs
from glmtrain.imitation import Told, hidden_distance, imitation_loss
from glmtrain.learner import Learner, Returns
from glmtrain.loss import labelled
from glmtrain.model import CausalModel, head_weight

PROJECTION = "projection.weight"
"""The name, among the weights that learn, of what maps hidden states to the teacher's width."""


class Student(Learner):
    """A learner whose summed loss also counts how far it is from its teacher.

    The losses of single tokens are its own alone. Where hidden states are compared and widths
    differ, the student's are projected by a matrix that learns with it (as in TinyBERT, Jiao et al.
    2020); it is kept in checkpoints and not part of the model that comes of the run.
    """

    teacher: Learner

    def __init__(
        self, learner: Learner, *, teacher: Learner, chosen: settings.Distill, seed: int
    ) -> None:
        super().__init__(learner.causal, objective=learner.objective, adapter=learner.adapter)
        # Not a submodule: it is not trained, saved, or shared out among devices.
        object.__setattr__(self, "teacher", teacher)
        self.chosen = chosen
        self.projection = _projection(self.causal, teacher.causal, seed) if chosen.hidden else None

    def learning(self) -> dict[str, nn.Parameter]:
        """The weights that learn, by their names in the causal model, and the projection."""
        found = super().learning()
        if self.projection is not None:
            found |= self.projection.named_parameters(prefix="projection")
        return found

    def forward(self, inputs: Inputs, returns: Returns = "sum") -> Tensor:
        """As `Learner.forward`, save that the sum is compared with the teacher, too."""
        if returns != "sum":
            return super().forward(inputs, returns)
        with torch.no_grad():
            known, _ = labelled(self.teacher.states(inputs), inputs.labels)
        rows, targets = labelled(self.states(inputs), inputs.labels)
        loss = imitation_loss(
            rows,
            targets,
            self.causal.get_output_embeddings(),
            self.objective,
            told=Told(rows=known, head=self.teacher.causal.get_output_embeddings()),
            weight=self.chosen.weight,
            temperature=self.chosen.temperature,
        )
        if self.chosen.hidden:
            projected = rows if self.projection is None else self.projection(rows)
            loss = loss + self.chosen.hidden * hidden_distance(projected, known)
        return loss


def _projection(student: CausalModel, teacher: CausalModel, seed: int) -> nn.Linear | None:
    """From the student's width to the teacher's, the same for the same seed; None if not needed."""
    known, wanted = (head_weight(each).shape[1] for each in (student, teacher))
    if known == wanted:
        return None
    layer = nn.Linear(known, wanted, bias=False)
    random = torch.Generator().manual_seed(seed)
    nn.init.normal_(layer.weight, std=known**-0.5, generator=random)
    return layer
