"""Times `mt3 prepare` on tracks like Slakh's against what decoding alone costs.

Makes temporary tracks in Slakh's layout (6 FLAC stems of 60 s at 44.1 kHz with
their MIDI files), then measures in one run, in seconds a track on one core

  alone     decoding the six stems and resampling their sum to 16 kHz;
  one mix   preparing each track as one recording (as for validation and test);
  sub-mixes preparing each track as its ten sub-mixes (as for training);

and how much faster two processes are than one, from the first byte to the last
that is written (starting them takes some seconds, whatever there is to do), beside
how much more two processes decode in the same time than one: what the machine's
second core is worth for such work. Last, the
peak memory of a worker on one track of 10 minutes with 20 stems.

Preparing may cost 1.5 times what decoding alone does. Each figure is the best of
some repeats. Files come through the system's cache.

python scripts/benchmarks/prepare.py
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mt3.audio.io import write_audio
from mt3.data.prepare import make_plan, prepare
from mt3.data.sources import slakh
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

RATE = 44100
# General MIDI programs of six classes, and so of six instruments; None: drums.
PROGRAMS = (0, 26, 33, 48, 81, None)
NOTES_PER_SECOND = 5  # of a stem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a track")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        for split in ("train", "validation"):
            make_tracks(folder / split, split, arguments.tracks, arguments.seconds, PROGRAMS)
        compare(folder, arguments.tracks, arguments.repeats)
        make_tracks(folder / "long", "train", 1, 600.0, tuple(range(0, 60, 3)))
        print(f"peak memory of a worker, 20 stems of 10 minutes: {peak_memory_gib(folder / 'long'):.2f} GiB")


def make_tracks(folder: Path, split: str, count: int, seconds: float, programs: tuple) -> None:
    """Tracks in Slakh's layout. Two pieces of music are enough: nothing is kept from track to track."""
    for number in range(1, 3):
        make_track(folder / split / f"Track{number:05d}", seconds, programs, seed=number)
    for number in range(3, count + 1):
        shutil.copytree(folder / split / f"Track{1 + number % 2:05d}", folder / split / f"Track{number:05d}")


def make_track(folder: Path, seconds: float, programs: tuple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = ["UUID: benchmark", "audio_dir: stems", "midi_dir: MIDI", "stems:"]
    for index, program in enumerate(programs):
        count = round(seconds * NOTES_PER_SECOND)
        onset = np.sort(rng.uniform(0, seconds - 1, count))
        pitch = rng.integers(40, 80, count)
        is_drum = np.full(count, program is None)
        notes = Notes(onset, onset + 0.3, pitch, np.full(count, 80), np.full(count, program or 0), is_drum)
        (folder / "stems").mkdir(parents=True, exist_ok=True)
        (folder / "MIDI").mkdir(exist_ok=True)
        write_audio(folder / "stems" / f"S{index:02d}.flac", decaying_tones(notes, seconds, rng), RATE)
        write_midi(notes, folder / "MIDI" / f"S{index:02d}.mid")
        lines += [
            f"  S{index:02d}:",
            "    audio_rendered: true",
            "    midi_saved: true",
            f"    inst_class: {'Drums' if program is None else 'Piano'}",
            f"    is_drum: {str(program is None).lower()}",
            "    plugin_name: none.nkm",
            f"    program_num: {128 if program is None else program}",
        ]
    (folder / "metadata.yaml").write_text("\n".join(lines) + "\n")


def decaying_tones(notes: Notes, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Harmonic tones and a little noise: FLAC takes such audio for music."""
    samples = rng.normal(0, 1e-3, round(seconds * RATE)).astype(np.float32)
    time_seconds = np.arange(RATE // 2) / RATE
    decay = np.exp(-4 * time_seconds)
    for onset, pitch in zip(notes.onset_seconds, notes.pitch, strict=True):
        frequency_hz = 440 * 2 ** ((int(pitch) - 69) / 12)
        tone = sum(np.sin(2 * np.pi * frequency_hz * k * time_seconds) / k for k in (1, 2, 3))
        start = round(onset * RATE)
        part = samples[start : start + len(tone)]
        part += (0.05 * decay * tone)[: len(part)].astype(np.float32)
    return samples


def compare(folder: Path, num_tracks: int, repeats: int) -> None:
    source, config = slakh.SOURCE, slakh.SlakhConfig(full_mix="stems")

    def run(split: str, workers: int = 0) -> float:
        """Seconds from the first byte written to the last."""
        output = folder / "out"
        shutil.rmtree(output, ignore_errors=True)
        with FirstWrite(output) as first:
            prepare(
                source,
                config,
                [folder / split],
                output,
                splits=[split],
                workers=workers,
                num_shards=num_tracks,
            )
        return max(path.stat().st_mtime for path in output.glob("*.tfrecord-*")) - first.time

    alone = best(lambda: decode_alone(folder / "train" / "train"), repeats)
    one_mix = best(lambda: run("validation"), repeats)
    sub_mixes = best(lambda: run("train"), repeats)
    print(f"{num_tracks} tracks of {len(PROGRAMS)} stems; seconds a track on one core, the best of {repeats}")
    print(f"alone     {alone / num_tracks:.3f}")
    print(f"one mix   {one_mix / num_tracks:.3f}  {one_mix / alone:.2f} times alone (wanted: at most 1.5)")
    print(f"sub-mixes {sub_mixes / num_tracks:.3f}  {sub_mixes / alone:.2f} times alone, for ten recordings")
    both = best(lambda: decode_in_two(folder / "train" / "train"), repeats)
    print(f"two processes, decoding: {2 * alone / both:.2f} times one")
    for split, single in (("validation", one_mix), ("train", sub_mixes)):
        two = best(lambda split=split: run(split, workers=2), repeats)
        print(f"two processes, {split}: {single / two:.2f} times one")


def best(call: Callable[[], float], repeats: int) -> float:
    return min(call() for _ in range(repeats))


def decode_alone(folder: Path) -> float:
    start = time.perf_counter()
    for track in sorted(folder.iterdir()):
        stems = [soundfile.read(path, dtype="float32")[0] for path in sorted((track / "stems").iterdir())]
        soxr.resample(np.sum(stems, axis=0), RATE, 16000, "HQ")
    return time.perf_counter() - start


def decode_in_two(folder: Path) -> float:
    """Seconds until two processes have each decoded everything, the longer one's."""
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.5, 0.5]))  # both have started
        return max(pool.map(decode_alone, [folder, folder]))


class FirstWrite:
    """Notes the time of day when the first file appears in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._ended = directory, threading.Event()
        self.time = float("nan")
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._ended.wait(0.001):
            if any(self._directory.glob(".*.tmp")):
                self.time = time.time()
                return

    def __enter__(self) -> FirstWrite:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()


def peak_memory_gib(folder: Path) -> float:
    """Of a fresh process that makes the sub-mixes of the one track there."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_make_long, folder).result()


def _make_long(folder: Path) -> float:
    plan = make_plan(slakh.SOURCE, slakh.SlakhConfig(), [folder], folder)
    list(slakh.SOURCE.make(plan.items["train"][0]))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
