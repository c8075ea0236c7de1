"""How fast recordings become notes, and in how much memory.

Sections (`--sections`):

fixed      a batch of 8 segments x 1024 tokens: the published decoder's way of working
           (published_decoder.py) against ours, in tokens per second.
lengths    a recording whose segments are as long as a trained model's: the published way,
           of which some batches of 8 are run, against a whole transcription.
weights    the same recording with float32, bfloat16 and int8 weights.
batches    the same recording with other numbers of segments side by side.
minutes    whole runs over audio files of 1, 10 and 120 minutes, each in a process of its
           own: real-time factor, time to the first note, tokens per second, peak memory. With
           `--checkpoint` and `--audio`: that model, its own lengths, the recordings over and over.
real       a checkpoint (`--checkpoint`) on audio files (`--audio`), its own lengths.

Where no checkpoint is given, MT3-small has random parameters with which no
segment ends; the ends are forced at lengths drawn from the targets of real music
(`--midi`, a folder or a zip; `--mix` segments an example; made-up notes without it).
Compilation is excluded. Segments are decoded as published, without overlap and grammar;
`minutes --recommended` and `real` do what is recommended for the model.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile
from decode import random_params
from published_decoder import MAX_TOKENS
from published_decoder import decode as published_decode
from targets import target_lengths

from mt3.audio.io import load_audio, stream_audio
from mt3.audio.spectrograms import SpectrogramConfig, log_mel, split_frames
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.transcriber import DecodingOptions, Transcriber
from mt3.inference.transcription import Finished, Job, Progress
from mt3.models.decoding import generate
from mt3.models.model import ModelSpec
from mt3.models.transformer import TransformerConfig

PUBLISHED_BATCH = 8
SPEC = ModelSpec()
PLAIN = ContinuityOptions()
SEGMENT_SAMPLES = SPEC.input_frames * SPEC.spectrogram.hop_samples


def main() -> None:
    arguments = parse_arguments()
    print(
        f"{arguments.checkpoint or 'MT3-small, float32'}, {jax.devices()[0].device_kind}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, jax {jax.__version__}",
        flush=True,
    )
    for name in arguments.sections:
        SECTIONS[name](arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", nargs="+", default=["fixed", "lengths", "minutes"], choices=SECTIONS)
    parser.add_argument("--midi", type=Path, help="a folder or a zip of MIDI files")
    parser.add_argument("--mix", type=int, default=1, help="segments that targets are merged from")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the recording of `lengths`")
    parser.add_argument("--published_batches", type=int, default=6, help="run of the published way")
    parser.add_argument("--batch_segments", type=int, default=16, help="segments side by side")
    parser.add_argument("--fixed_tokens", type=int, default=MAX_TOKENS, help="tokens a segment of `fixed`")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 120], help="of audio files")
    parser.add_argument("--most_tokens", type=int, default=400, help="longer lengths are drawn again")
    parser.add_argument("--least_tokens", type=int, default=50, help="shorter lengths are drawn again")
    parser.add_argument("--recommended", action="store_true", help="`minutes` with overlap and grammar")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--audio", type=Path, nargs="+", default=[])
    return parser.parse_args()


class ForcedLengths:
    """A segment decoder whose segments end at given lengths, by their number."""

    def __init__(self, decoder: Any, lengths: Sequence[int], decoded: list[Any]) -> None:
        self._decoder, self._lengths, self._decoded = decoder, lengths, decoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def add(self, segments: Sequence[Any]) -> None:
        """With limits in place of ends."""
        lengths = self._lengths
        self._decoder.add(
            [segment._replace(limit=lengths[segment.name[1] % len(lengths)]) for segment in segments]
        )

    def advance(self, **options: Any) -> list[Any]:
        """Keeps what was decoded."""
        ended = self._decoder.advance(**options)
        self._decoded.extend(ended)
        return ended


class ForcedTranscriber(Transcriber):
    """A transcriber with random parameters and forced lengths."""

    lengths: Sequence[int] = (MAX_TOKENS,)

    def _decoder(self, *arguments: Any) -> Any:
        self.decoded: list[Any] = []
        return ForcedLengths(super()._decoder(*arguments), self.lengths, self.decoded)


@functools.cache
def parameters() -> dict[str, Any]:
    return random_params(TransformerConfig())


def transcriber_of(
    lengths: Sequence[int],
    batch_segments: int,
    weights: str = "float32",
    continuity: ContinuityOptions | None = PLAIN,
) -> ForcedTranscriber:
    transcriber = ForcedTranscriber(
        SPEC,
        parameters(),
        batch_segments=batch_segments,
        decoding=DecodingOptions(weights=weights),
        continuity=continuity,
    )
    transcriber.lengths = lengths
    return transcriber


def warm_up(transcriber: ForcedTranscriber, samples: np.ndarray) -> None:
    """Compiles all that will be needed: every stage of the cache, up to the longest."""
    lengths, transcriber.lengths = transcriber.lengths, [max(transcriber.lengths)]
    transcriber.transcribe(samples[: (transcriber.batch_segments + 1) * SEGMENT_SAMPLES])
    transcriber.lengths = lengths


def noise(seconds: float) -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * SPEC.spectrogram.sample_rate))
    return samples.astype(np.float32)


def drawn_lengths(arguments: argparse.Namespace) -> list[int]:
    """Lengths of targets within the bounds, the ends included."""
    lengths = [
        length
        for length in target_lengths(arguments.midi, arguments.mix)
        if arguments.least_tokens <= length <= arguments.most_tokens
    ]
    print(
        f"lengths from {arguments.midi or 'made-up notes'}, {arguments.mix} a segment: {min(lengths)} to "
        f"{max(lengths)} tokens, {np.mean(lengths):.0f} on average"
    )
    return lengths


def seconds_of(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


# --- fixed ---


def fixed(arguments: argparse.Namespace) -> None:
    """A batch of 8, every segment of full length."""
    frames = np.random.default_rng(0).normal(size=(PUBLISHED_BATCH, 256, 512)).astype(np.float32)
    tokens = arguments.fixed_tokens
    ends = np.full(PUBLISHED_BATCH, tokens)
    ways: dict[str, Callable[[], Any]] = {
        "published": lambda: published_decode(SPEC.network, parameters(), frames, ends),
        "ours": lambda: generate(SPEC.network, parameters(), frames, max_tokens=tokens),
    }
    for way in ways.values():
        way()  # compiles
    runs = {name: [seconds_of(way) for _ in range(2)] for name, way in ways.items()}
    best = {name: min(seconds for seconds, _ in results) for name, results in runs.items()}
    for name, seconds in best.items():
        print(f"fixed 8 x {tokens}: {name:10s} {PUBLISHED_BATCH * tokens / seconds:7.0f} tokens/s")
    same = np.asarray(runs["published"][0][1])[:, : tokens - 1] == np.asarray(runs["ours"][0][1])[:, :-1]
    print(f"fixed: {best['published'] / best['ours']:.2f} times as fast; tokens the same: {same.mean():.4%}")


# --- lengths, weights, batches ---


def lengths(arguments: argparse.Namespace) -> None:
    """The published way against ours on a recording."""
    drawn = drawn_lengths(arguments)
    samples = noise(arguments.seconds)
    transcriber = transcriber_of(drawn, arguments.batch_segments)
    warm_up(transcriber, samples)
    published = list(published_batches(samples, drawn, arguments.published_batches))
    run_published(published[:1])  # compiles
    published_seconds, (tokens, ends) = seconds_of(lambda: run_published(published))
    ours_seconds, _ = seconds_of(lambda: transcriber.transcribe(samples))
    num_ours = sum(len(segment.tokens) for segment in transcriber.decoded)
    num_published = int(ends.sum())
    rates = num_published / published_seconds, num_ours / ours_seconds
    print(f"lengths: published {rates[0]:6.0f} tokens/s ({len(ends)} segments, {published_seconds:.1f} s)")
    print(
        f"lengths: ours      {rates[1]:6.0f} tokens/s ({len(transcriber.decoded)} segments, "
        f"{ours_seconds:.1f} s, {ours_seconds / arguments.seconds:.3f} of real time)"
    )
    by_name = {segment.name[1]: segment.tokens for segment in transcriber.decoded}
    compared = [
        np.array_equal(row[: end - 1], by_name[number][: end - 1])
        for number, (row, end) in enumerate(zip(tokens, ends, strict=True))
    ]
    per_segment = published_seconds / len(ends), ours_seconds / len(transcriber.decoded)
    print(
        f"lengths: {rates[1] / rates[0]:.2f} times the tokens/s, {per_segment[0] / per_segment[1]:.2f} times "
        f"the segments/s; segments with the same tokens: {sum(compared)} of {len(compared)}"
    )


def published_batches(
    samples: np.ndarray, drawn: Sequence[int], number: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Log-mel features and lengths of the first batches."""
    to_features = jax.jit(functools.partial(log_mel, config=SpectrogramConfig()))
    for batch in range(number):
        numbers = range(batch * PUBLISHED_BATCH, (batch + 1) * PUBLISHED_BATCH)
        frames = [
            split_frames(
                samples[n * SEGMENT_SAMPLES : (n + 1) * SEGMENT_SAMPLES], SPEC.spectrogram.hop_samples
            )
            for n in numbers
        ]
        yield np.asarray(to_features(np.stack(frames))), np.array([drawn[n % len(drawn)] for n in numbers])


