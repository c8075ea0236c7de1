"""What sounds while events are read: the state that turns events into notes.

A model's segments open with a list of the notes that sound on ("ties"). It can
contradict what sounded before; what is done then is a `TieRule`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mt3.symbolic.vocabularies import DEFAULT_VELOCITY, VocabularyConfig, bin_to_velocity

# A note lasts at least this long, rounded up to whole steps; drums and notes without offsets exactly.
_MIN_DURATION_SECONDS = 0.01
# A note that ended this shortly before a segment that ties it can go on.
_RESUME_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class TieRule:
    """What is done where a tie section contradicts what sounds.

    Attributes:
      follow_pitch: a tie of a note that does not sound stands for the note of that
        pitch of another instrument, if that one is not tied itself; it keeps the
        instrument it was struck with.
      resume: a tie of a note that ended within the last 0.1 s before the segment
        undoes that end.
      adopt: a tie or an end of a note that does not sound begins one with the
        segment; it counts as no invalid event.
      hold: a note left out of one tie section goes on if the next one lists it or an
        event in between ends it; otherwise it ended where it was left out.
    """

    follow_pitch: bool = False
    resume: bool = False
    adopt: bool = False
    hold: bool = False


PUBLISHED_TIES = TieRule()


class HeardNote(NamedTuple):
    """A note as events tell it.

    Attributes:
      onset_step: where it was struck, or the start of the segment that adopted it.
      offset_step: after the onset.
      log_prob: of the tokens that state its onset, 0 where none are known.
      is_adopted: struck before the segment that is the first to tell of it.
      is_open: no event has told its end.
    """

    onset_step: int
    offset_step: int
    pitch: int
    velocity: int
    program: int
    is_drum: bool
    log_prob: float
    is_adopted: bool = False
    is_open: bool = False


class _Sounding(NamedTuple):
    """A note that has begun."""

    onset_step: int
    velocity: int
    log_prob: float
    is_adopted: bool = False


_Key = tuple[int, int]  # pitch, program


class SoundingNotes:
    """What sounds, and the notes so far.

    Handlers take the step, the value and the log-probability of an event and tell
    whether it made sense.
    """

    def __init__(
        self, config: VocabularyConfig, tie_rule: TieRule, emit: Callable[[HeardNote], None]
    ) -> None:
        self.rule = tie_rule
        self.emit = emit
        self.min_duration_steps = math.ceil(_MIN_DURATION_SECONDS * config.steps_per_second)
        self.resume_steps = round(_RESUME_SECONDS * config.steps_per_second)
        self.velocities = bin_to_velocity(
            np.arange(config.num_velocity_bins + 1), config.num_velocity_bins
        ).tolist()
        self.step = 0
        self.velocity = DEFAULT_VELOCITY
        self.program = 0
        self.start_step = 0  # of the segment
        self.time_log_prob = self.velocity_log_prob = self.program_log_prob = 0.0
        self.active: dict[_Key, _Sounding] = {}
        self.tied: set[_Key] = set()
        self.in_tie_section = False
        self.unexplained: dict[_Key, float] = {}  # ties of what does not sound, of this section: log_prob
        self.invalid_ties = 0  # that no rule explained
        self.aliases: dict[_Key, _Key] = {}  # what a segment calls a note -> what it was struck as
        self.held: dict[_Key, int] = {}  # left out of the last tie section, at the step, but not ended
        self.ended: dict[_Key, HeardNote] = {}  # may be resumed; only where the rule says so

    def handlers(self) -> dict[str, Callable[[int, int, float], bool]]:
        changes = {
            "pitch": self.pitch,
            "drum": self.drum,
            "velocity": self.set_velocity,
            "program": self.set_program,
            "tie": self.end_tie_section,
        }
        return {kind: self._in_order(change) for kind, change in changes.items()}

    def _in_order(self, change: Callable[[int, int, float], bool]) -> Callable[[int, int, float], bool]:
        """The handler, refusing events that go back in time."""

        def handle(step: int, value: int, log_prob: float) -> bool:
            if step < self.step:
                return False
            self.step = step
            return change(step, value, log_prob)

        return handle

    def begin_segment(self, start_step: int, ties: bool) -> None:
        self.start_step = start_step
        self.time_log_prob = 0.0
        if ties:
            self.invalid_ties += len(self.unexplained)
            self.tied, self.unexplained, self.aliases = set(), {}, {}
            self.in_tie_section = True

    def reject(self, step: int, value: int, log_prob: float) -> bool:
        return False

    def onset(self, step: int, value: int, log_prob: float) -> bool:
        self._add(HeardNote(step, step, value, DEFAULT_VELOCITY, 0, False, self.time_log_prob + log_prob))
        return True

    def pitch(self, step: int, value: int, log_prob: float) -> bool:
        key = (value, self.program)
        if self.in_tie_section:
            return self._tie(key, log_prob)
        sounding = self.aliases.get(key, key)
        if self.velocity == 0:
            if sounding not in self.active and not self._adopt(sounding, self.program_log_prob + log_prob):
                return False
            self._end(sounding, step, by_event=True)
        else:
            if sounding in self.active:  # struck again: the first note ends here
                self._end(sounding, step)
            self.aliases.pop(key, None)
            if key in self.active:  # besides the note that went by this name, its own
                self._end(key, step)
            onset_log_prob = self.time_log_prob + self.velocity_log_prob + self.program_log_prob + log_prob
            self.active[key] = _Sounding(step, self.velocity, onset_log_prob)
        return True

    def drum(self, step: int, value: int, log_prob: float) -> bool:
        if self.velocity == 0:
            return False
        log_prob += self.time_log_prob + self.velocity_log_prob
        self._add(HeardNote(step, step, value, self.velocity, 0, True, log_prob))
        return True

    def set_velocity(self, step: int, value: int, log_prob: float) -> bool:
        self.velocity = self.velocities[value]
        self.velocity_log_prob = log_prob
        return True

    def set_program(self, step: int, value: int, log_prob: float) -> bool:
        self.program = value
        self.program_log_prob = log_prob
        return True

    def _tie(self, key: _Key, log_prob: float) -> bool:
        if key in self.tied:
            return False
        if key in self.active:
            self.tied.add(key)
        elif self.rule == PUBLISHED_TIES or key in self.unexplained:
            return False
        else:  # which rules apply is known when the list is complete
            self.unexplained[key] = self.program_log_prob + log_prob
        return True

    def end_tie_section(self, step: int, value: int, log_prob: float) -> bool:
        if not self.in_tie_section:
            return False
        omitted = [key for key in self.active if key not in self.tied]
        for key, tie_log_prob in self.unexplained.items():
            if not (self._follow(key, omitted) or self._resume(key) or self._adopt(key, tie_log_prob)):
                self.invalid_ties += 1
        self.unexplained = {}
        for key in self.tied:
            self.held.pop(key, None)
        for key in omitted:
            if self.rule.hold and key not in self.held:
                self.held[key] = step
            else:
                self._end(key, step)
        self._settle_ended()
        self.in_tie_section = False
        return True

    def _follow(self, key: _Key, omitted: list[_Key]) -> bool:
        """Whether the tie stands for a note of `omitted`, from which it is then taken."""
        pitch, _ = key
        others = [other for other in omitted if other[0] == pitch]
        if not self.rule.follow_pitch or not others:
            return False
        omitted.remove(others[0])
        self.tied.add(others[0])
        self.aliases[key] = others[0]
        return True

    def _resume(self, key: _Key) -> bool:
        note = self.ended.get(key)
        if not self.rule.resume or note is None or note.offset_step < self.step - self.resume_steps:
            return False
        del self.ended[key]
        self._begin_tied(key, _Sounding(note.onset_step, note.velocity, note.log_prob, note.is_adopted))
        return True

    def _adopt(self, key: _Key, log_prob: float) -> bool:
        if not self.rule.adopt:
            return False
        self._begin_tied(key, _Sounding(self.start_step, DEFAULT_VELOCITY, log_prob, is_adopted=True))
        return True

    def _begin_tied(self, key: _Key, note: _Sounding) -> None:
        self.tied.add(key)
        self.active[key] = note

    def sounding(self, end_step: int) -> list[HeardNote]:
        return [self._note(key, note, end_step)._replace(is_open=True) for key, note in self.active.items()]

    def finish(self) -> None:
        """Those that still sound end with the last event."""
        self.invalid_ties += len(self.unexplained)
        end_step = max(
            self.step, *(note.onset_step + self.min_duration_steps for note in self.active.values()), 0
        )
        for key in list(self.active):
            self._end(key, end_step)
        self._settle_ended()

    def _end(self, key: _Key, step: int, *, by_event: bool = False) -> None:
        """Ends a note; one that is held ends where it was left out, unless an event of its own says when."""
        held_step = self.held.pop(key, None)
        note = self._note(key, self.active.pop(key), step if by_event or held_step is None else held_step)
        if self.rule.resume:
            if key in self.ended:
                self._add(self.ended[key])
            self.ended[key] = note
        else:
            self._add(note)

    def _note(self, key: _Key, note: _Sounding, offset_step: int) -> HeardNote:
        pitch, program = key
        return HeardNote(
            note.onset_step, offset_step, pitch, note.velocity, program, False, note.log_prob, note.is_adopted
        )

    def _settle_ended(self) -> None:
        for note in self.ended.values():
            self._add(note)
        self.ended = {}

    def _add(self, note: HeardNote) -> None:
        least_step = note.onset_step + self.min_duration_steps
        self.emit(note if note.offset_step >= least_step else note._replace(offset_step=least_step))
