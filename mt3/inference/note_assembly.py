"""Puts the notes of a recording together from what a model wrote for its segments.

Segments come in their order, and notes that are final can be taken as they come;
memory grows with the notes only. `ContinuityOptions` say how segments are made to agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mt3.inference.continuity import TIE_RULES, ContinuityOptions
from mt3.inference.rare_programs import reassign_rare_programs
from mt3.inference.seams import HeardSegment, SeamJoiner
from mt3.symbolic.note_decoding import NoteRows
from mt3.symbolic.notes import Notes
from mt3.symbolic.sounding_notes import HeardNote, TieRule
from mt3.symbolic.tokenizer import Tokenizer, written_events

# Onsets that two segments hear this near to each other, at one pitch, are one.
_SAME_ONSET_SECONDS = 0.05
# Small parts are joined at this number, which many small arrays would otherwise outgrow.
_MAX_PARTS = 64
# A segment by itself is told of notes that began before it by its ties and ends.
_ADOPT = TieRule(adopt=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Assembled:
    """The notes of a recording.

    Attributes:
      notes: in order of onset, none after the end of the audio.
      confidence: float32 [num_notes], 0..1; see `mt3.symbolic.note_decoding.NoteDecoder`.
      invalid_events, dropped_events: see `mt3.symbolic.note_decoding.DecodedNotes`.
    """

    notes: Notes
    confidence: np.ndarray
    invalid_events: int
    dropped_events: int


class NoteAssembler:
    """Tokens of segments in, notes of the recording out."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        segment_seconds: float,
        hop_seconds: float,
        options: ContinuityOptions = ContinuityOptions(),
    ) -> None:
        """
        Args:
          tokenizer: of the model.
          segment_seconds: length of a segment.
          hop_seconds: from the start of a segment to that of the next.
          options: `overlap` has been acted on by whoever cut the segments; what
            counts here is whether the hop is shorter than the segment.
        """
        if not 0 < hop_seconds <= segment_seconds:
            raise ValueError(
                f"hop_seconds is {hop_seconds}: segments of {segment_seconds} s must follow each other after "
                "more than 0 s and no more than their length"
            )
        overlaps = hop_seconds < segment_seconds
        self._options = options
        self._joiner: _Joiner = (
            _Overlapping(tokenizer, segment_seconds, hop_seconds)
            if overlaps
            else _InOrder(tokenizer, hop_seconds, TIE_RULES[options.tie_consistency])
        )
        self._taken: list[tuple[Notes, np.ndarray]] = []
        self._last: tuple[Notes, np.ndarray] | None = None  # once finished: what is left to take

    def add(self, tokens: np.ndarray, log_probs: np.ndarray | None = None) -> None:
        """The next segment.

        Args:
          tokens: int32 [num_tokens], as the model wrote them; what follows the first EOS is not read.
          log_probs: float32 [num_tokens], of the tokens; None: not known.
        """
        self._joiner.add(tokens, log_probs)

    def take(self) -> tuple[Notes, np.ndarray]:
        """Notes that became final since the last call, and their confidence.

        They are not cropped to the audio, whose end is not known yet, nor smoothed.
        After `finish` these are the last ones.
        """
        if self._last is not None:
            taken, self._last = self._last, (Notes.empty(), np.zeros(0, np.float32))
            return taken
        taken = self._joiner.take()
        self._taken.append(taken)
        if len(self._taken) >= _MAX_PARTS:
            self._taken = [_joined(self._taken)]
        return taken

    def finish(self, duration_seconds: float) -> Assembled:
        """All notes, those taken before among them; there are no more segments.

        Args:
          duration_seconds: of the audio; notes are cropped to it.
        """
        self._joiner.finish()
        rest = self._joiner.take()
        self._last = _cropped(*rest, duration_seconds)
        notes, confidence = _cropped(*_joined([*self._taken, rest]), duration_seconds)
        notes = reassign_rare_programs(notes, confidence, self._options.smooth_programs)
        order = notes.order()
        return Assembled(
            notes[order], confidence[order], self._joiner.invalid_events, self._joiner.dropped_events
        )


def _joined(parts: Sequence[tuple[Notes, np.ndarray]]) -> tuple[Notes, np.ndarray]:
    return Notes.concatenate(notes for notes, _ in parts), np.concatenate([own for _, own in parts])


def _cropped(notes: Notes, confidence: np.ndarray, duration_seconds: float) -> tuple[Notes, np.ndarray]:
    """Notes up to the end of the audio, in order of onset, and their confidence."""
    heard = np.flatnonzero((notes.onset_seconds < duration_seconds) & (notes.offset_seconds > 0))
    order = heard[notes[heard].order()]
    return notes[order].crop(0.0, duration_seconds), confidence[order]


class _Joiner(Protocol):
    """Makes notes of segments, in one way or another."""

    @property
    def invalid_events(self) -> int: ...

    @property
    def dropped_events(self) -> int: ...

    def add(self, tokens: np.ndarray, log_probs: np.ndarray | None) -> None: ...

    def take(self) -> tuple[Notes, np.ndarray]: ...

    def finish(self) -> None: ...


class _InOrder:
    """Segments that follow each other: ties carry notes over from one to the next."""

    def __init__(self, tokenizer: Tokenizer, hop_seconds: float, tie_rule: TieRule) -> None:
        self._tokenizer = tokenizer
        self._hop_seconds = hop_seconds
        self._decoder = tokenizer.note_decoder(tie_rule)
        self._num_segments = 0

    @property
    def invalid_events(self) -> int:
        return self._decoder.invalid_events

    @property
    def dropped_events(self) -> int:
        return self._decoder.dropped_events

    def add(self, tokens: np.ndarray, log_probs: np.ndarray | None) -> None:
        start_step, end_step = (
            self._tokenizer.start_step((self._num_segments + later) * self._hop_seconds) for later in (0, 1)
        )
        self._decoder.add(start_step, *written_events(tokens, log_probs), end_step=end_step)
        self._num_segments += 1

    def take(self) -> tuple[Notes, np.ndarray]:
        return self._decoder.take()

    def finish(self) -> None:
        self._decoder.finish()


class _Overlapping:
    """Segments that are decoded each by itself and joined where they meet."""

    def __init__(self, tokenizer: Tokenizer, segment_seconds: float, hop_seconds: float) -> None:
        self.invalid_events = 0
        self.dropped_events = 0
        self._tokenizer = tokenizer
        self._segment_seconds = segment_seconds
        self._hop_seconds = hop_seconds
        self._num_segments = 0
        steps_per_second = tokenizer.vocabulary.steps_per_second
        self._rows = NoteRows(steps_per_second)
        self._joiner = SeamJoiner(round(_SAME_ONSET_SECONDS * steps_per_second), self._rows.add)

    def add(self, tokens: np.ndarray, log_probs: np.ndarray | None) -> None:
        start_seconds = self._num_segments * self._hop_seconds
        start_step = self._tokenizer.start_step(start_seconds)
        end_step = self._tokenizer.start_step(start_seconds + self._segment_seconds)
        notes: list[HeardNote] = []
        decoder = self._tokenizer.note_decoder(_ADOPT, notes.append)
        decoder.add(start_step, *written_events(tokens, log_probs), end_step=end_step)
        self._joiner.add(HeardSegment(start_step, end_step, [*notes, *decoder.sounding(end_step)]))
        self.invalid_events += decoder.invalid_events
        self.dropped_events += decoder.late_events
        self._num_segments += 1

    def take(self) -> tuple[Notes, np.ndarray]:
        return self._rows.take()

    def finish(self) -> None:
        self._joiner.finish()