def run_published(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    tokens = [np.asarray(published_decode(SPEC.network, parameters(), *batch)) for batch in batches]
    return np.concatenate(tokens), np.concatenate([ends for _, ends in batches])


def weights(arguments: argparse.Namespace) -> None:
    """Speed with each kind of weights, and how much of the exact tokens' beginning they keep."""
    compare(arguments, {name: (arguments.batch_segments, name) for name in ("float32", "bfloat16", "int8")})


def batches(arguments: argparse.Namespace) -> None:
    """Speed with other numbers of segments side by side."""
    compare(arguments, {f"{size} side by side": (size, "float32") for size in (4, 8, 16, 32)})


def compare(arguments: argparse.Namespace, choices: dict[str, tuple[int, str]]) -> None:
    drawn = drawn_lengths(arguments)
    samples = noise(arguments.seconds)
    exact: dict[Any, np.ndarray] = {}
    for name, choice in choices.items():
        transcriber = transcriber_of(drawn, *choice)
        warm_up(transcriber, samples)
        seconds, _ = seconds_of(functools.partial(transcriber.transcribe, samples))
        tokens = {segment.name: segment.tokens for segment in transcriber.decoded}
        exact = exact or tokens
        first = np.mean([tokens[key][0] == exact[key][0] for key in exact])
        count = sum(map(len, tokens.values()))
        print(
            f"{name:16s} {count / seconds:6.0f} tokens/s, {seconds / arguments.seconds:.3f} of real time; "
            f"first token as with the first choice: {first:.1%}",
            flush=True,
        )


# --- minutes, real ---


def minutes(arguments: argparse.Namespace) -> None:
    """Whole processes over files."""
    trained = arguments.checkpoint is not None
    music = [load_audio(path, SPEC.spectrogram.sample_rate) for path in arguments.audio] if trained else []
    block = np.concatenate(music) if music else noise(60.0)
    drawn = [] if trained else drawn_lengths(arguments)
    options = arguments.batch_segments, None if arguments.recommended else PLAIN
    with tempfile.TemporaryDirectory() as directory:
        for number in arguments.minutes:
            path, seconds = Path(directory) / "long.wav", 60 * number
            write_over_and_over(path, block, seconds)
            if trained:
                line = in_a_process(time_real, arguments.checkpoint, path, *options)
            else:
                line = in_a_process(time_forced, path, drawn, *options)
            print(line, flush=True)


def write_over_and_over(path: Path, block: np.ndarray, seconds: float) -> None:
    rate = SPEC.spectrogram.sample_rate
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        for start in range(0, round(seconds * rate), len(block)):
            file.write(block[: round(seconds * rate) - start])


def in_a_process(function: Callable[..., str], *values: Any) -> str:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *values).result()


