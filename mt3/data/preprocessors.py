"""Recordings become chunks, chunks become segments with their targets.

A *chunk* is what the cache keeps: a stretch of a recording (16 s by default) as
16-bit audio and the notes that sound in it. It knows no vocabulary, so one cache
serves every tokenizer. A *segment* is what the model sees: a window of frames
and its target ids. All segments that a training step takes from one chunk are
cut and tokenised together, which is what makes the input path fast.

Plain NumPy functions without state: what is random takes a generator. A target
that is too long is never an error; it is counted and handled by one of
`LONG_TARGET_RULES`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mt3.audio import io
from mt3.data.recordings import Recording
from mt3.symbolic.event_codec import Codec
from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.notes import COLUMNS, Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import EOS_ID, NUM_SPECIAL_IDS, PAD_ID

# 16 s at 125 frames per second: what the counts behind mixture rates count.
CHUNK_FRAMES = 2000

# Notes as bytes: exact times, and no parsing when they are read back.
NOTE_DTYPE = np.dtype(
    [
        ("onset_seconds", "<f8"),
        ("offset_seconds", "<f8"),
        ("pitch", "u1"),
        ("velocity", "u1"),
        ("program", "u1"),
        ("is_drum", "?"),
    ]
)

# Rounding to the time grid moves an event by at most half a step (5 ms); a note
# this close to a chunk belongs to it. One too many does no harm.
_CHUNK_MARGIN_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class LongTargetRule:
    """What is done with a segment whose target exceeds max_target_tokens.

    Attributes:
      num_redraws: how often another random segment is drawn in its place.
      truncates: whether a target that is (still) too long is cut after its last
        whole event that fits; if not, the segment is left out.
    """

    num_redraws: int
    truncates: bool


LONG_TARGET_RULES: dict[str, LongTargetRule] = {
    # Keeps every segment, so that none of the data is under-represented. The
    # default, and the only rule for evaluation, where every segment must stay.
    "truncate": LongTargetRule(num_redraws=0, truncates=True),
    "drop": LongTargetRule(num_redraws=0, truncates=False),
    # Keeps targets whole and prefers sparser music where the music is dense.
    "resample": LongTargetRule(num_redraws=4, truncates=False),
}


@dataclasses.dataclass(frozen=True)
class SegmentConfig:
    """How segments are cut.

    Attributes:
      tokenizer: what targets are made with.
      segment_frames: frames of a segment.
      max_target_tokens: most ids of a target, EOS included.
      hop_samples: samples of a frame.
      long_targets: a name of `LONG_TARGET_RULES`.

    Raises:
      ValueError: for an unknown rule or sizes below 1.
    """

    tokenizer: Tokenizer
    segment_frames: int = 256
    max_target_tokens: int = 1024
    hop_samples: int = 128
    long_targets: str = "truncate"

    def __post_init__(self) -> None:
        if self.long_targets not in LONG_TARGET_RULES:
            raise ValueError(
                f"long_targets is {self.long_targets!r}; choose one of {', '.join(LONG_TARGET_RULES)}."
            )
        for name in ("segment_frames", "max_target_tokens", "hop_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    @property
    def long_target_rule(self) -> LongTargetRule:
        return LONG_TARGET_RULES[self.long_targets]


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """A stretch of a recording.

    Attributes:
      id: of the recording.
      start_frame: where it starts in the recording.
      samples: int16 [num_samples], a whole number of frames.
      notes: what sounds in it, without overlaps; times from the start of the
        recording, so that they round to the time grid as the recording's do.
    """

    id: str
    start_frame: int
    samples: np.ndarray
    notes: Notes


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """Segments, stacked.

    Attributes:
      inputs: int16 [num_segments, segment_frames, hop_samples] audio frames, or
        int32 for sums of several; silence after the end of the recording.
      targets: int32 [num_segments, max_target_tokens], padded with 0.
      start_frames: int64 [num_segments], in the recording.
      ids: num_segments, says what each is of, see `segment_ids`.
      num_too_long: targets that were too long when first made.
      num_dropped: segments left out for that.
    """

    inputs: np.ndarray
    targets: np.ndarray
    start_frames: np.ndarray
    ids: Sequence[bytes]
    num_too_long: int = 0
    num_dropped: int = 0


def pack_notes(notes: Notes) -> bytes:
    """Notes as bytes (`NOTE_DTYPE`, one after the other).

    Raises:
      ValueError: for pitches, velocities or programs outside 0..127.
    """
    packed = np.empty(len(notes), NOTE_DTYPE)
    for name in COLUMNS:
        column = getattr(notes, name)
        if NOTE_DTYPE[name] == np.uint8 and len(column) and not 0 <= column.min() <= column.max() <= 127:
            wrong = column[(column < 0) | (column > 127)][0]
            raise ValueError(f"{name} {wrong} is outside 0..127; correct or drop such notes.")
        packed[name] = column
    return packed.tobytes()


def unpack_notes(data: bytes) -> Notes:
    """The inverse of `pack_notes`."""
    packed = np.frombuffer(data, NOTE_DTYPE)
    return Notes(**{name: packed[name] for name in COLUMNS})


# A chunk as the cache keeps it: feature -> whether it is bytes or an integer.
CHUNK_FEATURES: dict[str, type] = {
    "id": bytes,
    "start_frame": int,
    "audio": bytes,  # little-endian 16-bit samples
    "notes": bytes,  # see `pack_notes`
    "sample_rate": int,
    "hop_samples": int,
}


def encode_chunk(chunk: Chunk, sample_rate: int, hop_samples: int) -> dict[str, bytes | int]:
    """A chunk as the features of `CHUNK_FEATURES`; cut with the sample rate and hop given."""
    return {
        "id": chunk.id.encode(),
        "start_frame": chunk.start_frame,
        "audio": chunk.samples.astype("<i2").tobytes(),
        "notes": pack_notes(chunk.notes),
        "sample_rate": sample_rate,
        "hop_samples": hop_samples,
    }


def decode_chunk(features: Mapping[str, Any], sample_rate: int, hop_samples: int) -> Chunk:
    """The inverse of `encode_chunk`; the samples are not copied.

    Raises:
      ValueError: when the chunk was cut with another sample rate or hop.
    """
    found = (int(features["sample_rate"]), int(features["hop_samples"]))
    if found != (sample_rate, hop_samples):
        raise ValueError(
            f"The cache holds audio at {found[0]} Hz in frames of {found[1]} samples, wanted are "
            f"{sample_rate} Hz and {hop_samples} samples; make the cache again in another directory."
        )
    return Chunk(
        id=features["id"].decode(),
        start_frame=int(features["start_frame"]),
        samples=np.frombuffer(features["audio"], "<i2"),
        notes=unpack_notes(features["notes"]),
    )


def num_chunks(num_samples: int, *, hop_samples: int = 128, chunk_frames: int = CHUNK_FRAMES) -> int:
    """How many chunks `split_recording` makes of so many samples."""
    num_frames = -(-num_samples // hop_samples)
    return -(-num_frames // chunk_frames)


def split_recording(
    recording: Recording,
    *,
    sample_rate: int = 16000,
    hop_samples: int = 128,
    chunk_frames: int | None = CHUNK_FRAMES,
) -> list[Chunk]:
    """The chunks of a recording, in order, without gap or overlap.

    Args:
      recording: its audio is decoded and resampled to `sample_rate` here.
      sample_rate: in Hz.
      hop_samples: samples of a frame; the last frame is filled with silence.
      chunk_frames: frames of a chunk (the last may be shorter); None for one
        chunk that is the whole recording.
    """
    samples = np.frombuffer(io.encode_pcm16(recording.load_audio(sample_rate)), "<i2")
    samples = np.pad(samples, (0, -len(samples) % hop_samples))
    notes = trim_overlaps(recording.notes)
    num_frames = len(samples) // hop_samples
    chunk_frames = chunk_frames or max(num_frames, 1)
    chunks = []
    for start_frame in range(0, num_frames, chunk_frames):
        piece = samples[start_frame * hop_samples :][: chunk_frames * hop_samples]
        start_seconds = start_frame * hop_samples / sample_rate
        inside = _sounding_within(notes, start_seconds, start_seconds + len(piece) / sample_rate)
        chunks.append(Chunk(recording.id, start_frame, piece, inside))
    return chunks


def _sounding_within(notes: Notes, start_seconds: float, end_seconds: float) -> Notes:
    """Notes that sound in the stretch or just beside it, uncut."""
    return notes[
        (notes.onset_seconds < end_seconds + _CHUNK_MARGIN_SECONDS)
        & (notes.offset_seconds > start_seconds - _CHUNK_MARGIN_SECONDS)
    ]


def random_starts(
    num_frames: int, segment_frames: int, num_segments: int, rng: np.random.Generator
) -> np.ndarray:
    """Where random segments of a chunk start, int64 [num_segments], ascending.

    Each start is uniform over the possible ones, within its share of them
    (stratified), so that the segments of a chunk overlap little.
    """
    num_starts = max(num_frames - segment_frames, 0) + 1
    return ((np.arange(num_segments) + rng.random(num_segments)) * (num_starts / num_segments)).astype(
        np.int64
    )


def sample_segments(
    chunk: Chunk, num_segments: int, rng: np.random.Generator, config: SegmentConfig
) -> Segments:
    """Random segments of a chunk.

    Args:
      chunk: of `split_recording`.
      num_segments: how many; fewer come out where the long-target rule drops some.
      rng: says where they start.
      config: how they are cut.
    """
    num_frames = len(chunk.samples) // config.hop_samples
    starts = random_starts(num_frames, config.segment_frames, num_segments, rng)
    return _cut(chunk, starts, config, rng)


def consecutive_segments(chunk: Chunk, config: SegmentConfig) -> Segments:
    """All segments of a chunk, one after the other from its start.

    The last one is filled with silence. None is ever dropped: targets that are
    too long are truncated.
    """
    num_frames = len(chunk.samples) // config.hop_samples
    starts = np.arange(0, num_frames, config.segment_frames)
    return _cut(chunk, starts, dataclasses.replace(config, long_targets="truncate"), None)


def _cut(
    chunk: Chunk, starts: np.ndarray, config: SegmentConfig, rng: np.random.Generator | None
) -> Segments:
    """Segments that start at frames `starts` of the chunk; `rng` draws others in place of too long ones."""
    frames = chunk.samples.reshape(-1, config.hop_samples)
    events = config.tokenizer.prepare(chunk.notes)

    def encode(starts: np.ndarray) -> list[np.ndarray]:
        lengths = np.minimum(len(frames) - starts, config.segment_frames)
        return config.tokenizer.encode_segments(events, chunk.start_frame + starts, lengths)

    targets = encode(starts)
    too_long = _too_long(targets, config)
    num_too_long, num_before = len(too_long), len(starts)
    num_redraws = config.long_target_rule.num_redraws
    while rng is not None and too_long and num_redraws:
        starts = starts.copy()
        starts[too_long] = random_starts(len(frames), config.segment_frames, len(too_long), rng)
        for index, target in zip(too_long, encode(starts[too_long]), strict=True):
            targets[index] = target
        too_long = _too_long(targets, config)
        num_redraws -= 1
    fitted, kept = fit_targets(targets, config)
    return Segments(
        inputs=_windows(frames, starts[kept], config.segment_frames),
        targets=fitted,
        start_frames=chunk.start_frame + starts[kept],
        ids=segment_ids(chunk.id, chunk.start_frame + starts[kept], config.tokenizer.frames_per_second),
        num_too_long=num_too_long,
        num_dropped=num_before - len(kept),
    )


def segment_ids(source: str, start_frames: np.ndarray, frames_per_second: float) -> list[bytes]:
    """Where segments come from, in words: `SOURCE@SECONDSs` each, in UTF-8."""
    return [b"%s@%.3fs" % (source.encode(), frame / frames_per_second) for frame in start_frames.tolist()]


def _too_long(targets: list[np.ndarray], config: SegmentConfig) -> list[int]:
    return [index for index, target in enumerate(targets) if len(target) > config.max_target_tokens]


def _windows(frames: np.ndarray, starts: np.ndarray, segment_frames: int) -> np.ndarray:
    """[num_starts, segment_frames, hop_samples]; zeros after the last frame."""
    windows = np.zeros((len(starts), segment_frames, frames.shape[1]), frames.dtype)
    for window, start in zip(windows, starts.tolist(), strict=True):
        piece = frames[start : start + segment_frames]
        window[: len(piece)] = piece
    return windows


def fit_targets(targets: list[np.ndarray], config: SegmentConfig) -> tuple[np.ndarray, list[int]]:
    """Targets of bounded length, stacked.

    Args:
      targets: int arrays [num_tokens], each ending with EOS.
      config: the bound and the rule; drawing anew is up to the caller.

    Returns:
      int32 [num_kept, max_target_tokens], padded with 0, and which were kept.
    """
    bound = config.max_target_tokens
    if config.long_target_rule.truncates:
        kept = list(range(len(targets)))
    else:
        kept = [index for index, target in enumerate(targets) if len(target) <= bound]
    stacked = np.full((len(kept), bound), PAD_ID, np.int32)
    for row, index in zip(stacked, kept, strict=True):
        target = targets[index]
        if len(target) > bound:
            target = truncate_target(target, bound, config.tokenizer.codec)
        row[: len(target)] = target
    return stacked, kept


def truncate_target(target: np.ndarray, max_target_tokens: int, codec: Codec) -> np.ndarray:
    """The start of a target up to its last whole event that fits, then EOS.

    A note on, a note off, a drum or a tie is whole with its last token; shifts,
    programs and velocities that nothing follows are left out.

    Args:
      target: int [num_tokens], ending with EOS.
      max_target_tokens: bound of the result, EOS included; at least 1.
      codec: of the tokenizer that made the target.
    """
    if len(target) <= max_target_tokens:
        return target
    start = target[: max_target_tokens - 1]
    kinds, _ = codec.decode(start - NUM_SPECIAL_IDS)
    ends = np.flatnonzero(np.isin(kinds, [codec.kind_index(kind) for kind in ("pitch", "drum", "tie")]))
    num_kept = ends[-1] + 1 if len(ends) else 0
    return np.append(start[:num_kept], np.array(EOS_ID, target.dtype))
