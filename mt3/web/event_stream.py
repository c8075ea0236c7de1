"""Streams of server-sent events: what a job has been through so far, then each change as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from mt3.web.jobs import Job, JobStore
from mt3.web.note_events import server_sent_event

_KEEP_ALIVE_SECONDS = 15.0  # below what proxies and browsers take for a dead connection
_RECONNECT_MILLISECONDS = 1000


def last_event(header: str | None) -> int:
    """The number of the last event that a client has (`Last-Event-ID`); 0 where it has none."""
    return int(header) if header and header.isascii() and header.isdecimal() and len(header) < 10 else 0


def has_all(job: Job, last: int) -> bool:
    """Whether a client with this last event has the final one too, and nothing is to be told."""
    return job.is_final and last > len(job.batches)


async def events_of(job: Job, store: JobStore, last: int) -> AsyncIterator[str]:
    """Events after number `last`, up to the final one.

    Numbers count `notes` events from 1; the final event has the number after theirs.
    """
    yield f"retry: {_RECONNECT_MILLISECONDS}\n\n"
    told = None
    # Of another server's numbers, nothing is known.
    sent = last if last <= len(job.batches) else 0
    with store.listening(job) as changed:
        while True:
            changed.clear()
            is_final, state = job.is_final, store.snapshot(job)
            if state != told and not is_final:
                told = state
                yield server_sent_event("state", json.dumps(state))
            for batch in job.batches[sent:]:
                sent += 1
                yield server_sent_event("notes", batch, sent)
            if is_final:
                yield server_sent_event(job.state.value, json.dumps(state), sent + 1)
                return
            try:
                async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield ": nothing new\n\n"
