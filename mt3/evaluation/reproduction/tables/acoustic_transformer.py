"""The Acoustic-Transformer paper (Kim and Ahn): its network and MT3's, five trainings each, on Slakh.

Published are batch 4, AdamW, 511 frames, the updates and the learning rates. The
rest is as MT3 trains.
"""

from __future__ import annotations

from mt3.evaluation.published_results import (
    ACOUSTIC_TRANSFORMER_TRAININGS,
    PublishedScore,
    acoustic_transformer_system,
    rate_name,
)
from mt3.evaluation.reproduction.plan import Table, Training

# System in the paper -> architecture here, and what its trainings are called.
_ARCHITECTURES = {"Acoustic-Transformer": "acoustic_transformer", "MT3": "mt3"}


def _training(architecture: str, num_steps: int, learning_rate: float) -> Training:
    bindings = {
        "TASK": "slakh_notes_ties_vb1_train",
        "DATASETS": "slakh",
        "BATCH_SIZE": 4,
        "ModelSpec.input_frames": 511,
        "OptimizerConfig.name": "adamw",
        "OptimizerConfig.learning_rate": learning_rate,
    }
    if architecture != "mt3":
        bindings["ModelSpec.architecture"] = architecture
    return Training(
        f"{architecture}_slakh_{num_steps // 1000}k_{rate_name(learning_rate)}",
        ("mt3_small.gin",),
        bindings,
        num_steps,
        ("slakh",),
        architecture=architecture,
    )


_BY_SYSTEM = {
    acoustic_transformer_system(system, num_steps, rate): _training(architecture, num_steps, rate)
    for system, architecture in _ARCHITECTURES.items()
    for num_steps, rate in ACOUSTIC_TRANSFORMER_TRAININGS
}


def _training_of(score: PublishedScore) -> Training:
    return _BY_SYSTEM[score.system]


TABLE = Table(
    "acoustic-transformer",
    "A convolutional acoustic model before the Transformer, and MT3, on Slakh",
    _training_of,
    remark="what the paper does not say of training is as MT3's",
)