def time_forced(
    path: Path, drawn: Sequence[int], batch_segments: int, continuity: ContinuityOptions | None
) -> str:
    transcriber = transcriber_of(drawn, batch_segments, continuity=continuity)
    warm_up(transcriber, noise(60.0))
    return measured(transcriber, path)


def measured(transcriber: Transcriber, path: Path) -> str:
    start, first_segment, first_note, result = time.perf_counter(), None, None, None
    for event in transcriber.follow([Job(path)]):
        if isinstance(event, Progress):
            now = time.perf_counter() - start
            first_segment = first_segment or now
            first_note = first_note or (now if len(event.notes) else None)
        if isinstance(event, Finished):
            result = event.transcription
    assert result is not None, path
    elapsed = time.perf_counter() - start
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    first = "none" if first_note is None else f"{first_note:.1f} s"
    seconds = result.duration_seconds
    return (
        f"{seconds / 60:.3g} min: {elapsed:.1f} s, {elapsed / seconds:.3f} of real time, "
        f"first segment after {first_segment:.1f} s, first note after {first}, "
        f"{result.num_events / elapsed:.0f} tokens/s, {len(result.notes)} notes, peak {peak_mib:.0f} MiB"
    )


def real(arguments: argparse.Namespace) -> None:
    """A checkpoint on audio files."""
    if arguments.checkpoint is None or not arguments.audio:
        raise SystemExit("section real: give --checkpoint and --audio")
    for path in arguments.audio:
        print(path.name, in_a_process(time_real, arguments.checkpoint, path, arguments.batch_segments))


def time_real(
    checkpoint: Path, path: Path, batch_segments: int, continuity: ContinuityOptions | None = None
) -> str:
    transcriber = Transcriber.from_checkpoint(
        checkpoint, batch_segments=batch_segments, continuity=continuity
    )
    transcriber.transcribe(next(stream_audio(path, SPEC.spectrogram.sample_rate, 60.0)))  # compiles
    return measured(transcriber, path)


SECTIONS = {
    "fixed": fixed,
    "lengths": lengths,
    "weights": weights,
    "batches": batches,
    "minutes": minutes,
    "real": real,
}

if __name__ == "__main__":
    main()
