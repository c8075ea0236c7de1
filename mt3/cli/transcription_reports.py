"""How `mt3 transcribe` tells what it does: lines and a bar, one JSON object, or a stream of JSON lines.

A stream (`--stream`) has an object a line on standard output, each with the name
of the file as it was found, written as soon as it is known::

    {"event": "notes", "file": "a.wav", "decoded_seconds": 16.4, "notes": [{"onset_seconds": 0.51,
     "offset_seconds": 1.02, "pitch": 60, "velocity": 100, "program": 0, "is_drum": false,
     "confidence": 0.93}, ...]}
    {"event": "finished", "file": "a.wav", "num_notes": 812, "duration_seconds": 183.2,
     "invalid_events": 0, "dropped_events": 0, "truncated_segments": 0, "outputs": {"midi": "notes/a.mid"}}
    {"event": "failed", "file": "b.wav", "error": "b.wav is an empty file; fetch or export it again."}
    {"event": "skipped", "file": "c.wav", "outputs": {"midi": "notes/c.mid"}}

Notes of a recording come in several lines, those of different recordings by
turns; `decoded_seconds` says how far a recording has been heard. With `--json`
there is one object at the end: `files`, a list of the objects above without the
notes, and how many there are of each kind. Whatever the report, a file that
fails is a line on standard error.
"""

from __future__ import annotations

import collections
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from mt3.audio.io import audio_info
from mt3.cli.transcription_inputs import Input
from mt3.inference.transcription import Transcription
from mt3.symbolic.notes import COLUMNS, Notes

_LOG = logging.getLogger(__name__)

_LINE_EVERY_SECONDS = 30.0
# Of files that say their length nowhere: 128 kbit/s.
_MP3_BYTES_PER_SECOND = 16000

Outputs = Mapping[str, Path]


class Report:
    """Tells of each recording what became of it, in lines: a file written is one on standard output.

    Attributes:
      counts: of `finished`, `failed` and `skipped` recordings.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def begin(self, inputs: Sequence[Input]) -> None:
        """Before the first: these are all, some of which may be finished."""

    def progress(self, name: str, decoded_seconds: float, notes: Notes, confidence: np.ndarray) -> None:
        """More of a recording has been heard, and these notes are final."""

    def finished(self, name: str, transcription: Transcription, outputs: Outputs) -> None:
        """All of it is transcribed and written."""
        self.counts["finished"] += 1
        for output in outputs.values():
            num_notes, seconds = len(transcription.notes), transcription.duration_seconds
            self._print(f"{one_line(output)}: {num_notes} notes in {seconds:.1f} s")

    def failed(self, name: str, error: str) -> None:
        """It cannot be transcribed or written."""
        self.counts["failed"] += 1
        self._complain(f"mt3: error: {one_line(error)}")

    def skipped(self, name: str, outputs: Outputs) -> None:
        """It was finished by an earlier command."""
        self.counts["skipped"] += 1

    def end(self) -> None:
        """After the last, or when the command is interrupted."""
        if self.counts["skipped"]:
            self._print(f"{self.counts['skipped']} files were finished before (--overwrite does them again)")

    def _print(self, text: str) -> None:
        print(text, flush=True)

    def _complain(self, text: str) -> None:
        print(text, file=sys.stderr)


class Lines(Report):
    """For people and logs: lines; while they wait, how far a long recording is, now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._last_seconds = time.monotonic()

    def progress(self, name: str, decoded_seconds: float, notes: Notes, confidence: np.ndarray) -> None:
        now = time.monotonic()
        if now - self._last_seconds >= _LINE_EVERY_SECONDS:
            self._last_seconds = now
            _LOG.info("%s: %.0f s transcribed", one_line(name), decoded_seconds)


