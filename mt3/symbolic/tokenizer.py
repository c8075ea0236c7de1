"""The one way between notes and the token ids that models read and write.

A `Tokenizer` is a small frozen setting; all its work is in `note_encoding`,
`run_length` and `note_decoding`. Ids outside this room are target ids: event ids
moved up by the special ids, ended by EOS, padded with 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mt3.symbolic import vocabularies
from mt3.symbolic.event_codec import Codec
from mt3.symbolic.note_decoding import DecodedNotes, NoteDecoder, decode_segments
from mt3.symbolic.note_encoding import NoteEvents, encode_notes, segment_tokens
from mt3.symbolic.notes import Notes
from mt3.symbolic.run_length import merge_streams
from mt3.symbolic.sounding_notes import PUBLISHED_TIES, HeardNote, TieRule
from mt3.symbolic.vocabularies import EOS_ID, NUM_SPECIAL_IDS, PAD_ID, VocabularyConfig

_END = np.array([EOS_ID - NUM_SPECIAL_IDS], np.int32)
# Frame times on a step must count as that step whatever the rounding of their quotient.
_STEP_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Notes to target ids of segments, and back.

    Attributes:
      vocabulary: which events there are.
      ties: segments open with the list of the notes that sound on.
      onsets_only: a pitch per onset is all that is told; excludes ties.
      frames_per_second: what start_frame and num_frames count.

    Raises:
      ValueError: for settings that exclude each other or are out of range.
    """

    vocabulary: VocabularyConfig = dataclasses.field(default_factory=VocabularyConfig)
    ties: bool = True
    onsets_only: bool = False
    frames_per_second: float = 125.0

    def __post_init__(self) -> None:
        if self.ties and self.onsets_only:
            raise ValueError("onsets_only leaves no notes to tie; set ties to False with it.")
        if not self.frames_per_second > 0:
            raise ValueError(f"frames_per_second is {self.frames_per_second}; it must be above 0.")

    @property
    def codec(self) -> Codec:
        """The numbering of events."""
        return vocabularies.build_codec(self.vocabulary)

    @property
    def num_embeddings(self) -> int:
        """Rows that a model's embedding table needs, a multiple of 128."""
        return vocabularies.num_embeddings(self.vocabulary)

    def prepare(self, notes: Notes) -> NoteEvents:
        """What `encode` needs of a recording; compute it once. Overlaps are trimmed.

        They are trimmed per program, as published: where the granularity makes
        several programs one, their notes may still overlap. `map_programs` on the
        notes beforehand leaves none.

        Raises:
          ValueError: for notes out of MIDI's ranges or starting before 0 s.
        """
        return encode_notes(notes, self.vocabulary, ties=self.ties, onsets_only=self.onsets_only)

    def encode(self, events: NoteEvents, start_frame: int, num_frames: int) -> np.ndarray:
        """Target ids of frames [start_frame, start_frame + num_frames), int32, ending with EOS."""
        return self.encode_segments(events, [start_frame], num_frames)[0]

    def encode_segments(
        self, events: NoteEvents, start_frames: npt.ArrayLike, num_frames: npt.ArrayLike
    ) -> list[np.ndarray]:
        """Target ids of several segments, in the order given.

        Args:
          events: of `prepare` of a tokenizer with these settings.
          start_frames: int [num_segments], 0 or more.
          num_frames: int, or int [num_segments].
        """
        start_frames = np.asarray(start_frames, np.int64)
        if start_frames.size and start_frames.min() < 0:
            raise ValueError(f"A segment starts at frame {start_frames.min()}; the first frame is 0.")
        start_steps = self._floor_steps(start_frames / self.frames_per_second)
        end_steps = self._floor_steps(
            (start_frames + np.asarray(num_frames, np.int64)) / self.frames_per_second
        )
        firsts = events.steps.searchsorted(start_steps).tolist()
        lasts = events.steps.searchsorted(end_steps).tolist()
        segments = []
        for start_step, first, last in zip(start_steps.tolist(), firsts, lasts, strict=True):
            parts = segment_tokens(events, start_step, first, last, self.vocabulary)
            segments.append(np.concatenate([*parts, _END]) + np.int32(NUM_SPECIAL_IDS))
        return segments

    def merge(self, targets: Sequence[np.ndarray], *, join_ties: bool = True) -> np.ndarray:
        """Target ids of the mix of several examples, from the target ids of each.

        Args:
          targets: int [num_tokens] each, ended by EOS or not, padded or not.
          join_ties: one tie section for all; see `run_length.merge_streams`.
        """
        streams = [_event_ids(ids) for ids in targets]
        merged = merge_streams(streams, self.codec, join_ties=join_ties)
        return np.concatenate([merged, _END]) + np.int32(NUM_SPECIAL_IDS)

    def decode(
        self,
        segments: Sequence[tuple[float, np.ndarray]],
        log_probs: Sequence[np.ndarray] | None = None,
    ) -> DecodedNotes:
        """Notes of the segments of one recording.

        Args:
          segments: (start_seconds, target ids) in any order; ids after the first
            EOS are not read. Start times are rounded down to the time grid, as
            encoding does.
          log_probs: of the target ids of each segment; None: not known.
        """
        events = [
            written_events(ids, None if log_probs is None else log_probs[index])
            for index, (_, ids) in enumerate(segments)
        ]
        starts = [self.start_step(start_seconds) for start_seconds, _ in segments]
        return decode_segments(
            [(start, ids) for start, (ids, _) in zip(starts, events, strict=True)],
            self.vocabulary,
            ties=self.ties,
            onsets_only=self.onsets_only,
            log_probs=None if log_probs is None else [own for _, own in events if own is not None],
        )

    def note_decoder(
        self, tie_rule: TieRule = PUBLISHED_TIES, emit: Callable[[HeardNote], None] | None = None
    ) -> NoteDecoder:
        """A decoder of this tokenizer's events, for `start_step` and `written_events` of each segment."""
        return NoteDecoder(
            self.vocabulary, ties=self.ties, onsets_only=self.onsets_only, tie_rule=tie_rule, emit=emit
        )

    def start_step(self, start_seconds: float) -> int:
        """The step that a segment starts with: rounded down, as encoding does."""
        return int(self._floor_steps(start_seconds))

    def _floor_steps(self, seconds: npt.ArrayLike) -> np.ndarray:
        steps = np.asarray(seconds) * self.vocabulary.steps_per_second
        return np.floor(steps + _STEP_TOLERANCE).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """A dict of plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tokenizer:
        """The inverse of `to_dict`."""
        return cls(**{**values, "vocabulary": VocabularyConfig(**values["vocabulary"])})


def written_events(
    ids: npt.ArrayLike, log_probs: npt.ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Event ids of target ids, up to the first EOS, and their log-probabilities where they are given.

    Returns:
      Ids, negative where a target id is special (padding too), and the part of
      `log_probs` that belongs to them.
    """
    ids = np.asarray(ids)
    ends = np.flatnonzero(ids == EOS_ID)
    length = int(ends[0]) if len(ends) else len(ids)
    own = None if log_probs is None else np.asarray(log_probs, np.float32)[:length]
    return ids[:length] - NUM_SPECIAL_IDS, own


def _event_ids(ids: npt.ArrayLike) -> np.ndarray:
    """Event ids up to the first EOS, without padding; negative where an id is special."""
    events, _ = written_events(ids)
    return events[events != PAD_ID - NUM_SPECIAL_IDS]
