"""The checks of a recording in `mt3 data check`: plain functions, each of which yields what it finds.

They see one recording at a time, decoded; what the checks of splits need of it
later is a small `RecordingDigest`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mt3.audio.io import resample
from mt3.data.alignment import SAMPLE_RATE, SEARCHED_SECONDS, OnsetLag, measure_onset_lag
from mt3.data.manifests import RecordingInfo, count_programs
from mt3.data.recordings import EncodedAudio, Recording
from mt3.symbolic.notes import Notes

ERROR, WARNING = "error", "warning"

# 60 dB below full scale: below any recording of music, above what rounding and dither leave.
_MIN_PEAK = 1e-3
_DIGITAL_SILENCE = 2.0**-15  # less than one step of 16 bits
_MIN_SILENCE_SECONDS = 1.0
_SLOWEST_START_SECONDS = 0.25  # from a note's onset to its first sample that is not 0
_MAX_SHARE_UNHEARD = 0.1
_MAX_TAIL_SECONDS = 0.5  # by which notes may be held on beyond the end
_MIN_OVERLAP_SECONDS = 0.001  # less is rounding
_PIANO_RANGE = (21, 108)
_MAX_SHARE_OUTSIDE_PIANO = 0.05
# Of `OnsetLag.peak_strength`. Labels of other music stay below the first; real recordings with their own
# labels were never below 9. Soft sounds of few notes can be.
_CHANCE_STRENGTH, _SURE_STRENGTH = 5.0, 8.0
_MIN_ONSETS, _MANY_ONSETS = 5, 50
# Of these, 0-based General MIDI programs, single notes can take over 50 ms to be heard.
_SOFT_PROGRAMS = np.array([*range(48, 55), *range(72, 80), *range(88, 104), *range(119, 128)])
_MIN_NOTES_TO_RECOGNISE = 16


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a check found.

    Attributes:
      message: one line, with the value and the bound.
      value: the figure to sort by, larger is worse.
      recording: id; where the check is about one recording, the runner fills it in.
      split: the same.
      severity: where it is not the check's own.
    """

    message: str
    value: float = 0.0
    recording: str = ""
    split: str = ""
    severity: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRecording:
    """A recording as it was read.

    Attributes:
      info: its row of the manifest.
      id: in its record; empty where that cannot be read.
      error: why the record or its audio cannot be read; empty where they can.
      notes: None where the record cannot be read.
      samples: float32 [num_samples] at 16 kHz, None where they cannot be decoded.
      num_stated, num_decoded: samples at the rate of the record, as it says and as there are.
      max_lag_seconds: bound of the lag between labels and sound.
    """

    info: RecordingInfo
    id: str = ""
    error: str = ""
    notes: Notes | None = None
    samples: np.ndarray | None = None
    num_stated: int = 0
    num_decoded: int = 0
    max_lag_seconds: float = 0.05

    @property
    def seconds(self) -> float:
        """Of the audio."""
        return len(self.samples) / SAMPLE_RATE if self.samples is not None else 0.0

    @functools.cached_property
    def peak(self) -> float:
        """The largest sample, without its sign; 0 where there are none."""
        return float(np.abs(self.samples).max(initial=0.0)) if self.samples is not None else 0.0

    @functools.cached_property
    def onset_lag(self) -> OnsetLag | None:
        """See `alignment`; None where there is nothing to measure."""
        if self.samples is None or self.notes is None or self.peak < _MIN_PEAK:
            return None
        return measure_onset_lag(self.samples, self.notes)


@dataclasses.dataclass(frozen=True)
class RecordingDigest:
    """What of a recording is kept for the checks of splits.

    Attributes:
      index: in the manifest.
      id: by the manifest.
      is_readable: whether record and audio were read.
      programs: as the manifest counts them.
      audio: hash of the decoded samples; empty where silent or unread.
      pitches: hash of how often each pitch occurs; empty where there are few notes.
    """

    index: int
    id: str
    is_readable: bool = False
    programs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    audio: str = ""
    pitches: str = ""


def unreadable(loaded: LoadedRecording) -> Iterator[Problem]:
    """The record or its audio, as `load` found them."""
    if loaded.error:
        yield Problem(loaded.error)


def unlisted(loaded: LoadedRecording) -> Iterator[Problem]:
    """Whose id or number of notes is not the manifest's."""
    found = {"id": loaded.id, "num_notes": len(loaded.notes) if loaded.notes is not None else 0}
    for name, value in found.items():
        if value != getattr(loaded.info, name):
            yield Problem(f"its record has {name} {value}, the manifest {getattr(loaded.info, name)}")


