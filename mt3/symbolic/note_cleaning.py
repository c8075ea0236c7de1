"""What is done to the notes of a recording before they become tokens.

`apply_sustain` lengthens notes by the sustain pedal, `trim_overlaps` leaves at
most one note sounding per pitch and instrument, which is all that tokens can
express. Both are pure functions on arrays.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from mt3.symbolic.notes import Notes

# Values of MIDI controller 64 from here up mean that the pedal is down.
PEDAL_DOWN_MIN_VALUE = 64


@dataclasses.dataclass(frozen=True, eq=False)
class PedalChanges:
    """Positions that the sustain pedals take, in any order.

    Attributes:
      time_seconds: float64 [num_changes].
      is_down: bool [num_changes].
      instrument: int64 [num_changes], whose pedal it is.
    """

    time_seconds: np.ndarray
    is_down: np.ndarray
    instrument: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in (("time_seconds", np.float64), ("is_down", np.bool_), ("instrument", np.int64)):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=dtype))
        lengths = {len(self.time_seconds), len(self.is_down), len(self.instrument)}
        if len(lengths) != 1:
            raise ValueError(f"The columns of PedalChanges must have one length, got {sorted(lengths)}.")

    @classmethod
    def from_controller(
        cls, time_seconds: npt.ArrayLike, value: npt.ArrayLike, instrument: npt.ArrayLike = 0
    ) -> PedalChanges:
        """From values 0..127 of MIDI controller 64; a scalar instrument stands for all changes."""
        value = np.asarray(value)
        return cls(
            np.asarray(time_seconds),
            value >= PEDAL_DOWN_MIN_VALUE,
            np.broadcast_to(np.asarray(instrument), value.shape),
        )

    def __len__(self) -> int:
        return len(self.time_seconds)


def trim_overlaps(notes: Notes) -> Notes:
    """Ends each note where the next of its pitch, program and drum flag starts.

    Notes that have no length, at first or by that, are dropped; the rest keep
    their order. Of notes that start together the last given remains.
    """
    order = np.lexsort((notes.onset_seconds, notes.is_drum, notes.program, notes.pitch))
    onset = notes.onset_seconds[order]
    same = np.ones(max(len(notes) - 1, 0), np.bool_)
    for column in (notes.pitch, notes.program, notes.is_drum):
        same &= column[order][1:] == column[order][:-1]
    latest_end = np.full(len(notes), np.inf)
    latest_end[:-1][same] = onset[1:][same]
    offset_seconds = np.empty(len(notes))
    offset_seconds[order] = np.minimum(notes.offset_seconds[order], latest_end)
    trimmed = notes.replace(offset_seconds=offset_seconds)
    return trimmed[trimmed.onset_seconds < trimmed.offset_seconds]


def apply_sustain(notes: Notes, pedal: PedalChanges, instrument: npt.ArrayLike | None = None) -> Notes:
    """Lengthens notes that end while their instrument's pedal is down.

    Such a note sounds on to the release of the pedal (without one: to the last
    event of all pitched notes and pedals), or to the next onset of its pitch on
    the same instrument while the pedal is down, which also cuts a note that is
    still held; one that this leaves without length is dropped. Where a release
    and another change fall together the pedal is up. Drums are left alone.
    Equal to `note_seq.apply_sustain_control_changes`.

    Args:
      notes: in any order, which is kept.
      pedal: changes of all pedals.
      instrument: int [num_notes], the pedal each note obeys; by default all obey 0.

    Returns:
      The notes with new offsets.
    """
    if not len(pedal) or not len(notes):
        return notes
    owner = np.zeros(len(notes), np.int64) if instrument is None else np.asarray(instrument, np.int64)
    if owner.shape != (len(notes),):
        raise ValueError(
            f"instrument has shape {owner.shape}; it must name one for each of {len(notes)} notes."
        )
    pitched = ~notes.is_drum
    last_event_seconds = max(
        np.max(notes.offset_seconds, where=pitched, initial=0.0),
        np.max(notes.onset_seconds, where=pitched, initial=0.0),
        float(pedal.time_seconds.max()),
    )
    offset_seconds = notes.offset_seconds.copy()
    kept = np.ones(len(notes), np.bool_)
    for one in np.unique(pedal.instrument):
        mine = np.flatnonzero(pitched & (owner == one))
        changes = pedal.instrument == one
        ends = _sustained_offsets(
            notes[mine], pedal.time_seconds[changes], pedal.is_down[changes], last_event_seconds
        )
        offset_seconds[mine] = ends
        cut_to_nothing = (ends == notes.onset_seconds[mine]) & (notes.offset_seconds[mine] > ends)
        kept[mine[cut_to_nothing]] = False
    return notes.replace(offset_seconds=offset_seconds)[kept]


def _sustained_offsets(
    notes: Notes, change_seconds: np.ndarray, is_down: np.ndarray, last_event_seconds: float
) -> np.ndarray:
    """New offsets of the pitched notes of one instrument under its pedal."""
    order = np.lexsort((~is_down, change_seconds))  # releases last among changes at one time
    change_seconds, is_down = change_seconds[order], is_down[order]

    def pedal_is_down(time_seconds: np.ndarray) -> np.ndarray:
        last = np.searchsorted(change_seconds, time_seconds, side="right") - 1
        return (last >= 0) & is_down[last]

    releases = np.append(change_seconds[~is_down], last_event_seconds)
    next_release = releases[np.searchsorted(releases[:-1], notes.offset_seconds, side="right")]
    ends = np.where(pedal_is_down(notes.offset_seconds), next_release, notes.offset_seconds)

    # The onset that cuts a note: the next of its pitch at which the pedal is down.
    order = np.lexsort((notes.onset_seconds, notes.pitch))
    onset, pitch = notes.onset_seconds[order], notes.pitch[order]
    position = np.arange(len(notes))
    cutting = np.append(np.where(pedal_is_down(onset), position, len(notes)), len(notes))
    next_cutting = np.minimum.accumulate(cutting[::-1])[::-1][1:]
    found = next_cutting < len(notes)
    next_cutting = np.where(found, next_cutting, 0)
    found &= pitch[next_cutting] == pitch
    cut = np.full(len(notes), np.inf)
    cut[order] = np.where(found, onset[next_cutting], np.inf)
    return np.minimum(ends, cut)
