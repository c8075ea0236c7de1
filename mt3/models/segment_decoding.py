"""Decodes segments as they come: finished ones leave the batch, waiting ones take their places.

The host's part of decoding. Whoever has segments adds them with names of their
own choice while there is `room`, and calls `advance` for those that have ended.
`make_decoder` chooses between two ways: `ContinuousDecoder` keeps a fixed number
of rows busy on one device, `BatchDecoder` decodes whole batches that wait for
their longest segment, which beam search and batches cut up between devices need.

Promise: the tokens of a segment do not depend on the others, up to rounding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mt3.models import row_decoding
from mt3.models.cached_decoder import DecoderWeights, KeysValues, encode, fuse_weights
from mt3.models.decoding import check_options, default_cache_lengths, generate
from mt3.models.row_decoding import RowState, TokenChoice
from mt3.models.token_constraints import ConstraintConfig
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.vocabularies import EOS_ID

# The encoder sees so many segments at once. More gain nothing on a CPU, and each that
# waits for a row holds keys and values of all its frames (6 MiB for MT3-small).
ENCODER_BATCH = 8
# After so many steps the caller hears what has ended, and may add segments or give up.
_STEPS_A_ROUND = 64


class Segment(NamedTuple):
    """A segment to decode.

    Attributes:
      name: the caller's, of any type.
      inputs: float32 [frames, inputs], what the decoder's `to_features` takes.
      limit: most tokens, the end included; None for as many as the decoder has.
      key: a random stream, where tokens are drawn.
    """

    name: Any
    inputs: np.ndarray
    limit: int | None = None
    key: jax.Array | None = None


class DecodedSegment(NamedTuple):
    """What came out.

    Attributes:
      name: the segment's.
      tokens: int32 [num_tokens], its end included, where it has one.
      log_probs: float32 [num_tokens], of each token given those before it, as the
        network has it.
    """

    name: Any
    tokens: np.ndarray
    log_probs: np.ndarray


class SegmentDecoder(Protocol):
    """Decodes segments in an order of its own."""

    @property
    def room(self) -> int:
        """How many segments may be added now; more would wait for others to end."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether no segment is on its way."""
        ...

    def add(self, segments: Sequence[Segment]) -> None:
        """Takes segments on, at most `room`."""
        ...

    def advance(self, *, more_waiting: bool) -> list[DecodedSegment]:
        """Decodes for a while and gives what has ended.

        Args:
          more_waiting: whether there are segments to add as soon as there is room.
        """
        ...

    def drop(self, names: set[Any]) -> None:
        """Gives segments up; of those nothing more is heard."""
        ...


@dataclasses.dataclass(frozen=True)
class DecoderSettings:
    """How segments are decoded.

    Attributes:
      max_tokens: most tokens of a segment, its end included.
      temperature: see `decoding.generate`; every segment needs a key where it is not 0.
      beam_size: see `decoding.generate`.
      constraint: which tokens may follow which.
      quantize: keep the decoder's kernels in 8 bits.
      fixed_shapes: fill batches up to one size, so that rounding does not depend on
        how many segments there are.

    Raises:
      ValueError: an option is out of its range, or two exclude each other.
    """

    max_tokens: int
    temperature: float = 0.0
    beam_size: int = 1
    constraint: ConstraintConfig | None = None
    quantize: bool = False
    fixed_shapes: bool = False

    def __post_init__(self) -> None:
        check_options(self.max_tokens, self.temperature, self.beam_size, 0.0, True, self.constraint)


class Prepared(NamedTuple):
    """A network laid out for decoding; made once, used by any number of decoders.

    Attributes:
      config: sizes of the network.
      params: of the whole `Transformer`; the encoder's part is read.
      weights: the decoder's; None where whole batches are decoded.
      to_features: from the `inputs` of segments, [batch, frames, inputs], to what the
        network sees.
    """

    config: TransformerConfig
    params: Mapping[str, Any]
    weights: DecoderWeights | None
    to_features: Callable[[jax.Array], jax.Array]


def prepare(
    config: TransformerConfig,
    params: Mapping[str, Any],
    to_features: Callable[[jax.Array], jax.Array],
    settings: DecoderSettings,
    sharding: jax.sharding.Sharding | None = None,
) -> Prepared:
    """Lays a network out for `make_decoder` with the same settings and sharding."""
    whole_batches = settings.beam_size > 1 or sharding is not None
    weights = None if whole_batches else _fuse(config, params, settings.max_tokens, settings.quantize)
    return Prepared(config, params, weights, to_features)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _fuse(
    config: TransformerConfig, params: Mapping[str, Any], max_tokens: int, quantize: bool
) -> DecoderWeights:
    return fuse_weights(config, params, max_tokens, quantize=quantize)