def audio_length(loaded: LoadedRecording) -> Iterator[Problem]:
    """More or fewer samples than the record states, or another length than the manifest's."""
    missing = loaded.num_stated - loaded.num_decoded
    if missing:
        yield Problem(
            f"{loaded.num_decoded} samples are decoded, its record states {loaded.num_stated}", abs(missing)
        )
    elif abs(difference := loaded.info.seconds - loaded.seconds) > 0.001:
        yield Problem(
            f"it is {loaded.seconds:.3f} s long, the manifest says {loaded.info.seconds:.3f} s",
            abs(difference),
        )


def no_notes(loaded: LoadedRecording) -> Iterator[Problem]:
    """Music of which nothing is labelled."""
    if not len(loaded.notes):
        yield Problem("it has no notes")


def note_times(loaded: LoadedRecording) -> Iterator[Problem]:
    """Notes that tokens cannot express."""
    onset, offset = loaded.notes.onset_seconds, loaded.notes.offset_seconds
    wrong = ~(np.isfinite(onset) & np.isfinite(offset) & (onset >= 0) & (offset > onset))
    if number := int(wrong.sum()):
        first = int(np.flatnonzero(wrong)[0])
        yield Problem(
            f"{_notes(number)} of no or negative length, or before 0, the first from "
            f"{onset[first]:.3f} to {offset[first]:.3f} s",
            number,
        )


def out_of_range(loaded: LoadedRecording) -> Iterator[Problem]:
    """Numbers that MIDI, and so the vocabulary, does not have."""
    for name in ("pitch", "program", "velocity"):
        values = getattr(loaded.notes, name)
        wrong = values[(values < 0) | (values > 127)]
        if len(wrong):
            yield Problem(f"{_notes(len(wrong))} of {name} outside 0..127, the first {wrong[0]}", len(wrong))


def unusual_pitches(loaded: LoadedRecording) -> Iterator[Problem]:
    """More than a few pitched notes beyond a piano's, as after a wrong octave."""
    pitch = loaded.notes.pitch[~loaded.notes.is_drum]
    lowest, highest = _PIANO_RANGE
    outside = pitch[((pitch < lowest) | (pitch > highest)) & (pitch >= 0) & (pitch <= 127)]
    if len(outside) > _MAX_SHARE_OUTSIDE_PIANO * len(pitch):
        yield Problem(
            f"{len(outside)} of {len(pitch)} pitched notes are outside {lowest}..{highest}: "
            f"{outside.min()} to {outside.max()}; is the octave right?",
            len(outside),
        )


def overlaps(loaded: LoadedRecording) -> Iterator[Problem]:
    """Notes still sounding when the next of their pitch, program and drum flag starts."""
    notes = loaded.notes
    # Of drums only the onset is taught.
    end = np.where(notes.is_drum, notes.onset_seconds + 2 * _MIN_OVERLAP_SECONDS, notes.offset_seconds)
    order = np.lexsort((notes.onset_seconds, notes.is_drum, notes.program, notes.pitch))
    held = end[order][:-1] - notes.onset_seconds[order][1:] > _MIN_OVERLAP_SECONDS
    for column in (notes.pitch, notes.program, notes.is_drum):
        held &= column[order][1:] == column[order][:-1]
    if number := int(held.sum()):
        first = notes.onset_seconds[order][1:][held].min()
        yield Problem(
            f"{_notes(number)} still sounding when the same pitch and program starts again, first at "
            f"{first:.2f} s; they are trimmed for training",
            number,
        )


def after_the_end(loaded: LoadedRecording) -> Iterator[Problem]:
    """Notes that cannot be heard."""
    late = loaded.notes.onset_seconds >= loaded.seconds
    if number := int(late.sum()):
        last = loaded.notes.onset_seconds[late].max()
        yield Problem(
            f"{_notes(number)} starting after the end of the audio at {loaded.seconds:.2f} s, "
            f"the last at {last:.2f} s",
            number,
        )


def held_after_the_end(loaded: LoadedRecording) -> Iterator[Problem]:
    """Notes whose end cannot be heard, by more than a tail."""
    begun = loaded.notes[loaded.notes.onset_seconds < loaded.seconds]
    excess = begun.end_seconds - loaded.seconds
    if excess > _MAX_TAIL_SECONDS:
        yield Problem(
            f"notes are held {excess:.2f} s beyond the end of the audio at {loaded.seconds:.2f} s", excess
        )


def silent(loaded: LoadedRecording) -> Iterator[Problem]:
    """A peak that no music has."""
    if loaded.peak < _MIN_PEAK:
        yield Problem(f"its peak is {loaded.peak:.1e} of full scale, below {_MIN_PEAK}", 1 - loaded.peak)


