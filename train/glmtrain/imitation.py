"""What a student is told by its teacher: distributions over the vocabulary, and hidden states.

Both are compared at labelled positions only, distributions chunk by chunk as in `loss`, so that
neither model's logits of a whole batch are ever held.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from glmtrain import heads
from glmtrain.loss import Objective, chunked_loss, loss_and_slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A teacher's hidden states [labelled, width], and the output layer that makes its logits."""

    rows: Tensor
    head: nn.Module


def imitation_loss(
    rows: Tensor,
    targets: Tensor,
    head: nn.Module,
    objective: Objective,
    *,
    told: Told,
    weight: float,
    temperature: float,
) -> Tensor:
    """Sum of (1 - weight) x objective + weight x T^2 x KL(teacher || student), a float32 scalar.

    rows: [labelled, width], the student's hidden states; targets: [labelled]; head: its output
    layer. Both distributions are softened by the temperature T, and T^2 keeps the size of their
    gradient (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"). Where one
    vocabulary is padded with more rows, they are over the smaller one. The gradient is the
    student's alone, and freed by the first backward pass.
    """
    teacher = heads.layer(told.head, told.rows, objective.dtype)

    def score(logits: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        soft, pull = _divergence_and_slope(logits, teacher.logits(chunk), temperature)
        hard, slope = loss_and_slope(logits, targets[chunk], objective)
        slope *= 1 - weight
        slope[:, : pull.shape[-1]] += pull.mul_(weight)
        return (1 - weight) * hard + weight * soft, slope

    return chunked_loss(rows, head, objective.dtype, score)


def hidden_distance(rows: Tensor, told: Tensor) -> Tensor:
    """Sum of 1 - cosine between two models' hidden states [labelled, width], a float32 scalar.

    From DistilBERT (Sanh et al. 2019): unlike the squared distance it does not depend on how long
    a model's states are, so one weight suits all.
    """
    return (1 - cosine_similarity(rows.float(), told.float(), dim=-1)).sum()


def _divergence_and_slope(
    logits: Tensor, teacher: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """T^2 KL(teacher || student) over the smaller vocabulary, and its derivative by the logits."""
    shared = min(logits.shape[-1], teacher.shape[-1])
    student = (logits[:, :shared] / temperature).log_softmax(dim=-1)
    likely = (teacher[:, :shared] / temperature).log_softmax(dim=-1)
    probabilities = likely.exp()
    divergence = (likely.sub_(student)).mul_(probabilities).sum()
    slope = student.exp_().sub_(probabilities).mul_(temperature)
    return temperature**2 * divergence, slope