def make_decoder(
    prepared: Prepared,
    settings: DecoderSettings,
    num_segments: int,
    sharding: jax.sharding.Sharding | None = None,
    num_parts: int = 1,
) -> SegmentDecoder:
    """A decoder of `num_segments` at a time.

    Args:
      prepared: by `prepare`.
      settings: how.
      num_segments: that are decoded side by side.
      sharding: cuts batches up, along their first axis, into `num_parts`.
      num_parts: of the sharding.
    """
    if prepared.weights is None:
        return BatchDecoder(prepared, settings, num_segments, sharding, num_parts)
    return ContinuousDecoder(prepared, prepared.weights, settings, num_segments)


class ContinuousDecoder:
    """Keeps rows busy: a row that has ended takes the next segment while the others go on.

    The cache is as long as the row that is furthest needs, in the stages of
    `decoding.default_cache_lengths`.
    """

    def __init__(
        self, prepared: Prepared, weights: DecoderWeights, settings: DecoderSettings, num_rows: int
    ) -> None:
        self._prepared, self._weights = prepared, weights
        self._settings, self._num_rows = settings, num_rows
        self._choice = TokenChoice(settings.temperature > 0.0, settings.constraint)
        self._lengths = default_cache_lengths(settings.max_tokens)
        self._state: RowState | None = None
        self._names: list[Any] = [None] * num_rows  # of what each row decodes
        self._is_busy = np.zeros(num_rows, bool)
        self._encoded: deque[tuple[Segment, KeysValues, int]] = deque()  # waiting for a row

    @property
    def room(self) -> int:
        """See `SegmentDecoder`. A few are encoded ahead, as the encoder takes several at once."""
        free = self._num_rows - int(self._is_busy.sum()) - len(self._encoded)
        return 0 if free <= 0 else -(-free // ENCODER_BATCH) * ENCODER_BATCH

    @property
    def is_empty(self) -> bool:
        """See `SegmentDecoder`."""
        return not self._is_busy.any() and not self._encoded

    def add(self, segments: Sequence[Segment]) -> None:
        """See `SegmentDecoder`."""
        for first in range(0, len(segments), ENCODER_BATCH):
            group = segments[first : first + ENCODER_BATCH]
            is_fixed = self._settings.fixed_shapes
            size = ENCODER_BATCH if is_fixed else 1 << (len(group) - 1).bit_length()
            features = self._prepared.to_features(jnp.asarray(_stacked_inputs(group, size)))
            encoded = _encode(self._prepared.config, self._prepared.params, features)
            self._encoded.extend((segment, encoded, index) for index, segment in enumerate(group))
        self._fill_rows()

    def advance(self, *, more_waiting: bool) -> list[DecodedSegment]:
        """See `SegmentDecoder`."""
        if self._state is None or not self._is_busy.any():
            return []
        state = self._fitted(self._state)
        others_wait = more_waiting or bool(self._encoded)
        at_most_running = int(self._is_busy.sum()) - 1 if others_wait else 0
        state = row_decoding.advance(
            self._prepared.config,
            self._choice,
            self._weights,
            state,
            self._settings.temperature,
            _STEPS_A_ROUND,
            at_most_running,
        )
        self._state = state
        ended = np.flatnonzero(self._is_busy & ~np.asarray(state.running))
        decoded = _read_rows(state, ended, self._names)
        self._is_busy[ended] = False
        self._fill_rows()
        return decoded

    def drop(self, names: set[Any]) -> None:
        """See `SegmentDecoder`."""
        self._encoded = deque(entry for entry in self._encoded if entry[0].name not in names)
        dropped = [row for row in np.flatnonzero(self._is_busy) if self._names[row] in names]
        if dropped and self._state is not None:
            self._is_busy[dropped] = False
            self._state = self._state._replace(running=jnp.asarray(self._is_busy))
            self._fill_rows()

    def _fill_rows(self) -> None:
        for row in np.flatnonzero(~self._is_busy):
            if not self._encoded:
                break
            segment, encoded, index = self._encoded.popleft()
            if self._state is None:
                self._state = self._idle_rows(encoded)
            most = self._settings.max_tokens
            limit = most if segment.limit is None else min(segment.limit, most)
            self._state = row_decoding.refill_row(self._state, int(row), encoded, index, limit, segment.key)
            self._names[row], self._is_busy[row] = segment.name, True

    def _idle_rows(self, encoded: KeysValues) -> RowState:
        rows = self._num_rows
        blank = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), encoded)
        keys = jax.random.split(jax.random.key(0), rows) if self._choice.sampled else None
        return row_decoding.start_rows(
            self._prepared.config,
            self._choice,
            blank,
            jnp.zeros(rows, jnp.int32),
            keys,
            max_tokens=self._settings.max_tokens,
            length=self._lengths[0],
        )

    def _fitted(self, state: RowState) -> RowState:
        """With the shortest cache that has room for a further token of every busy row."""
        furthest = int(np.asarray(state.positions)[self._is_busy].max())
        length = next(length for length in self._lengths if length > furthest)
        if length == state.cache.keys[0].shape[2]:
            return state
        return row_decoding.resize_rows(state, length)