def notes_in_silence(loaded: LoadedRecording) -> Iterator[Problem]:
    """Notes that start where all samples are 0 for a second or more; a few may be too soft for 16 bits."""
    if loaded.peak < _MIN_PEAK:
        return
    sounding = np.flatnonzero(np.abs(loaded.samples) >= _DIGITAL_SILENCE)
    starts, ends = np.append(0, sounding + 1), np.append(sounding, len(loaded.samples))
    is_long = ends - starts >= _MIN_SILENCE_SECONDS * SAMPLE_RATE
    starts, ends = starts[is_long] / SAMPLE_RATE, ends[is_long] / SAMPLE_RATE
    onset = loaded.notes.onset_seconds
    onset = onset[(onset >= 0) & (onset < loaded.seconds)]
    if not len(starts) or not len(onset):
        return
    gap = starts.searchsorted(onset, side="right") - 1
    within = (gap >= 0) & (onset < ends[gap] - _SLOWEST_START_SECONDS)
    if number := int(within.sum()):
        touched = np.unique(gap[within])
        seconds = float((ends - starts)[touched].sum())
        yield Problem(
            f"{_notes(number)} starting in {seconds:.1f} s of digital silence, first from "
            f"{starts[touched[0]]:.2f} to {ends[touched[0]]:.2f} s",
            seconds,
            severity=ERROR if number > _MAX_SHARE_UNHEARD * len(loaded.notes) else WARNING,
        )


def misaligned(loaded: LoadedRecording) -> Iterator[Problem]:
    """Labels that fit, but not where they are; of soft sounds only a warning: they are heard late."""
    lag = loaded.onset_lag
    if lag is None or lag.num_onsets < _MIN_ONSETS or lag.peak_strength < _SURE_STRENGTH:
        return
    if lag.is_beyond(loaded.max_lag_seconds):
        notes = loaded.notes
        soft = np.isin(notes.program, _SOFT_PROGRAMS) & ~notes.is_drum
        yield Problem(
            f"the sound is {abs(lag.seconds):.2f} s {'later' if lag.seconds > 0 else 'earlier'} than its "
            f"labels, bound {loaded.max_lag_seconds} s "
            f"(strength {lag.peak_strength:.1f}, {lag.num_onsets} onsets)",
            abs(lag.seconds),
            severity=WARNING if soft.mean() > 0.5 else ERROR,
        )


def unfitting(loaded: LoadedRecording) -> Iterator[Problem]:
    """Many onsets, and no lag at which the energy rises there more than by chance."""
    lag = loaded.onset_lag
    if lag is not None and lag.num_onsets >= _MANY_ONSETS and lag.peak_strength < _CHANCE_STRENGTH:
        yield Problem(
            f"its {lag.num_onsets} onsets are not heard at any lag up to {SEARCHED_SECONDS} s "
            f"(strength {lag.peak_strength:.1f}, below {_CHANCE_STRENGTH}); "
            "are the labels of this recording, and of this speed?",
            _CHANCE_STRENGTH - lag.peak_strength,
        )


def load(
    info: RecordingInfo, read: Callable[[], Recording], max_lag_seconds: float = 0.05
) -> LoadedRecording:
    """A recording, decoded as far as it can be; what is wrong with it is in `error`.

    Args:
      info: its row of the manifest.
      read: gives it, or raises ValueError where it is damaged.
      max_lag_seconds: see `LoadedRecording`.
    """
    try:
        recording = read()
    except ValueError as error:  # also RecordError
        return LoadedRecording(info, error=str(error), max_lag_seconds=max_lag_seconds)
    loaded = LoadedRecording(info, recording.id, notes=recording.notes, max_lag_seconds=max_lag_seconds)
    audio = recording.audio
    assert isinstance(audio, EncodedAudio)
    if audio.sample_rate < 1:
        return dataclasses.replace(loaded, error=f"its sample rate is {audio.sample_rate} Hz")
    try:
        decoded = audio.load(audio.sample_rate)
    except ValueError as error:  # also AudioError
        return dataclasses.replace(loaded, error=f"its audio cannot be decoded: {error}")
    return dataclasses.replace(
        loaded,
        samples=resample(decoded, audio.sample_rate, SAMPLE_RATE),
        num_stated=audio.num_samples,
        num_decoded=len(decoded),
    )


def digest_of(loaded: LoadedRecording, index: int) -> RecordingDigest:
    """What is kept of a recording, number `index` of its split."""
    notes, samples = loaded.notes, loaded.samples
    if notes is None:
        return RecordingDigest(index, loaded.info.id)
    audio = pitches = ""
    if samples is not None and loaded.peak >= _MIN_PEAK:
        audio = _hash(np.rint(samples * 32768).astype("<i4"))
    if len(notes) >= _MIN_NOTES_TO_RECOGNISE:
        pitches = _hash(np.sort(notes.pitch.astype("<i8") * 2 + notes.is_drum))
    return RecordingDigest(index, loaded.info.id, samples is not None, count_programs(notes), audio, pitches)


def _hash(values: np.ndarray) -> str:
    return hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()


def _notes(number: int) -> str:
    return f"{number} note{'s' if number > 1 else ''}"
