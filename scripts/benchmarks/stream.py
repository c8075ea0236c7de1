"""Examples per second per core of the endless stream, rendering included.

python scripts/benchmarks/stream.py [--workers 2] [--seconds 10] [--collections bach_chorales]

After a warm-up over the first generations (a running pool replaces a steady
share of its clips), batches are taken for some seconds and counted. The first
use of a music21 collection parses it, which is not counted.
"""

import argparse
import dataclasses
import time

from mt3.audio.synthesis import make_synthesizer
from mt3.data.preprocessors import SegmentConfig
from mt3.data.sources.synth import split_pieces
from mt3.data.stream import StreamConfig, SyntheticStream, varied_music
from mt3.processes import available_cores
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

# What is varied: name -> fields of StreamConfig.
SETTINGS = {
    "a clip for 1 segment": {"segments_per_clip": 1},
    "a clip for 4 segments": {"segments_per_clip": 4},
    "a clip for 16 segments": {"segments_per_clip": 16},
    "a clip for 64 segments": {"segments_per_clip": 64},
    "16 segments, mixes of up to 4 clips": {"segments_per_clip": 16, "max_examples_per_mix": 4},
    "64 segments, mixes of up to 8 clips": {"segments_per_clip": 64, "max_examples_per_mix": 8},
}


def examples_per_second(config: StreamConfig, pieces, workers: int, seconds: float) -> float:
    """Of a running stream, wall time."""
    with SyntheticStream(config, workers=workers, pieces=pieces) as batches:
        # All clips of the live generations are rendered, and the first replaced.
        for _ in range(config.live_generations * config.steps_per_generation):
            next(batches)
        count, start = 0, time.perf_counter()
        # Whole generations, so that each batch pays its share of rendering.
        while count == 0 or time.perf_counter() - start < seconds:
            for _ in range(config.steps_per_generation):
                next(batches)
                count += config.batch_size
        return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=available_cores(), help="0: in this process")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--collections", nargs="+", default=["bach_chorales"])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--clips_per_generation", type=int, default=32)
    arguments = parser.parse_args()

    music = dataclasses.replace(varied_music(), collections=tuple(arguments.collections))
    pieces = split_pieces(music, workers=arguments.workers)[0]["train"]
    segments = SegmentConfig(Tokenizer(VocabularyConfig(num_velocity_bins=1)))
    cores = max(arguments.workers, 1)
    print(
        f"{make_synthesizer().backend}, {arguments.workers} workers, {len(pieces)} pieces, "
        f"clips of up to {music.max_seconds:g} s, segments of {segments.segment_frames} frames"
    )
    for name, fields in SETTINGS.items():
        config = StreamConfig(
            music=music,
            segments=segments,
            batch_size=arguments.batch_size,
            clips_per_generation=arguments.clips_per_generation,
            live_generations=2,
            **fields,
        )
        rate = examples_per_second(config, pieces, arguments.workers, arguments.seconds)
        print(f"{name:40s} {rate / cores:7.1f} examples per second per core")


if __name__ == "__main__":
    main()
