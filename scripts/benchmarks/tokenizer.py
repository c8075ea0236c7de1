"""Time of tokenizing, merging and decoding dense segments, on one core.

python scripts/benchmarks/tokenizer.py [--notes_per_second 30] [--num_segments 2000]
"""

import argparse
import time

import numpy as np

from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

DURATION_SECONDS = 240
NUM_FRAMES = 256


def dense_notes(notes_per_second: float) -> Notes:
    """Random notes of six programs and drums."""
    rng = np.random.default_rng(0)
    num_notes = int(DURATION_SECONDS * notes_per_second)
    onset_seconds = rng.uniform(0, DURATION_SECONDS, num_notes)
    is_drum = rng.random(num_notes) < 0.2
    return Notes(
        onset_seconds=onset_seconds,
        offset_seconds=onset_seconds + 0.03 + rng.exponential(0.4, num_notes),
        pitch=rng.integers(30, 90, num_notes),
        velocity=rng.integers(1, 128, num_notes),
        program=np.where(is_drum, 0, rng.choice([0, 25, 33, 48, 56, 65], num_notes)),
        is_drum=is_drum,
    )


def microseconds(function, arguments) -> float:
    """The median time of a call, over all arguments."""
    times = []
    for argument in arguments:
        start = time.perf_counter()
        function(argument)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--notes_per_second", type=float, default=30.0)
    parser.add_argument("--num_segments", type=int, default=2000)
    options = parser.parse_args()

    tokenizer = Tokenizer(VocabularyConfig(1, program_granularity="full"))
    notes = dense_notes(options.notes_per_second)
    print(f"{len(notes)} notes in {DURATION_SECONDS} s, segments of {NUM_FRAMES} frames")
    print(f"prepare          {microseconds(tokenizer.prepare, [notes] * 20):9.0f} us per recording")
    events = tokenizer.prepare(notes)
    rng = np.random.default_rng(1)
    starts = rng.integers(0, DURATION_SECONDS * 125 - NUM_FRAMES, options.num_segments).tolist()
    encode = microseconds(lambda start: tokenizer.encode(events, start, NUM_FRAMES), starts)
    targets = tokenizer.encode_segments(events, starts, NUM_FRAMES)
    tokens = np.mean([len(ids) for ids in targets])
    print(f"encode           {encode:9.1f} us per segment of {tokens:.0f} tokens")
    whole = microseconds(lambda _: tokenizer.encode_segments(events, starts, NUM_FRAMES), range(5))
    print(f"encode_segments  {whole / len(starts):9.1f} us per segment")
    for num_examples in (2, 4, 8):
        mixes = [targets[i : i + num_examples] for i in range(0, len(targets) - num_examples, num_examples)]
        print(f"merge of {num_examples}       {microseconds(tokenizer.merge, mixes):9.1f} us per mix")
    starts = np.arange(0, DURATION_SECONDS * 125, NUM_FRAMES)
    segments = list(zip(starts / 125, tokenizer.encode_segments(events, starts, NUM_FRAMES), strict=True))
    decode = microseconds(tokenizer.decode, [segments] * 5)
    print(f"decode           {decode / len(segments):9.1f} us per segment")


if __name__ == "__main__":
    main()
