"""What it costs to keep a model's weights in fewer bits: scores and speed on a prepared split.

python scripts/benchmarks/weights.py CHECKPOINT DATA_DIR [--split test] [--max-recordings 8]

Decodes as published with each kind of weights, greedily. "same notes" is the share of
the notes of float32 that are found among the others (onset, offset, pitch, instrument: exactly).
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from mt3.data.recording_sets import split_recordings
from mt3.evaluation.metrics import METRICS, score
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.transcriber import WEIGHTS, DecodingOptions, Transcriber
from mt3.models.loading import load_model
from mt3.symbolic.notes import COLUMNS, Notes

# With the granularity of instruments left open.
SCORES = ("Onset F1", "Onset + offset F1", "Onset + program F1 ({granularity})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data_dir")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-recordings", type=int)
    arguments = parser.parse_args()
    spec, params = load_model(arguments.checkpoint)
    recordings = split_recordings(
        arguments.data_dir, arguments.split, max_recordings=arguments.max_recordings
    )
    samples = [recording.load_audio(spec.spectrogram.sample_rate) for recording in recordings]
    references = [recording.notes for recording in recordings]
    granularity = spec.tokenizer.vocabulary.program_granularity
    names = [name.format(granularity=granularity) for name in SCORES]
    print("|  |", " | ".join(names), "| same notes | seconds |")
    print("| --- " * (len(SCORES) + 3) + "|")
    exact: list[Notes] = []
    for weights in WEIGHTS:
        transcriber = Transcriber(
            spec, params, decoding=DecodingOptions(weights=weights), continuity=ContinuityOptions()
        )
        next(transcriber.transcribe_all(samples[:1]))  # compiles
        start = time.perf_counter()
        heard = [transcription.notes for transcription in transcriber.transcribe_all(samples)]
        seconds = time.perf_counter() - start
        exact = exact or heard
        rows = [
            score(reference, own, metrics=METRICS) for reference, own in zip(references, heard, strict=True)
        ]
        means = [np.mean([row[name] for row in rows]) for name in names]
        same = sum(map(shared, exact, heard)) / sum(map(len, exact))
        print(
            f"| {weights} |", " | ".join(f"{mean:.3f}" for mean in means), f"| {same:.3f} | {seconds:.1f} |"
        )


def shared(one: Notes, other: Notes) -> int:
    """How many notes both have."""
    sets = [
        set(zip(*(getattr(notes, name).tolist() for name in COLUMNS), strict=True)) for notes in (one, other)
    ]
    return len(sets[0] & sets[1])


if __name__ == "__main__":
    main()