class Bar(Report):
    """For people at a terminal: lines, and below them a bar of the seconds of audio."""

    def __init__(self) -> None:
        super().__init__()
        self._estimated: dict[str, float] = {}
        self._decoded: dict[str, float] = {}
        self._bar: Any = None

    def begin(self, inputs: Sequence[Input]) -> None:
        self._estimated = {item.name: _estimated_seconds(item.path) for item in inputs}
        self._bar = tqdm.tqdm(total=sum(self._estimated.values()), unit="s", unit_scale=True, desc="Audio")

    def progress(self, name: str, decoded_seconds: float, notes: Notes, confidence: np.ndarray) -> None:
        self._advance(name, decoded_seconds)

    def finished(self, name: str, transcription: Transcription, outputs: Outputs) -> None:
        super().finished(name, transcription, outputs)
        self._close(name, transcription.duration_seconds)

    def failed(self, name: str, error: str) -> None:
        super().failed(name, error)
        self._close(name, self._decoded.get(name, 0.0))

    def skipped(self, name: str, outputs: Outputs) -> None:
        super().skipped(name, outputs)
        self._close(name, 0.0)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
        super().end()

    def _advance(self, name: str, seconds: float) -> None:
        self._bar.update(seconds - self._decoded.get(name, 0.0))
        self._decoded[name] = seconds

    def _close(self, name: str, seconds: float) -> None:
        """Corrects the total by what is now known of a recording."""
        self._bar.total += seconds - self._estimated.get(name, 0.0)
        self._advance(name, seconds)

    def _print(self, text: str) -> None:
        tqdm.tqdm.write(text, file=sys.stdout)

    def _complain(self, text: str) -> None:
        tqdm.tqdm.write(text, file=sys.stderr)


class Stream(Report):
    """For programs: JSON lines as things happen."""

    def progress(self, name: str, decoded_seconds: float, notes: Notes, confidence: np.ndarray) -> None:
        rows = note_objects(notes, confidence)
        self._tell("notes", name, decoded_seconds=round(decoded_seconds, 6), notes=rows)

    def finished(self, name: str, transcription: Transcription, outputs: Outputs) -> None:
        self.counts["finished"] += 1
        self._tell("finished", name, **_summary(transcription), outputs=_names(outputs))

    def failed(self, name: str, error: str) -> None:
        super().failed(name, error)
        self._tell("failed", name, error=one_line(error))

    def skipped(self, name: str, outputs: Outputs) -> None:
        super().skipped(name, outputs)
        self._tell("skipped", name, outputs=_names(outputs))

    def end(self) -> None:
        pass

    def _tell(self, event: str, name: str, **values: Any) -> None:
        print(json.dumps({"event": event, "file": name, **values}, allow_nan=False), flush=True)


class Summary(Stream):
    """For programs: one JSON object at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._files: list[dict[str, Any]] = []

    def progress(self, name: str, decoded_seconds: float, notes: Notes, confidence: np.ndarray) -> None:
        pass

    def end(self) -> None:
        counts = {f"num_{event}": self.counts[event] for event in ("finished", "failed", "skipped")}
        print(json.dumps({**counts, "files": self._files}, indent=2, allow_nan=False))

    def _tell(self, event: str, name: str, **values: Any) -> None:
        self._files.append({"event": event, "file": name, **values})


def choose_report(*, stream: bool, as_json: bool) -> Report:
    """The report that options and the terminal ask for.

    Raises:
      ValueError: they exclude each other.
    """
    if stream and as_json:
        raise ValueError("--stream and --json both write JSON to standard output: give one of them")
    if stream:
        return Stream()
    if as_json:
        return Summary()
    return Bar() if sys.stderr.isatty() else Lines()


def note_objects(notes: Notes, confidence: np.ndarray) -> list[dict[str, Any]]:
    """Notes as JSON objects, with the names that JSON files of notes have."""
    columns = {name: getattr(notes, name) for name in COLUMNS}
    rounded = {name: np.round(c, 6) if c.dtype.kind == "f" else c for name, c in columns.items()}
    rounded["confidence"] = np.round(np.asarray(confidence, np.float64), 4)
    rows = zip(*(column.tolist() for column in rounded.values()), strict=True)
    return [dict(zip(rounded, row, strict=True)) for row in rows]


def one_line(text: object) -> str:
    """For a terminal: without line breaks and control characters, which names of files may have."""
    joined = " ".join(str(text).split())
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in joined
    )


def _summary(transcription: Transcription) -> dict[str, Any]:
    counts = ("invalid_events", "dropped_events", "truncated_segments")
    return {
        "num_notes": len(transcription.notes),
        "duration_seconds": round(transcription.duration_seconds, 6),
        **{count: getattr(transcription, count) for count in counts},
    }


def _names(outputs: Outputs) -> dict[str, str]:
    return {name: str(path) for name, path in outputs.items()}


def _estimated_seconds(path: Path) -> float:
    """What a header says; of MP3 files, which may have to be decoded to know it, what their size suggests."""
    try:
        if path.suffix.lower() == ".mp3":
            return path.stat().st_size / _MP3_BYTES_PER_SECOND
        return audio_info(path).duration_seconds
    except (ValueError, OSError):
        return 0.0  # told when its turn comes
