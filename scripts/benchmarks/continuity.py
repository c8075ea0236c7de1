"""What each way to make segments agree is worth: instruments, notes and borders, with and without it.

python scripts/benchmarks/continuity.py CHECKPOINT DATA_DIR [--split test] [--max-recordings 8]
    [--dataset NAME] [--batch-segments 32] [--rows plain overlap]

Means over the recordings of a prepared split. Leakage is estimated instruments over true
ones (1 is right), multi F1 asks for pitch, onset and instrument, multi + offset F1 for the end
as well, at the model's own granularity. Broken and cut are the shares of the notes that sound
through a border of segments (without overlap) that are broken in two or end there. Segments
are decoded once for all rows that ask for the same tokens; decoding says how long that took,
as a multiple of the first one's.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from mt3.data.recording_sets import split_recordings
from mt3.evaluation.metrics import score
from mt3.inference import recording as recording_module
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.note_assembly import Assembled, NoteAssembler
from mt3.inference.transcriber import Transcriber
from mt3.models.loading import load_model
from mt3.models.model import ModelSpec
from mt3.symbolic.instrument_names import Instruments
from mt3.symbolic.notes import Notes

# Label, options, and whether the recording's own instruments are the list to allow.
ROWS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("plain", {}, False),
    ("tie_consistency same_note", {"tie_consistency": "same_note"}, False),
    ("tie_consistency lasting", {"tie_consistency": "lasting"}, False),
    ("tie_consistency adopt", {"tie_consistency": "adopt"}, False),
    ("smooth_programs 0.02", {"smooth_programs": 0.02}, False),
    ("smooth_programs 0.05", {"smooth_programs": 0.05}, False),
    ("smooth_programs 0.1", {"smooth_programs": 0.1}, False),
    ("overlap 0.25", {"overlap": 0.25}, False),
    ("overlap 0.5", {"overlap": 0.5}, False),
    ("overlap 0.75", {"overlap": 0.75}, False),
    ("overlap 0.5, smooth_programs 0.05", {"overlap": 0.5, "smooth_programs": 0.05}, False),
    ("grammar", {"grammar": True}, False),
    ("grammar, tie_consistency lasting", {"grammar": True, "tie_consistency": "lasting"}, False),
    (
        "grammar, overlap 0.5, smooth_programs 0.05",
        {"grammar": True, "overlap": 0.5, "smooth_programs": 0.05},
        False,
    ),
    ("instruments (the true ones)", {}, True),
    ("instruments, overlap 0.5", {"overlap": 0.5}, True),
)


class Column(NamedTuple):
    """A column of the table: its heading, and the score's name with the granularity left open."""

    heading: str
    score: str


COLUMNS = (
    Column("leakage", "Instrument leakage ratio{suffix}"),
    Column("multi F1", "Onset + program F1 ({granularity})"),
    Column("multi + offset F1", "Onset + offset + program F1 ({granularity})"),
    Column("onset F1", "Onset F1"),
    Column("onset + offset F1", "Onset + offset F1"),
    Column("broken", "Segment broken rate"),
    Column("cut", "Segment cut rate"),
)
METRICS = ("published", "instruments", "segments")


class Piece(NamedTuple):
    """A recording to transcribe."""

    samples: np.ndarray
    notes: Notes

    @property
    def instruments(self) -> Instruments:
        pitched = self.notes.program[~self.notes.is_drum]
        return Instruments(tuple(np.unique(pitched).tolist()), bool(self.notes.is_drum.any()))


@dataclasses.dataclass
class Heard:
    """What a model wrote for a recording's segments."""

    tokens: list[np.ndarray]
    log_probs: list[np.ndarray | None]
    duration_seconds: float = 0.0

    def assemble(self, spec: ModelSpec, options: ContinuityOptions) -> Assembled:
        hop_seconds = options.hop_frames(spec.input_frames) / spec.spectrogram.frames_per_second
        assembler = NoteAssembler(spec.tokenizer, spec.segment_seconds, hop_seconds, options)
        for tokens, log_probs in zip(self.tokens, self.log_probs, strict=True):
            assembler.add(tokens, log_probs)
        return assembler.finish(self.duration_seconds)


class _Keeping(NoteAssembler):
    """Keeps what the transcriber hands it."""

    heard: Heard

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.heard = Heard([], [])

    def add(self, tokens: np.ndarray, log_probs: np.ndarray | None = None) -> None:
        self.heard.tokens.append(np.array(tokens))
        self.heard.log_probs.append(None if log_probs is None else np.array(log_probs))
        super().add(tokens, log_probs)


