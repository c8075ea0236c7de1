"""Events to notes: what a model wrote for successive segments becomes `Notes`.

A model can write anything, so decoding never fails: events that make no sense
where they stand are skipped and counted. Notes may last over segment borders;
with ties, every segment opens with the list of notes that go on, and the others
end there; see `sounding_notes`.

`NoteDecoder` takes segments as they come and gives notes as they end, so that
its memory grows with the notes that nobody has taken and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from mt3.symbolic.notes import Notes
from mt3.symbolic.sounding_notes import PUBLISHED_TIES, HeardNote, SoundingNotes, TieRule
from mt3.symbolic.vocabularies import VocabularyConfig, build_codec

# Rows are kept as tuples up to this number, then as arrays, which take a quarter of the memory.
_ROWS_PER_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class DecodedNotes:
    """Notes of a recording and how clean the events were that they come from.

    Attributes:
      notes: in the order in which they ended.
      invalid_events: events that were skipped: no event of the vocabulary, a note
        ended that does not sound, a tie of one, a drum without loudness, ...
      dropped_events: events (tokens) from the first on that lies beyond the next
        segment's start.
      confidence: float32 [num_notes], 0..1, see `NoteDecoder`; None where notes do
        not come from tokens.
    """

    notes: Notes
    invalid_events: int
    dropped_events: int
    confidence: np.ndarray | None = dataclasses.field(default=None, compare=False)


def decode_segments(
    segments: Sequence[tuple[int, np.ndarray]],
    config: VocabularyConfig,
    *,
    ties: bool = True,
    onsets_only: bool = False,
    log_probs: Sequence[np.ndarray] | None = None,
    tie_rule: TieRule = PUBLISHED_TIES,
) -> DecodedNotes:
    """Notes of the segments of one recording.

    Args:
      segments: (start_step, event ids [num_tokens]) in any order; ids that are no
        events are allowed and counted.
      config: the vocabulary.
      ties: segments open with a tie section.
      onsets_only: pitch events are onsets of notes with no known length.
      log_probs: of the ids of each segment, in the same order; None: not known.
      tie_rule: see `TieRule`.
    """
    order = sorted(range(len(segments)), key=lambda index: segments[index][0])
    decoder = NoteDecoder(config, ties=ties, onsets_only=onsets_only, tie_rule=tie_rule)
    for place, index in enumerate(order):
        start_step, event_ids = segments[index]
        end_step = segments[order[place + 1]][0] if place + 1 < len(order) else None
        own_log_probs = None if log_probs is None else log_probs[index]
        decoder.add(start_step, event_ids, own_log_probs, end_step=end_step)
    decoder.finish()
    notes, confidence = decoder.take()
    return DecodedNotes(notes, decoder.invalid_events, decoder.dropped_events, confidence)


class NoteDecoder:
    """Segment after segment in, finished notes out.

    A note's confidence is the product of the probabilities of the tokens that state
    its onset: its pitch or drum token, and the velocity, program (of pitched notes)
    and shift tokens in force there, as far as the vocabulary has them.

    Attributes:
      dropped_events: so far; see `DecodedNotes`.
    """

    def __init__(
        self,
        config: VocabularyConfig,
        *,
        ties: bool = True,
        onsets_only: bool = False,
        tie_rule: TieRule = PUBLISHED_TIES,
        emit: Callable[[HeardNote], None] | None = None,
    ) -> None:
        """See `decode_segments`.

        Args:
          emit: is called with each note that has ended, which is then not kept for `take`.
        """
        self.dropped_events = 0
        self._invalid_events = 0
        self._codec = build_codec(config)
        self._shift = self._codec.kind_index("shift")
        self._ties = ties
        self._rows = NoteRows(config.steps_per_second)
        self._state = SoundingNotes(config, tie_rule, self._rows.add if emit is None else emit)
        handlers = {"pitch": self._state.onset} if onsets_only else self._state.handlers()
        self._by_kind = [handlers.get(kind, self._state.reject) for kind in self._codec.kinds]
        self._segment = _Segment(0, [])

    def add(
        self,
        start_step: int,
        event_ids: np.ndarray,
        log_probs: np.ndarray | None = None,
        *,
        end_step: int | None = None,
    ) -> None:
        """Decodes the next segment.

        Args:
          start_step: not before that of the segment before.
          event_ids: int [num_tokens]; ids that are no events are counted.
          log_probs: float [num_tokens], of the ids; None: not known.
          end_step: where the next segment will start. What lies beyond is dropped if
            one does follow, and read by `finish` otherwise. None: there is no such end.

        Raises:
          ValueError: the segment starts before the last one.
        """
        if start_step < self._segment.start_step:
            raise ValueError(
                f"A segment starts at step {start_step}, before the last one at "
                f"{self._segment.start_step}: give segments in their order."
            )
        self.dropped_events += self.late_events
        kinds, values = self._codec.decode(event_ids)
        probs = [0.0] * len(kinds) if log_probs is None else np.asarray(log_probs, np.float64).tolist()
        self._segment = _Segment(start_step, list(zip(kinds.tolist(), values.tolist(), probs, strict=True)))
        self._state.begin_segment(start_step, self._ties)
        self._read(end_step)

    @property
    def invalid_events(self) -> int:
        """So far; see `DecodedNotes`."""
        return self._invalid_events + self._state.invalid_ties

    @property
    def late_events(self) -> int:
        """Events of the last segment that were held back: dropped if another follows."""
        return len(self._segment.events) - self._segment.position

    def take(self) -> tuple[Notes, np.ndarray]:
        """Notes that ended since the last call, in the order in which they did, and their confidence."""
        return self._rows.take()

    def sounding(self, end_step: int) -> list[HeardNote]:
        """The notes that have not ended, as if they did at `end_step`."""
        return self._state.sounding(end_step)

    def finish(self) -> None:
        """There are no more segments: notes that still sound end with the last event."""
        self._read(None)
        self._state.finish()

    def _read(self, end_step: int | None) -> None:
        """Hands the segment's events to their handlers, up to the first that lies beyond the end."""
        segment, state, by_kind, shift = self._segment, self._state, self._by_kind, self._shift
        step, run, in_run, invalid_events = segment.step, segment.run, segment.in_run, 0
        position = segment.position
        for kind, value, log_prob in segment.events[position:] if position else segment.events:
            if kind == shift:
                # A segment may reach its end, but not go past it into the next.
                if end_step and segment.start_step + run + value > end_step:
                    break
                run += value
                step = segment.start_step + run
                state.time_log_prob = log_prob + state.time_log_prob if in_run else log_prob
                in_run = True
            elif kind < 0:
                invalid_events += 1
            else:
                run, in_run = 0, False
                invalid_events += not by_kind[kind](step, value, log_prob)
            position += 1
        segment.position, segment.step, segment.run, segment.in_run = position, step, run, in_run
        self._invalid_events += invalid_events