class BatchDecoder:
    """Decodes whole batches, all of which wait for their longest segment."""

    def __init__(
        self,
        prepared: Prepared,
        settings: DecoderSettings,
        batch_size: int,
        sharding: jax.sharding.Sharding | None = None,
        num_parts: int = 1,
    ) -> None:
        self._prepared, self._settings = prepared, settings
        self._batch_size, self._sharding, self._num_parts = batch_size, sharding, num_parts
        self._waiting: deque[Segment] = deque()

    @property
    def room(self) -> int:
        """See `SegmentDecoder`."""
        return self._batch_size - len(self._waiting)

    @property
    def is_empty(self) -> bool:
        """See `SegmentDecoder`."""
        return not self._waiting

    def add(self, segments: Sequence[Segment]) -> None:
        """See `SegmentDecoder`."""
        self._waiting.extend(segments)

    def drop(self, names: set[Any]) -> None:
        """See `SegmentDecoder`."""
        self._waiting = deque(segment for segment in self._waiting if segment.name not in names)

    def advance(self, *, more_waiting: bool) -> list[DecodedSegment]:
        """See `SegmentDecoder`."""
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_size))]
        if not batch:
            return []
        settings = self._settings
        size = self._batch_size if settings.fixed_shapes else self._padded_size(len(batch))
        stacked = _stacked_inputs(batch, size)
        placed = jnp.asarray(stacked) if self._sharding is None else jax.device_put(stacked, self._sharding)
        tokens, log_probs = generate(
            self._prepared.config,
            self._prepared.params,
            self._prepared.to_features(placed),
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            beam_size=settings.beam_size,
            rng=_stacked_keys(batch, size) if settings.temperature > 0.0 else None,
            return_log_probs=True,
            constraint=settings.constraint,
            quantize=settings.quantize,
        )
        pairs = zip(np.asarray(tokens), np.asarray(log_probs), strict=True)
        return [
            _decoded(segment.name, own, probs, segment.limit)
            for segment, (own, probs) in zip(batch, pairs, strict=False)
        ]

    def _padded_size(self, num_segments: int) -> int:
        of_a_part = -(-num_segments // self._num_parts)
        largest = self._batch_size // self._num_parts
        return self._num_parts * min(largest, 1 << (of_a_part - 1).bit_length())


@functools.partial(jax.jit, static_argnames=("config",))
def _encode(config: TransformerConfig, params: Mapping[str, Any], features: jax.Array) -> KeysValues:
    return encode(config, params, features)


def _stacked_inputs(batch: Sequence[Segment], size: int) -> np.ndarray:
    """float32 [size, frames, inputs], filled up with zeros."""
    inputs = np.zeros((size, *batch[0].inputs.shape), np.float32)
    inputs[: len(batch)] = [segment.inputs for segment in batch]
    return inputs


def _stacked_keys(batch: Sequence[Segment], size: int) -> jax.Array:
    keys = [segment.key for segment in batch if segment.key is not None]
    return jnp.stack(keys + keys[:1] * (size - len(keys)))


def _read_rows(state: RowState, rows: np.ndarray, names: Sequence[Any]) -> list[DecodedSegment]:
    if not len(rows):
        return []
    tokens, log_probs, positions = map(np.asarray, (state.tokens, state.log_probs, state.positions))
    return [_decoded(names[row], tokens[row], log_probs[row], int(positions[row])) for row in rows]


def _decoded(name: Any, tokens: np.ndarray, log_probs: np.ndarray, limit: int | None) -> DecodedSegment:
    ends = np.flatnonzero(tokens == EOS_ID)
    num_tokens = int(ends[0]) + 1 if len(ends) else len(tokens)
    num_tokens = num_tokens if limit is None else min(num_tokens, limit)
    return DecodedSegment(name, tokens[:num_tokens].copy(), log_probs[:num_tokens].copy())
