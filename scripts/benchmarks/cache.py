"""Times the way from prepared records to tokenised examples, in seconds of audio per second and core.

Makes a temporary dataset like Slakh (pieces of four minutes: 7 instruments, 30
notes a second, decaying tones as 16 kHz FLAC), then measures

(a) records to cached chunks (`cache_chunks`): in this process, with two worker
    processes, and with one a core, the start of the processes included;
(b) cached chunks to tokens: every consecutive segment of 256 frames, by MT3's
    tokenizer, read from the cache's files;
(c) both, one after the other, in one process: the cache holds notes, not tokens,
    so that this is what a cache of tokenised examples would cost.

Each figure is the best of some repeats. Reads come through the system's file
cache. Where other programs use the cores too, the figure per second of processor
time says what the work costs. One core must do 600 seconds of audio a second in
(c); the published pipeline did 177, and no more with a second core.

python scripts/benchmarks/cache.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from music import PROGRAMS, random_notes

from mt3.data.cache import cache_chunks
from mt3.data.preprocessors import CHUNK_FEATURES, SegmentConfig, consecutive_segments, decode_chunk
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.tfrecords import parse_example, read_tfrecord
from mt3.processes import available_cores
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

SAMPLE_RATE = 16000
HOP_SAMPLES = 128
NOTES_PER_SECOND = 30
REQUIRED = 600
PUBLISHED = 177


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pieces", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=240.0, help="of a piece")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        make_dataset(directory, arguments.pieces, arguments.seconds)
        print(
            f"{arguments.pieces} pieces of {arguments.seconds:g} s, {NOTES_PER_SECOND} notes a second of "
            f"{len(PROGRAMS)} programs and drums; {available_cores()} cores, "
            f"load {os.getloadavg()[0]:.1f}; seconds of audio per second:",
            flush=True,
        )
        report(directory, arguments.pieces * arguments.seconds, arguments.repeats)


def report(directory: str, seconds: float, repeats: int) -> None:
    def make_cache(workers: int) -> Path:
        return cache_chunks(directory, Path(directory, "cache"), workers=workers, overwrite=True)

    def measure(what: str, action: Callable[[], object], more: Callable[[float], str] | None = None) -> float:
        times = [timed(action) for _ in range(repeats)]
        rate, cpu_rate = (seconds / min(column) for column in zip(*times, strict=True))
        note = f"; {more(rate)}" if more else ""
        print(f"{what}: {rate:.0f}, {cpu_rate:.0f} per second of processor time{note}", flush=True)
        return rate

    alone = measure("(a) records to cached chunks, one process", lambda: make_cache(0))
    for workers in sorted({2, available_cores()}):
        measure(
            f"    {workers} worker processes",
            lambda workers=workers: make_cache(workers),
            lambda rate, workers=workers: (
                f"{rate / workers:.0f} a process, {rate / alone:.2f} times what one does"
            ),
        )
    cache = make_cache(0)
    size = sum(path.stat().st_size for path in cache.iterdir())
    print(f"    its size: {size / 1e6:.0f} MB, {size / seconds / 1e3:.1f} KB a second of audio")
    measure("(b) cached chunks to tokens, one process", lambda: tokenize(cache))
    measure(
        "(c) records to cached chunks to tokens, one process",
        lambda: tokenize(make_cache(0)),
        lambda rate: f"required {REQUIRED}, published code {PUBLISHED}",
    )


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds of an action: of the clock, and of processors in this process and those it started."""
    start, cpu_start = time.perf_counter(), processor_seconds()
    action()
    return time.perf_counter() - start, processor_seconds() - cpu_start


def processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def tokenize(cache: Path) -> int:
    """Tokenises all segments of a finished cache; returns how many there are."""
    config = SegmentConfig(Tokenizer(VocabularyConfig(1, program_granularity="full")))
    count = 0
    for file in sorted(cache.glob("*.tfrecord-*")):
        for record in read_tfrecord(file):
            features = parse_example(record)
            row = {name: features[name][0] for name in CHUNK_FEATURES}
            segments = consecutive_segments(decode_chunk(row, SAMPLE_RATE, HOP_SAMPLES), config)
            count += len(segments.inputs)
    return count


def make_dataset(directory: str, num_pieces: int, seconds: float) -> None:
    """Pieces as records."""
    with RecordWriter(directory, "slakh", "train", num_shards=4) as writer:
        for index in range(num_pieces):
            rng = np.random.default_rng(index)
            notes = random_notes(rng, seconds, NOTES_PER_SECOND)
            audio = EncodedAudio.encode(play(notes, seconds), SAMPLE_RATE)
            writer.write(Recording(f"piece{index}", notes, audio, "slakh", "train"))


def play(notes: Notes, seconds: float) -> np.ndarray:
    """Decaying tones with a little noise: what a lossless codec finds in music."""
    samples = np.random.default_rng(0).normal(0, 1e-3, int(seconds * SAMPLE_RATE)).astype(np.float32)
    tones = {}
    for pitch, onset_seconds in zip(notes.pitch.tolist(), notes.onset_seconds.tolist(), strict=True):
        if pitch not in tones:
            time_seconds = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
            tone = np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time_seconds)
            tones[pitch] = (0.04 * tone * np.exp(-6 * time_seconds)).astype(np.float32)
        start = int(onset_seconds * SAMPLE_RATE)
        piece = samples[start : start + len(tones[pitch])]
        piece += tones[pitch][: len(piece)]
    return np.clip(samples, -1, 1)


if __name__ == "__main__":
    main()
