"""Time of scoring: a piece against mir_eval's dense matching, a folder with one process and with more.

python scripts/benchmarks/metrics.py [--notes 5000] [--seconds 240] [--repeats 5] [--pieces 200] [--workers 2]

The second way to score (`dense_scores`) has the published set as the published
code asks mir_eval for it: once for each score of the pitched notes, once for
each instrument at each granularity, and frames from piano rolls.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from music import random_notes

from mt3.evaluation.file_scoring import score_files
from mt3.evaluation.metrics import score
from mt3.inference.formats import write_notes
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import PROGRAM_GRANULARITIES, map_programs

FRAMES_PER_SECOND = 62.5
MIN_NOTE_SECONDS = 0.05
SILENT_VELOCITY = 30
# Of the folder; the others are copies.
NUM_DISTINCT_FILES = 10


def dense_scores(reference: Notes, estimate: Notes) -> dict[str, float]:
    """The published scores with mir_eval's matching and piano rolls of all frames."""
    sides = (reference, estimate)
    pitched = [notes[~notes.is_drum] for notes in sides]
    drums = [notes[notes.is_drum] for notes in sides]
    scores: dict[str, float] = {}
    for name, offset_ratio in (("Onset", None), ("Onset + offset", 0.2)):
        scores |= _named(f"{name} {{}}", _plain(*pitched, offset_ratio))
        scores |= _named(f"{name} + velocity {{}}", _with_velocity(*pitched, offset_ratio))
    scores |= _frames(*pitched)
    for granularity in PROGRAM_GRANULARITIES:
        by_program = [notes.replace(program=map_programs(notes.program, granularity)) for notes in pitched]
        programs = sorted({program for notes in by_program for program in notes.program.tolist()})
        hits = _hits(*drums, None)
        drum_counts = np.array([hits, *map(_count, drums)])
        counts = np.zeros(3, np.int64)
        for program in programs:
            own = [notes[notes.program == program] for notes in by_program]
            counts += [_hits(*own, 0.2), *map(_count, own)]
        for name, part in (
            (f"Onset + offset + program {{}} ({granularity})", counts + drum_counts),
            (f"Drum onset {{}} ({granularity})", drum_counts),
            (f"Nondrum onset + offset + program {{}} ({granularity})", counts),
        ):
            scores |= _named(name, _ratios(*part.tolist()))
    return scores


def _named(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(map(name.format, ("precision", "recall", "F1")), values, strict=True))


def _ratios(hits: int, reference: int, estimate: int) -> tuple[float, float, float]:
    precision = hits / estimate if estimate else 0.0
    recall = hits / reference if reference else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0


def _lasting(notes: Notes) -> Notes:
    return notes[notes.duration_seconds > 0]


def _count(notes: Notes) -> int:
    return len(_lasting(notes))


