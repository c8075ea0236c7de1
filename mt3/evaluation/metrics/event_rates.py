"""How clean the events are that a transcription was decoded from.

The published code logs the numbers of invalid and of dropped events; as shares
of all events (so H. H. Tan et al., "MR-MT3", 2024) they compare across
recordings of any length. Notes do not tell them, so this is no metric of a
`Comparison`: it takes the counts of `mt3.symbolic.note_decoding.DecodedNotes`.
"""

from __future__ import annotations

from mt3.evaluation.metrics.comparison import Scores


def event_rates(invalid_events: int, dropped_events: int, num_events: int) -> Scores:
    """`Invalid event rate` and `Dropped event rate`, shares of all events; left out where there are none.

    Args:
      invalid_events: events that could not follow those before them.
      dropped_events: events beyond the end of their segment.
      num_events: all events, these among them.

    Raises:
      ValueError: when a count is negative, or both together exceed all events.
    """
    if min(invalid_events, dropped_events) < 0 or invalid_events + dropped_events > num_events:
        raise ValueError(
            f"{invalid_events} invalid and {dropped_events} dropped events must be parts of all "
            f"{num_events} events."
        )
    if not num_events:
        return {}
    return {
        "Invalid event rate": invalid_events / num_events,
        "Dropped event rate": dropped_events / num_events,
    }
