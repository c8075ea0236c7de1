"""Scores that papers report, as data: what tables and reports set beside ours.

Values are shares in [0, 1], except where the metric's docstring says otherwise, as
printed; nothing is derived or rounded. Metrics have the names of
`mt3.evaluation.metrics`, datasets those of `mt3.data`. A paper's table is one
`_Grid`: a metric and a system a row, a dataset a column. Where papers disagree
with themselves or with one another, `mt3.evaluation.published_contradictions` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

MT3 = "Gardner et al., MT3, ICLR 2022 (arXiv 2111.03017)"
MR_MT3 = "Tan et al., MR-MT3, 2024 (arXiv 2403.10024)"
YOURMT3 = "Chang et al., YourMT3+, 2024 (arXiv 2407.04822)"
ACOUSTIC_TRANSFORMER = "Kim and Ahn, Acoustic-Transformer"
INSTRUMENT_RECOGNITION = "Hung, Chen and Yang, ICASSP 2019 (arXiv 1811.01143)"
ISMIR_2021 = "Hawthorne et al., ISMIR 2021 (arXiv 2107.09142)"
TRANSKUN = "Yan and Duan, Transkun V2, 2024 (arXiv 2404.09466)"

# Datasets of the MT3 paper, in the order of its tables.
MT3_DATASETS = ("maestrov3", "cerberus4", "guitarset", "musicnet", "slakh", "urmp")

ONSET = "Onset F1"
ONSET_OFFSET = "Onset + offset F1"
ONSET_OFFSET_VELOCITY = "Onset + offset + velocity F1"
FRAME = "Frame F1"
# Of one granularity of programs.
PROGRAM = "Onset + offset + program F1 ({})"
# The same without offsets, which is MR-MT3's multi-instrument F1.
ONSET_PROGRAM = "Onset + program F1 ({})"
# Cells of one piano roll of all instruments.
PIANO_ROLL = "Piano roll {}"

SINGLE_DATASET = "MT3, single dataset"
MIXTURE = "MT3, mixture"
LEAVE_ONE_OUT = "MT3, zero-shot"
RESCORED = "MT3, public checkpoint, corrected bass"


@dataclasses.dataclass(frozen=True)
class PublishedScore:
    """One number of a paper.

    Attributes:
      table: which table it belongs to, by the name that `mt3 reproduce` knows it by,
        or "later", "instrument-recognition" or "piano".
      system: what was scored.
      dataset: whose test split.
      metric: as `mt3.evaluation.metrics` calls it.
      value: as printed.
      source: the paper, and its table where known.
      note: what has to be known to compare it.
    """

    table: str
    system: str
    dataset: str
    metric: str
    value: float
    source: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class _Grid:
    """A published table.

    Attributes:
      table, source, note: of all its scores, see `PublishedScore`.
      columns: datasets.
      rows: (system, metric, value a column); None where the table is empty.
    """

    table: str
    source: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[float | None]]]
    note: str = ""

    def scores(self) -> Iterator[PublishedScore]:
        for system, metric, values in self.rows:
            for dataset, value in zip(self.columns, values, strict=True):
                if value is not None:
                    yield PublishedScore(self.table, system, dataset, metric, value, self.source, self.note)


def acoustic_transformer_system(name: str, num_steps: int, learning_rate: float) -> str:
    """What a system of the Acoustic-Transformer paper is called here; it has five trainings of each."""
    return f"{name}, {num_steps // 1000}K steps, rate {rate_name(learning_rate)}"


def rate_name(learning_rate: float) -> str:
    """A power of ten as it is written: 1e-4."""
    return f"{learning_rate:.0e}".replace("e-0", "e-")


# (updates, learning rate) of the Acoustic-Transformer paper's columns.
ACOUSTIC_TRANSFORMER_TRAININGS = (
    (50_000, 1e-4),
    (150_000, 1e-4),
    (50_000, 1e-3),
    (150_000, 1e-3),
    (500_000, 1e-3),
)


def _acoustic_transformer_rows() -> Iterator[tuple[str, str, Sequence[float]]]:
    # F1, precision, recall of each training.
    values = {
        "Acoustic-Transformer": (
            (0.556, 0.728, 0.456),
            (0.478, 0.654, 0.385),
            (0.172, 0.271, 0.129),
            (0.344, 0.453, 0.278),
            (0.300, 0.382, 0.258),
        ),
        "MT3": (
            (0.691, 0.781, 0.624),
            (0.678, 0.776, 0.607),
            (0.619, 0.711, 0.552),
            (0.601, 0.702, 0.529),
            (0.598, 0.701, 0.526),
        ),
    }
    for name, trainings in values.items():
        for (num_steps, rate), scores in zip(ACOUSTIC_TRANSFORMER_TRAININGS, trainings, strict=True):
            system = acoustic_transformer_system(name, num_steps, rate)
            for word, value in zip(("F1", "precision", "recall"), scores, strict=True):
                yield system, PIANO_ROLL.format(word), (value,)


_GRIDS = (
    _Grid(
        "table2",
        f"{MT3}, Table 2",
        MT3_DATASETS,
        (
            (SINGLE_DATASET, FRAME, (0.8815, 0.854, 0.8177, 0.5972, 0.7848, 0.492)),
            (MIXTURE, FRAME, (0.8615, 0.8704, 0.888, 0.6766, 0.7857, 0.8252)),
            (SINGLE_DATASET, ONSET, (0.9601, 0.8921, 0.828, 0.3866, 0.7583, 0.4003)),
            (MIXTURE, ONSET, (0.9455, 0.9187, 0.895, 0.5016, 0.7585, 0.77)),
            (SINGLE_DATASET, ONSET_OFFSET, (0.8431, 0.7584, 0.6546, 0.2143, 0.5724, 0.1589)),
            (MIXTURE, ONSET_OFFSET, (0.7987, 0.7977, 0.7822, 0.3301, 0.5727, 0.5776)),
        ),
        note="datasets drawn with temperature in the mixture",
    ),
    _Grid(
        "table3",
        f"{MT3}, Table 3",
        MT3_DATASETS,
        tuple(
            (f"{MIXTURE}, {granularity}", PROGRAM.format(granularity), values)
            for granularity, values in {
                "flat": (0.807, 0.7363, 0.7837, 0.3312, 0.4777, 0.6216),
                "midi_class": (0.8024, 0.811, 0.7825, 0.3127, 0.6188, 0.5913),
                "full": (0.8164, 0.7577, 0.7815, 0.3396, 0.5453, 0.4979),
            }.items()
        ),
        note="drums by onset only",
    ),
    _Grid(
        "table5",
        f"{MT3}, Table 5",
        MT3_DATASETS,
        ((LEAVE_ONE_OUT, ONSET, (0.2843, 0.2063, 0.3152, 0.1835, 0.1385, 0.2252)),),
        note="of the dataset that was left out of training",
    ),
    _Grid(
        "later",
        f"{MT3}: the public checkpoint, as later papers score it",
        ("slakh", "maestrov3"),
        (
            (RESCORED, ONSET, (0.760, 0.9455)),
            (RESCORED, ONSET_PROGRAM.format("midi_class"), (0.580, None)),
            (RESCORED, "Instrument leakage ratio", (1.65, None)),
        ),
        note="with Slakh's bass labels corrected",
    ),
    _Grid(
        "later",
        MR_MT3,
        ("slakh",),
        (
            ("MR-MT3", ONSET_PROGRAM.format("midi_class"), (0.700,)),
            ("MR-MT3", "Instrument leakage ratio", (1.18,)),
        ),
    ),
    _Grid(
        "later",
        YOURMT3,
        ("slakh", "maestrov3"),
        (
            ("YourMT3+", ONSET, (0.8419, 0.9606)),
            ("YourMT3+", "Multi-instrument F1", (0.7398, None)),
        ),
    ),
    _Grid(
        "acoustic-transformer",
        ACOUSTIC_TRANSFORMER,
        ("slakh",),
        tuple(_acoustic_transformer_rows()),
        note="time frames of all instruments together",
    ),
    _Grid(
        "instrument-recognition",
        INSTRUMENT_RECOGNITION,
        ("musescore",),
        (
            ("pianoroll loss only", "Pianoroll accuracy", (0.623,)),
            ("instrument loss only", "Instrument F1", (0.896,)),
            ("pitch loss only", "Pitch accuracy", (0.799,)),
            ("all three losses", "Instrument F1", (0.947,)),
            ("all three losses", "Pitch accuracy", (0.803,)),
            ("all three losses", "Pianoroll accuracy", (0.647,)),
        ),
        note="9 instruments",
    ),
    _Grid(
        "instrument-recognition",
        INSTRUMENT_RECOGNITION,
        ("medleydb+mixing_secrets",),
        tuple(
            ("multitask", f"Instrument AUC ({name})", (value,))
            for name, value in {
                "piano": 0.718,
                "guitar": 0.819,
                "violin": 0.682,
                "cello": 0.812,
                "flute": 0.961,
                "mean": 0.798,
            }.items()
        ),
        note="per second",
    ),
    _Grid(
        "ismir2021",
        ISMIR_2021,
        ("maestrov3",),
        (
            ("Sequence-to-sequence piano", ONSET, (0.9601,)),
            ("Sequence-to-sequence piano", ONSET_OFFSET, (0.8394,)),
        ),
        note="127 velocities, no ties, 400,000 updates",
    ),
    _Grid(
        "piano",
        TRANSKUN,
        ("maestrov3",),
        (
            ("Transkun V2", ONSET, (0.9832,)),
            ("Transkun V2", ONSET_OFFSET, (0.9349,)),
            ("Transkun V2", ONSET_OFFSET_VELOCITY, (0.9296,)),
        ),
    ),
)

PUBLISHED_SCORES: tuple[PublishedScore, ...] = tuple(score for grid in _GRIDS for score in grid.scores())


def find(
    table: str | None = None,
    system: str | None = None,
    dataset: str | None = None,
    metric: str | None = None,
) -> tuple[PublishedScore, ...]:
    """The published scores that have all the given values, in their papers' order; None fits any."""
    wanted = {"table": table, "system": system, "dataset": dataset, "metric": metric}
    return tuple(
        score
        for score in PUBLISHED_SCORES
        if all(value is None or getattr(score, name) == value for name, value in wanted.items())
    )
