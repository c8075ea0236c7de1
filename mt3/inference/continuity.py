"""What can be done so that notes and instruments go on from one segment to the next.

A network hears a segment at a time. These are the ways to make its segments
agree, each with its price; `docs/transcription.md` has what they are worth,
measured by `scripts/benchmarks/continuity.py`.
"""

from __future__ import annotations

import dataclasses

from mt3.symbolic.instrument_names import Instruments
from mt3.symbolic.sounding_notes import PUBLISHED_TIES, TieRule

MAX_OVERLAP = 0.75

# What is done where a tie section contradicts what sounds. None of these costs time;
# all but the first may hold a note back for a segment or two while streaming.
TIE_RULES: dict[str, TieRule] = {
    # As published: a tie of what does not sound is ignored, what is left out ends.
    "published": PUBLISHED_TIES,
    # A tie under another instrument is the note that sounds; one that just ended goes on.
    "same_note": TieRule(follow_pitch=True, resume=True),
    # The same, and one omission is forgiven where what follows knows the note again.
    "lasting": TieRule(follow_pitch=True, resume=True, hold=True),
    # The same as `same_note`; any other tie of what does not sound begins a note: onsets that
    # were missed come late instead of never.
    "adopt": TieRule(follow_pitch=True, resume=True, adopt=True),
}


@dataclasses.dataclass(frozen=True)
class ContinuityOptions:
    """How segments are made to agree; nothing is done by default, as published.

    Attributes:
      overlap: share of a segment that the next one hears again, 0 to 0.75. Each
        segment is trusted in its middle, and neighbours must agree at the seams
        (see `mt3.inference.seams`). Decoding takes 1 / (1 - overlap) times as long.
      tie_consistency: a key of `TIE_RULES`; without overlap only, as neighbours that
        overlap are compared instead.
      smooth_programs: share of a recording's pitched notes below which a program is
        rare; its notes are given to the likeliest other one (see
        `mt3.inference.rare_programs`). 0: none is. Costs no time, but is known at
        the end only: notes that come while streaming are not smoothed.
      grammar: tokens that make no sense where they stand are unreachable.
      instruments: the only ones that there are; others are unreachable. None: all.

    Raises:
      ValueError: for a setting out of range.
    """

    overlap: float = 0.0
    tie_consistency: str = "published"
    smooth_programs: float = 0.0
    grammar: bool = False
    instruments: Instruments | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.overlap <= MAX_OVERLAP:
            raise ValueError(f"overlap is {self.overlap}: give a share of a segment from 0 to {MAX_OVERLAP}")
        if self.tie_consistency not in TIE_RULES:
            raise ValueError(
                f"tie_consistency is {self.tie_consistency!r}: choose one of {', '.join(TIE_RULES)}"
            )
        if not 0.0 <= self.smooth_programs < 1.0:
            raise ValueError(
                f"smooth_programs is {self.smooth_programs}: give a share of the notes of at least 0 "
                "(none is rare) and below 1"
            )

    def hop_frames(self, input_frames: int) -> int:
        """Frames from the start of a segment of `input_frames` to that of the next, at least 1."""
        return max(1, round(input_frames * (1 - self.overlap)))


def recommended_continuity(*, ties: bool = True, beam_size: int = 1) -> ContinuityOptions:
    """What scored best, twice as slow as nothing; see docs/transcription.md.

    Args:
      ties: whether the model's segments open with the notes that sound on. Without, a
        segment that begins within a note does not know it, so that overlap would cost
        more ends of notes than it saves.
      beam_size: beam search knows no grammar.
    """
    return ContinuityOptions(
        overlap=0.5 if ties else 0.0,
        tie_consistency="lasting" if ties else "published",
        grammar=beam_size == 1,
    )