def _columns(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    import mir_eval

    return np.stack([notes.onset_seconds, notes.offset_seconds], axis=1), mir_eval.util.midi_to_hz(
        notes.pitch
    )


def _hits(reference: Notes, estimate: Notes, offset_ratio: float | None) -> int:
    import mir_eval

    reference, estimate = _lasting(reference), _lasting(estimate)
    if not len(reference) or not len(estimate):
        return 0
    columns = (*_columns(reference), *_columns(estimate))
    return len(mir_eval.transcription.match_notes(*columns, offset_ratio=offset_ratio))


def _plain(reference: Notes, estimate: Notes, offset_ratio: float | None) -> tuple[float, float, float]:
    return _ratios(_hits(reference, estimate, offset_ratio), _count(reference), _count(estimate))


def _with_velocity(
    reference: Notes, estimate: Notes, offset_ratio: float | None
) -> tuple[float, float, float]:
    import mir_eval

    reference, estimate = _lasting(reference), _lasting(estimate)
    if not len(reference) or not len(estimate):
        return 0.0, 0.0, 0.0
    return mir_eval.transcription_velocity.precision_recall_f1_overlap(
        *_columns(reference),
        reference.velocity,
        *_columns(estimate),
        estimate.velocity,
        offset_ratio=offset_ratio,
    )[:3]


def _frames(reference: Notes, estimate: Notes) -> dict[str, float]:
    length = int(max(notes.end_seconds + 1 for notes in (reference, estimate)) * FRAMES_PER_SECOND) + 1
    reference_roll = _roll(reference, length) > SILENT_VELOCITY
    estimate_roll = _roll(estimate, length) > 0
    both = int((reference_roll & estimate_roll).sum())
    values = _ratios(both, int(reference_roll.sum()), int(estimate_roll.sum()))
    return dict(zip(("Frame Precision", "Frame Recall", "Frame F1"), values, strict=True))


def _roll(notes: Notes, length: int) -> np.ndarray:
    """Summed velocities, [128, frames]."""
    roll = np.zeros((128, length), np.int64)
    short = notes.duration_seconds < MIN_NOTE_SECONDS
    offset_seconds = np.where(short, notes.onset_seconds + MIN_NOTE_SECONDS, notes.offset_seconds)
    columns = (notes.onset_seconds, offset_seconds, notes.pitch, notes.velocity)
    for onset, offset, pitch, velocity in zip(*(column.tolist() for column in columns), strict=True):
        roll[pitch, int(onset * FRAMES_PER_SECOND) : int(offset * FRAMES_PER_SECOND)] += velocity
    return roll


def transcription_of(rng: np.random.Generator, notes: Notes) -> Notes:
    """The notes with errors of every kind: shifted, missing, invented, of wrong instruments."""
    count = len(notes)
    onset_seconds = np.maximum(notes.onset_seconds + rng.normal(0, 0.02, count), 0)
    wrong = rng.random(count) < 0.1
    heard = notes.replace(
        onset_seconds=onset_seconds,
        offset_seconds=onset_seconds + notes.duration_seconds * rng.uniform(0.7, 1.3, count),
        program=np.where(wrong & ~notes.is_drum, 0, notes.program),
        velocity=np.clip(notes.velocity + rng.integers(-20, 21, count), 1, 127),
    )[rng.random(count) < 0.9]
    invented = notes[rng.random(count) < 0.1]
    return Notes.concatenate([heard, invented.replace(pitch=np.minimum(invented.pitch + 12, 127))]).sorted()


def seconds_of(function: Callable[[], object], repeats: int) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--notes", type=int, default=5000, help="of a piece")
    parser.add_argument("--seconds", type=float, default=240.0, help="of a piece")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pieces", type=int, default=200, help="in the folder; 0 to leave it out")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    reference = random_notes(rng, options.seconds, options.notes / options.seconds)
    estimate = transcription_of(rng, reference)
    print(f"a piece of {options.seconds:g} s, {len(reference)} notes, {len(estimate)} transcribed")
    ours, theirs = score(reference, estimate), dense_scores(reference, estimate)
    assert ours.keys() == theirs.keys()
    difference = max(abs(ours[name] - theirs[name]) for name in ours)
    print(f"largest difference of {len(ours)} scores: {difference:.1e}")
    fast = seconds_of(lambda: score(reference, estimate), options.repeats)
    dense = seconds_of(lambda: dense_scores(reference, estimate), min(options.repeats, 3))
    print(f"mt3          {fast:8.4f} s per piece")
    print(f"mir_eval     {dense:8.4f} s per piece, {dense / fast:.1f} times as long")
    if options.pieces:
        _time_folder(reference, rng, options.pieces, options.workers)


def _time_folder(notes: Notes, rng: np.random.Generator, num_pieces: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sides = [Path(folder, "reference"), Path(folder, "estimate")]
        for side in sides:
            side.mkdir()
        for index in range(num_pieces):
            for side, own in zip(sides, (notes, transcription_of(rng, notes)), strict=True):
                path = side / f"{index}.mid"
                if index < NUM_DISTINCT_FILES:
                    write_notes(own, path)
                else:
                    shutil.copy(side / f"{index % NUM_DISTINCT_FILES}.mid", path)
        times = {
            number: seconds_of(lambda number=number: score_files(*sides, workers=number, progress=False), 1)
            for number in (1, workers)
        }
    for number, seconds in times.items():
        print(
            f"{num_pieces} pieces, {number} workers: {seconds:8.2f} s, {times[1] / seconds:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
