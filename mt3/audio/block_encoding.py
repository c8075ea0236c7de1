"""Audio that arrives in blocks, encoded as it comes: what a long recording needs of memory is its encoding.

`encode_blocks` is to `mt3.audio.io.encode_flac` and `encode_pcm16` what `stream_audio` is to `load_audio`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import soundfile

from mt3.audio.io import AudioError, to_integers


class BlockEncoder:
    """Encodes mono blocks, each float [samples] in [-1, 1], as 16-bit FLAC or little-endian samples.

    Attributes:
      num_samples: written so far.
    """

    def __init__(self, sample_rate: int, audio_format: str = "flac") -> None:
        self._content = io.BytesIO()
        self._file: soundfile.SoundFile | None = None
        self.num_samples = 0
        if audio_format == "flac":
            self._file = soundfile.SoundFile(self._content, "w", sample_rate, 1, "PCM_16", format="FLAC")

    def write(self, block: np.ndarray) -> None:
        """Adds a block; samples beyond full scale are clipped.

        Raises:
          AudioError: for samples that are not finite.
        """
        if not np.isfinite(block).all():
            raise AudioError(
                f"Audio to encode is not finite after sample {self.num_samples}; export it again."
            )
        integers = to_integers(block, 16)
        if self._file is not None:
            self._file.write(integers)
        else:
            self._content.write(integers.astype("<i2").tobytes())
        self.num_samples += len(block)

    def finish(self) -> bytes:
        """The encoded audio; nothing can be written after.

        Raises:
          AudioError: when nothing was written.
        """
        if self._file is not None:
            self._file.close()
        if not self.num_samples:
            raise AudioError("There are no samples to encode; record or export them again.")
        return self._content.getvalue()


def encode_blocks(
    blocks: Iterable[np.ndarray], sample_rate: int, audio_format: str = "flac"
) -> tuple[bytes, int]:
    """All blocks as one encoded recording, and its number of samples; see `BlockEncoder`."""
    encoder = BlockEncoder(sample_rate, audio_format)
    for block in blocks:
        encoder.write(block)
    return encoder.finish(), encoder.num_samples