def hear(
    spec: ModelSpec, params: Any, pieces: Sequence[Piece], options: ContinuityOptions, batch_segments: int
) -> tuple[list[Heard], float]:
    """What the model writes for each piece, and the seconds that took, compilation apart."""
    kept: list[_Keeping] = []

    def keep(*arguments: Any, **settings: Any) -> _Keeping:
        kept.append(_Keeping(*arguments, **settings))
        return kept[-1]

    transcriber = Transcriber(spec, params, batch_segments=batch_segments, continuity=options)
    list(transcriber.transcribe_all([pieces[0].samples]))
    with mock.patch.object(recording_module, "NoteAssembler", keep):
        start = time.perf_counter()
        transcriptions = list(transcriber.transcribe_all(piece.samples for piece in pieces))
        seconds = time.perf_counter() - start
    for assembler, transcription in zip(kept, transcriptions, strict=True):
        assembler.heard.duration_seconds = transcription.duration_seconds
    return [assembler.heard for assembler in kept], seconds


class Model:
    """Transcribes the pieces in the ways that rows ask for, each once."""

    def __init__(self, spec: ModelSpec, params: Any, pieces: Sequence[Piece], batch_segments: int) -> None:
        self.spec, self.params, self.pieces = spec, params, pieces
        self._batch_segments = batch_segments
        self._heard: dict[tuple[float, bool, bool], tuple[list[Heard], float]] = {}

    def heard(self, options: ContinuityOptions, own_instruments: bool) -> tuple[list[Heard], float]:
        """See `hear`; `own_instruments`: only those of each piece are allowed."""
        key = (options.overlap, options.grammar, own_instruments)
        if key not in self._heard:
            groups = {piece.instruments if own_instruments else None: None for piece in self.pieces}
            of_piece: dict[int, Heard] = {}
            total_seconds = 0.0
            for instruments in groups:
                members = [
                    index
                    for index, piece in enumerate(self.pieces)
                    if instruments is None or piece.instruments == instruments
                ]
                asked = ContinuityOptions(options.overlap, grammar=options.grammar, instruments=instruments)
                members_heard, seconds = hear(
                    self.spec,
                    self.params,
                    [self.pieces[index] for index in members],
                    asked,
                    self._batch_segments,
                )
                of_piece.update(zip(members, members_heard, strict=True))
                total_seconds += seconds
            self._heard[key] = ([of_piece[index] for index in range(len(self.pieces))], total_seconds)
        return self._heard[key]

    def scores(self, heard: Sequence[Heard], options: ContinuityOptions) -> list[float]:
        """The mean of each of `COLUMNS` over the pieces that have it."""
        granularity = self.spec.tokenizer.vocabulary.program_granularity
        suffix = "" if granularity == "midi_class" else f" ({granularity})"
        rows = [
            score(
                piece.notes,
                own.assemble(self.spec, options).notes,
                metrics=METRICS,
                segment_seconds=self.spec.segment_seconds,
            )
            for piece, own in zip(self.pieces, heard, strict=True)
        ]
        names = [column.score.format(granularity=granularity, suffix=suffix) for column in COLUMNS]
        return [float(np.mean([row[name] for row in rows if name in row] or [np.nan])) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", help="a run's directory, or a checkpoint of any format")
    parser.add_argument("data_dir", help="where mt3 prepare wrote to")
    parser.add_argument("--dataset", help="one of several there")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-recordings", type=int)
    parser.add_argument("--batch-segments", type=int, default=32)
    parser.add_argument("--rows", nargs="*", default=[""], help="only those whose label begins so")
    options = parser.parse_args()

    spec, params = load_model(options.checkpoint)
    recordings = split_recordings(
        options.data_dir, options.split, options.dataset, max_recordings=options.max_recordings
    )
    sample_rate = spec.spectrogram.sample_rate
    pieces = [Piece(recording.load_audio(sample_rate), recording.notes) for recording in recordings]
    minutes = sum(len(piece.samples) for piece in pieces) / sample_rate / 60
    print(f"{options.checkpoint} on {len(pieces)} recordings, {minutes:.1f} minutes\n")
    headings = ["", *(column.heading for column in COLUMNS), "decoding"]
    print(f"| {' | '.join(headings)} |\n|{' --- |' * len(headings)}", flush=True)
    model = Model(spec, params, pieces, options.batch_segments)
    first_seconds = None
    for label, settings, own_instruments in ROWS:
        continuity = ContinuityOptions(**settings)
        if not label.startswith(tuple(options.rows)):
            continue
        heard, seconds = model.heard(continuity, own_instruments)
        first_seconds = first_seconds or seconds
        values = [f"{value:.3f}" for value in model.scores(heard, continuity)]
        print(f"| {label} | {' | '.join(values)} | {seconds / first_seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
