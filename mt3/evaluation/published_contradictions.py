"""Where published tables cannot all be right, or are not of what they seem to be.

Each rule compares numbers of `mt3.evaluation.published_results` with what must
hold for scores of one set of transcriptions, and names those that do not:

- A note that is right at a finer granularity of programs is right at a coarser
  one, so F1 cannot rise from coarse to fine.
- A note that is right in onset, offset and program is right in onset and offset,
  so F1 with programs cannot exceed F1 without where there are no drums, which
  only the former counts.
- A note that is right in onset and offset is right in onset.

They hold for every recording, hence for means over recordings. What cannot be
derived from the numbers, but is known of them, is a rule that says so.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

from mt3.evaluation.published_results import (
    ISMIR_2021,
    LEAVE_ONE_OUT,
    MIXTURE,
    MT3_DATASETS,
    ONSET,
    ONSET_OFFSET,
    ONSET_OFFSET_VELOCITY,
    ONSET_PROGRAM,
    PROGRAM,
    RESCORED,
    SINGLE_DATASET,
    PublishedScore,
    find,
)

# From coarse to fine.
_GRANULARITIES = ("flat", "midi_class", "full")
# Datasets whose labels have no drums.
_PITCHED_DATASETS = ("maestrov3", "guitarset", "musicnet", "urmp")


@dataclasses.dataclass(frozen=True)
class Contradiction:
    """Published scores that do not fit together.

    Attributes:
      scores: those.
      reason: why not, and what it means for whoever compares with them.
    """

    scores: tuple[PublishedScore, ...]
    reason: str


def contradictions(table: str | None = None) -> tuple[Contradiction, ...]:
    """All that the rules find; of a table, those that have a score of it."""
    found = [contradiction for rule in _RULES for contradiction in rule()]
    return tuple(one for one in found if table is None or any(score.table == table for score in one.scores))


def _finer_is_better() -> Iterator[Contradiction]:
    for coarse, fine in itertools.combinations(_GRANULARITIES, 2):
        wrong = [
            (lower, higher)
            for dataset in MT3_DATASETS
            for lower in find("table3", dataset=dataset, metric=PROGRAM.format(coarse))
            for higher in find("table3", dataset=dataset, metric=PROGRAM.format(fine))
            if higher.value > lower.value
        ]
        if wrong:
            yield Contradiction(
                tuple(itertools.chain.from_iterable(wrong)),
                f"Table 3 has {fine} above {coarse} ({_compare(wrong)}); one model's notes cannot score "
                "higher at the finer granularity, so its rows are of models trained for each.",
            )


def _programs_are_better() -> Iterator[Contradiction]:
    for granularity in _GRANULARITIES:
        wrong = [
            (lower, higher)
            for dataset in _PITCHED_DATASETS
            for lower in find("table2", MIXTURE, dataset, ONSET_OFFSET)
            for higher in find("table3", dataset=dataset, metric=PROGRAM.format(granularity))
            if higher.value > lower.value
        ]
        if wrong:
            yield Contradiction(
                tuple(itertools.chain.from_iterable(wrong)),
                f"Table 3, {granularity}, with programs, is above Table 2, mixture, without "
                f"({_compare(wrong)}); where there are no drums one model cannot, so the two are of "
                "different trainings.",
            )


def _stricter_is_better() -> Iterator[Contradiction]:
    for loose, strict in itertools.pairwise((ONSET, ONSET_OFFSET, ONSET_OFFSET_VELOCITY)):
        for higher in find(metric=strict):
            for lower in find(higher.table, higher.system, higher.dataset, loose):
                if higher.value > lower.value:
                    yield Contradiction(
                        (lower, higher),
                        f"{higher.system}: {strict} is above {loose} ({_compare([(lower, higher)])}); "
                        "every note that counts for it counts for the other.",
                    )


def _same_onsets_as_before() -> Iterator[Contradiction]:
    for single in find("table2", SINGLE_DATASET, "maestrov3", ONSET):
        for piano in find("ismir2021", metric=ONSET):
            if single.value == piano.value:
                pairs = zip(
                    find("table2", SINGLE_DATASET, "maestrov3", ONSET_OFFSET),
                    find("ismir2021", metric=ONSET_OFFSET),
                    strict=True,
                )
                yield Contradiction(
                    (single, piano, *itertools.chain.from_iterable(pairs)),
                    f"Table 2, single dataset, and {ISMIR_2021} have the same onset F1 on maestrov3 to four "
                    f"digits ({single.value}), though tokens, segments and updates differ, and onset + "
                    "offset F1 does differ: it may be one number, carried over.",
                )


def _leave_one_out() -> Iterator[Contradiction]:
    yield Contradiction(
        find("table5"),
        "Tables 2, 5 and 6 of the paper disagree with one another in places; its leave-one-out onset "
        "scores are no strict targets.",
    )
    yield Contradiction(
        (*find("table5", LEAVE_ONE_OUT, "cerberus4"), *find("table5", LEAVE_ONE_OUT, "slakh")),
        "Cerberus4 is mixed from Slakh's stems: left out alone, either is still heard in training through "
        "the other. Scores as low as these suggest that the paper left out both; to do so, see "
        "configs/leave_one_out.gin.",
    )


def _bass_labels() -> Iterator[Contradiction]:
    (onset,) = find("table2", MIXTURE, "slakh", ONSET)
    (rescored,) = find("later", RESCORED, "slakh", ONSET)
    yield Contradiction(
        (onset, rescored),
        f"The public checkpoint reaches Table 2's onset F1 on slakh ({onset.value}) with corrected bass "
        f"labels only ({rescored.value}; 0.666 with the labels as published). mt3 prepare slakh corrects "
        "them unless SlakhConfig.octave_correction says otherwise.",
    )
    (table3,) = find("table3", dataset="slakh", metric=PROGRAM.format("midi_class"))
    (rescored,) = find("later", RESCORED, "slakh", ONSET_PROGRAM.format("midi_class"))
    yield Contradiction(
        (table3, rescored),
        f"Table 3 has {table3.value} at midi_class on slakh, with offsets; the public checkpoint "
        f"{rescored.value}, without offsets and with corrected labels: it is not the model of that row.",
    )


_RULES: tuple[Callable[[], Iterable[Contradiction]], ...] = (
    _finer_is_better,
    _programs_are_better,
    _stricter_is_better,
    _same_onsets_as_before,
    _leave_one_out,
    _bass_labels,
)


def _compare(pairs: Iterable[tuple[PublishedScore, PublishedScore]]) -> str:
    return ", ".join(f"{higher.dataset} {higher.value} > {lower.value}" for lower, higher in pairs)