@dataclasses.dataclass(slots=True)
class _Segment:
    """A segment, and how far it has been read.

    Shifts are counted from the segment's start, and a run of them ends with any other
    event: the next one starts over.
    """

    start_step: int
    events: list[tuple[int, int, float]]  # kind, value, log-probability
    position: int = 0
    step: int = 0
    run: int = 0
    in_run: bool = False

    def __post_init__(self) -> None:
        self.step = self.start_step


class NoteRows:
    """Finished notes on their way to arrays."""

    def __init__(self, steps_per_second: int) -> None:
        self._steps_per_second = steps_per_second
        self._rows: list[HeardNote] = []
        self._chunks: list[tuple[Notes, np.ndarray]] = []

    def add(self, note: HeardNote) -> None:
        """Adds a note at the end."""
        self._rows.append(note)
        if len(self._rows) == _ROWS_PER_CHUNK:
            self._pack()

    def take(self) -> tuple[Notes, np.ndarray]:
        """The notes since the last call, in their order, and float32 confidence [num_notes]."""
        self._pack()
        chunks, self._chunks = self._chunks, []
        confidence = [own for _, own in chunks]
        return (
            Notes.concatenate(notes for notes, _ in chunks),
            np.concatenate([np.zeros(0, np.float32), *confidence]),
        )

    def _pack(self) -> None:
        if not self._rows:
            return
        onset_step, offset_step, pitch, velocity, program, is_drum, log_prob, *_ = zip(
            *self._rows, strict=True
        )
        notes = Notes(
            onset_seconds=np.array(onset_step) / self._steps_per_second,
            offset_seconds=np.array(offset_step) / self._steps_per_second,
            pitch=np.array(pitch),
            velocity=np.array(velocity),
            program=np.array(program),
            is_drum=np.array(is_drum),
        )
        confidence = np.exp(np.minimum(log_prob, 0.0)).astype(np.float32)
        self._chunks.append((notes, confidence))
        self._rows = []
