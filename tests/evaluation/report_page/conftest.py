"""Results directories of two systems on a few recordings."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mt3.evaluation.metrics import score
from mt3.evaluation.results import EvaluationResult, RecordingResult, Skipped, keep_notes, write_results
from mt3.symbolic.notes import Notes

# Names are whatever a dataset calls its recordings.
HOSTILE = "</script><img src=x onerror=alert(1)>&amp;'\"\u2028"
SHORT, LONG, WITHOUT_NOTES = "short", "a/long", "without notes"


def tune(seconds: float, seed: int = 0) -> Notes:
    """Piano chords, a bass and a drum, from 0 on."""
    rows = []
    for beat, onset in enumerate(np.arange(0, seconds - 0.5, 0.5).tolist()):
        pitch = 60 + (beat * 5 + seed) % 12
        rows += [(onset, onset + 0.45, pitch + third, 50 + beat % 60, 0, False) for third in (0, 4, 7)]
        rows += [(onset, onset + 0.5, pitch - 24, 90, 33, False), (onset, onset + 0.1, 36, 100, 0, True)]
    return Notes.from_rows(rows)


def transcribed(notes: Notes, seed: int, share_wrong: float) -> Notes:
    """An estimate with faults of every kind."""
    rng = np.random.default_rng(seed)
    fault = np.where(rng.random(len(notes)) < share_wrong, rng.integers(1, 7, len(notes)), 0)
    pitched = ~notes.is_drum
    estimate = notes.replace(
        offset_seconds=np.where(fault == 1, notes.offset_seconds + 0.3, notes.offset_seconds),
        program=np.where((fault == 2) & pitched, 48, notes.program),
        onset_seconds=np.where(fault == 3, notes.onset_seconds + 0.09, notes.onset_seconds),
        pitch=np.where((fault == 4) & pitched, notes.pitch + 12, np.where(fault == 5, 20, notes.pitch)),
    )
    return estimate[fault != 6]


def write_run(directory: Path, seed: int, share_wrong: float) -> None:
    """Results of a system; one recording has no notes, one was not scored."""
    scored = []
    for id, notes in {
        SHORT: tune(6.0),
        HOSTILE: tune(4.0, 3),
        LONG: tune(240.0, 5),
        WITHOUT_NOTES: tune(5.0, 7),
    }.items():
        estimate = transcribed(notes, seed + len(scored), share_wrong)
        dataset = "urmp" if id == LONG else "slakh"
        result = RecordingResult(id, score(notes, estimate), len(notes), len(estimate), dataset=dataset)
        scored.append(dataclasses.replace(result, invalid_events=2))
        if id != WITHOUT_NOTES:
            keep_notes(directory, id, notes, estimate)
    settings = {
        "checkpoint": f"runs/{directory.name}",
        "configuration": "many\nlines",
        "data": {"slakh": {"split": "test"}},
        "metrics": ["onset", "frame"],
    }
    skipped = (Skipped("broken", "its audio ends <too> soon"),)
    write_results(EvaluationResult(tuple(scored), skipped, settings), directory)


@pytest.fixture(scope="session")
def run_directories(tmp_path_factory):
    """Of a worse and a better system; not to be changed."""
    folder = tmp_path_factory.mktemp("results")
    write_run(folder / "worse", 1, 0.4)
    write_run(folder / "better", 2, 0.1)
    return folder / "worse", folder / "better"
