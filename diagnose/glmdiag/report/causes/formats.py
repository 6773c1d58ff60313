"""Causes in the number format and in the environment."""

from __future__ import annotations

from glmdiag.report.suspects import Signs, cause, gradient, told


@cause("RC011", Signs(found={"CF202": 5.0, "CF111": 4.0, "HW003": 2.0, "HW009": 0.5, "HW002": 0.5}))
def bf16_without_units() -> None:
    """Training is in bf16 on hardware that has none.

    Evidence: for it {pro}; against it {contra}.
    Why: cards before Ampere (V100, T4, 2080 Ti) compute bf16 by emulation, at a fraction of the
    speed, or refuse it in the middle of a run.
    Fix: set fp16 with loss scaling, or fp32 for a small model; glmdiag config FILE --fix OUT writes
    it. glmtrain takes what the card can with --dtype auto.
    """


@cause(
    "RC012", Signs(found={"CF201": 5.0, "LG034": told(2.0, "fp16 and bf16", "bfloat16 and fp16")})
)
def both_formats() -> None:
    """Both bf16 and fp16 are asked for.

    Evidence: for it {pro}; against it {contra}.
    Why: they exclude each other. Trainers refuse to start, or one of the two wins without a word.
    Fix: leave one of them, bf16 where glmdiag hw recommends it; glmdiag config FILE --fix OUT.
    """


@cause(
    "RC013",
    Signs(
        found={
            "CF203": 4.5,
            "LG034": told(2.0, "DeepSpeed config values that mismatch"),
            "CF204": 3.0,
            "CF215": 1.0,
        }
    ),
)
def formats_differ() -> None:
    """DeepSpeed and the trainer compute in different formats.

    Evidence: for it {pro}; against it {contra}.
    Why: the model is made in one and the optimiser in the other, which ends in an error about
    types, in an unused loss scale, or in weights that were rounded twice.
    Fix: write "auto" for bf16.enabled and fp16.enabled in the DeepSpeed file, so that the trainer's
    settings count.
    """


@cause(
    "RC014",
    Signs(
        found={
            "LG025": 4.5,
            "LG121": 4.5,
            "CF121": 4.0,
            "CF124": 4.0,
            "LG010": 1.0,
            "LG007": gradient(zero=False),
            "CF208": 0.5,
        }
    ),
)
def fp16_overflows() -> None:
    """Fp16 does not hold the numbers of this model.

    Evidence: for it {pro}; against it {contra}.
    Why: fp16 ends at 65,504. Loss scaling helps gradients that are too small, not activations that
    are too large: the scale falls, step after step is skipped, and nothing is learned.
    Fix: train in bf16, on a card without it in fp32; glmdiag preflight shows the layer.
    """


@cause("RC015", Signs(found={"CF205": 3.5, "LG005": 1.0, "LG040": 1.0, "LG014": 0.5}))
def updates_are_rounded_away() -> None:
    """Weights are kept in half precision, where small updates are lost.

    Evidence: for it {pro}; against it {contra}.
    Why: bf16 has 8 bits: an update below a 256th of a weight rounds to nothing. The loss hardly
    moves though gradients are sound.
    Fix: keep the weights that learn in fp32 (glmtrain does unless precision.pure is set): load the
    model in fp32 and train under autocast with bf16: true.
    """


@cause(
    "RC047",
    Signs(
        found={"CF211": 4.5, "CK028": 4.5, "CF219": 4.0, "CF214": 3.5, "CF212": 3.5, "CF213": 1.5}
    ),
)
def zero3_misused() -> None:
    """ZeRO-3 is used where it does not fit.

    Evidence: for it {pro}; against it {contra}.
    Why: it slices weights that an adapter does not train, cannot slice quantised ones, and saves
    nothing whole unless it is told to gather.
    Fix: take ZeRO-2 (or plain DDP for LoRA), or set stage3_gather_16bit_weights_on_model_save.
    """


@cause(
    "RC051",
    Signs(
        found={
            "EN011": 4.5,
            "LG034": told(1.5, "ImportError", "AttributeError", "TypeError"),
            "EN013": 4.0,
            "EN014": 4.0,
            "EN015": 4.0,
            "EN016": 4.0,
            "EN018": 4.0,
            "EN019": 4.0,
            "EN012": 3.0,
            "EN017": 2.0,
        }
    ),
)
def code_does_not_fit() -> None:
    """The model's own code does not fit the installed libraries.

    Evidence: for it {pro}; against it {contra}.
    Why: code that lies beside weights was written for one version of transformers; later ones
    removed what it calls, so it fails, or pads and generates differently.
    Fix: take the weights in the form that transformers itself knows (glm-4-9b-chat-hf), or install
    the version that config.json names; glmdiag env --model DIR lists the places.
    """
