"""Events to notes: what a model wrote for successive segments becomes `Notes`.

A model can write anything, so decoding never fails: events that make no sense
where they stand are skipped and counted. Notes may last over segment borders;
with ties, every segment opens with the list of notes that go on, and the others
end there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import (
    DEFAULT_VELOCITY,
    VocabularyConfig,
    bin_to_velocity,
    build_codec,
)

# A note lasts at least this long, rounded up to whole steps; drums and notes without offsets exactly.
_MIN_DURATION_SECONDS = 0.01


@dataclasses.dataclass(frozen=True)
class DecodedNotes:
    """Notes of a recording and how clean the events were that they come from.

    Attributes:
      notes: in the order in which they ended.
      invalid_events: events that were skipped: no event of the vocabulary, a note
        ended that does not sound, a tie of one, a drum without loudness, ...
      dropped_events: events (tokens) from the first on that lies beyond the next
        segment's start.
    """

    notes: Notes
    invalid_events: int
    dropped_events: int


def decode_segments(
    segments: Sequence[tuple[int, np.ndarray]],
    config: VocabularyConfig,
    *,
    ties: bool = True,
    onsets_only: bool = False,
) -> DecodedNotes:
    """Notes of the segments of one recording.

    Args:
      segments: (start_step, event ids [num_tokens]) in any order; ids that are no
        events are allowed and counted.
      config: the vocabulary.
      ties: segments open with a tie section.
      onsets_only: pitch events are onsets of notes with no known length.
    """
    segments = sorted(segments, key=lambda segment: segment[0])
    kinds = build_codec(config).kinds
    state = _State(config)
    handlers = {"pitch": state.onset} if onsets_only else state.handlers()
    by_kind = [handlers.get(kind, state.reject) for kind in kinds]
    invalid_events = dropped_events = 0
    for index, (start_step, tokens) in enumerate(segments):
        end_step = segments[index + 1][0] if index + 1 < len(segments) else None
        state.begin_segment(ties)
        invalid, dropped = _decode_segment(tokens, start_step, end_step, config, by_kind)
        invalid_events += invalid
        dropped_events += dropped
    return DecodedNotes(state.finish(), invalid_events, dropped_events)


def _decode_segment(
    tokens: np.ndarray,
    start_step: int,
    end_step: int | None,
    config: VocabularyConfig,
    by_kind: list[Callable[[int, int], bool]],
) -> tuple[int, int]:
    """Hands the events of a segment to their handlers; counts invalid and dropped ones."""
    codec = build_codec(config)
    kinds, values = codec.decode(tokens)
    shift = codec.kind_index("shift")
    invalid_events = 0
    step, run = start_step, 0
    for index, (kind, value) in enumerate(zip(kinds.tolist(), values.tolist(), strict=True)):
        if kind == shift:
            run += value
            step = start_step + run
            # A segment may reach its end, but not go past it into the next.
            if end_step and step > end_step:
                return invalid_events, len(kinds) - index
        elif kind < 0:
            invalid_events += 1
        else:
            run = 0
            invalid_events += not by_kind[kind](step, value)
    return invalid_events, 0


class _State:
    """What sounds, and the notes so far.

    Handlers take the step and the value of an event and tell whether it made sense.
    """

    def __init__(self, config: VocabularyConfig):
        self.steps_per_second = config.steps_per_second
        self.min_duration_steps = math.ceil(_MIN_DURATION_SECONDS * config.steps_per_second)
        self.velocities = bin_to_velocity(
            np.arange(config.num_velocity_bins + 1), config.num_velocity_bins
        ).tolist()
        self.step = 0
        self.velocity = DEFAULT_VELOCITY
        self.program = 0
        self.active: dict[tuple[int, int], tuple[int, int]] = {}  # (pitch, program) -> onset step, velocity
        self.tied: set[tuple[int, int]] = set()
        self.in_tie_section = False
        self.rows: list[tuple[float, float, int, int, int, bool]] = []

    def handlers(self) -> dict[str, Callable[[int, int], bool]]:
        changes = {
            "pitch": self.pitch,
            "drum": self.drum,
            "velocity": self.set_velocity,
            "program": self.set_program,
            "tie": self.end_tie_section,
        }
        return {kind: self._in_order(change) for kind, change in changes.items()}

    def _in_order(self, change: Callable[[int, int], bool]) -> Callable[[int, int], bool]:
        """The handler, refusing events that go back in time."""

        def handle(step: int, value: int) -> bool:
            if step < self.step:
                return False
            self.step = step
            return change(step, value)

        return handle

    def begin_segment(self, ties: bool) -> None:
        if ties:
            self.tied = set()
            self.in_tie_section = True

    def reject(self, step: int, value: int) -> bool:
        return False

    def onset(self, step: int, value: int) -> bool:
        self._add(step, step, value, DEFAULT_VELOCITY, 0, False)
        return True

    def pitch(self, step: int, value: int) -> bool:
        key = (value, self.program)
        if self.in_tie_section:
            if key not in self.active or key in self.tied:
                return False
            self.tied.add(key)
        elif self.velocity == 0:
            if key not in self.active:
                return False
            self._end(key, step)
        else:
            if key in self.active:  # struck again: the first note ends here
                self._end(key, step)
            self.active[key] = (step, self.velocity)
        return True

    def drum(self, step: int, value: int) -> bool:
        if self.velocity == 0:
            return False
        self._add(step, step, value, self.velocity, 0, True)
        return True

    def set_velocity(self, step: int, value: int) -> bool:
        self.velocity = self.velocities[value]
        return True

    def set_program(self, step: int, value: int) -> bool:
        self.program = value
        return True

    def end_tie_section(self, step: int, value: int) -> bool:
        if not self.in_tie_section:
            return False
        for key in [key for key in self.active if key not in self.tied]:
            self._end(key, step)
        self.in_tie_section = False
        return True

    def finish(self) -> Notes:
        """All notes; those that still sound end with the last event."""
        end_step = max(self.step, *(onset + self.min_duration_steps for onset, _ in self.active.values()), 0)
        for key in list(self.active):
            self._end(key, end_step)
        return Notes.from_rows(self.rows)

    def _end(self, key: tuple[int, int], step: int) -> None:
        pitch, program = key
        onset_step, velocity = self.active.pop(key)
        self._add(onset_step, step, pitch, velocity, program, False)

    def _add(
        self, onset_step: int, offset_step: int, pitch: int, velocity: int, program: int, is_drum: bool
    ) -> None:
        offset_step = max(offset_step, onset_step + self.min_duration_steps)
        times = (onset_step / self.steps_per_second, offset_step / self.steps_per_second)
        self.rows.append((*times, pitch, velocity, program, is_drum))
