"""Server-sent events of a job: its state, and its notes as they become final.

A `notes` event has the number of the event as its id; a client that comes back
says the last one that it has (`Last-Event-ID`) and gets the rest. `state` events
have none: the state is what it is now. The last event has the job's final state
as its name.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mt3.symbolic.notes import Notes


def note_event(
    decoded_seconds: float, notes: Notes, confidence: np.ndarray, *, replaces: bool = False
) -> str:
    """JSON of a `notes` event.

    Args:
      decoded_seconds: of the recording, so far.
      notes: the notes.
      confidence: [num_notes], 0..1.
      replaces: whether these are all notes, in place of those of earlier events.

    Returns:
      {"decoded_seconds": 2.048, "notes": [[onset, offset, pitch, velocity, program, is_drum,
      confidence], ...]} with times in seconds, and "replaces": true where it is so.
    """
    rows = zip(
        np.round(notes.onset_seconds, 4).tolist(),
        np.round(notes.offset_seconds, 4).tolist(),
        notes.pitch.tolist(),
        notes.velocity.tolist(),
        notes.program.tolist(),
        notes.is_drum.tolist(),
        [round(value, 3) for value in confidence.tolist()],
        strict=True,
    )
    event: dict[str, Any] = {"decoded_seconds": round(decoded_seconds, 3), "notes": list(rows)}
    if replaces:
        event["replaces"] = True
    return json.dumps(event, separators=(",", ":"))


def server_sent_event(name: str, data: str, id: int | None = None) -> str:
    """An event as the stream has it; `data` is one line."""
    number = "" if id is None else f"id: {id}\n"
    return f"event: {name}\n{number}data: {data}\n\n"
