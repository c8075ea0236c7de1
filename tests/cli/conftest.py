"""The `mt3` command in this process, and music small enough that a test renders and learns it."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mt3.cli import configuration, main
from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

# Fixed renderings of the MIDI files in a folder, a network of 100000 parameters, and
# training on clips that are rendered in this process. MUSIC and DATA_DIR are still to be set.
TINY = """
include "parts/spectrogram.gin"
include "parts/tokens_notes_ties_vb1.gin"
include "parts/prepared_evaluation.gin"
SPLIT = "train"
BATCH_SIZE = 4

SynthConfig.collections = (%MUSIC,)
SynthConfig.instrumentation = "written"
SynthConfig.transpose_semitones = (0, 0)
SynthConfig.tempo_factors = (1.0, 1.0)
SynthConfig.velocities = (80, 80)
SynthConfig.velocity_spread = 0.0
SynthConfig.swell_velocity = 0.0
SynthConfig.onset_jitter_seconds = 0.0
SynthConfig.articulation = (1.0, 1.0)
SynthConfig.stem_gain_db = (0.0, 0.0)
SynthConfig.lead_seconds = 0.0
SynthConfig.tail_seconds = 0.2
SynthConfig.validation_fraction = 0.0
SynthConfig.test_fraction = 0.0
SynthConfig.num_validation = 0
SynthConfig.num_test = 0

SpectrogramConfig.num_mel_bins = 128
VocabularyConfig.max_shift_seconds = 1
ModelSpec.network = @TransformerConfig()
TransformerConfig.vocab_size = 640
TransformerConfig.emb_dim = 64
TransformerConfig.num_heads = 2
TransformerConfig.head_dim = 32
TransformerConfig.mlp_dim = 128
TransformerConfig.num_encoder_layers = 1
TransformerConfig.num_decoder_layers = 1
TransformerConfig.dropout_rate = 0.0
ModelSpec.input_frames = 32
ModelSpec.max_target_tokens = 24

TrainingRun.spec = @ModelSpec()
TrainingRun.num_steps = 3
TrainingRun.batches = @stream_batches
stream_batches.music = @SynthConfig()
stream_batches.batch_size = %BATCH_SIZE
stream_batches.workers = 0
stream_batches.clips_per_generation = 1
stream_batches.live_generations = 1
stream_batches.segments_per_clip = 1000000
TrainingRun.checkpoints = @CheckpointConfig()
CheckpointConfig.retries = 1
CheckpointConfig.retry_wait_seconds = 0.0
TrainingRun.optimizer = @OptimizerConfig()
OptimizerConfig.name = "adamw"
OptimizerConfig.learning_rate = 2e-3
OptimizerConfig.schedule = "cosine"
OptimizerConfig.warmup_steps = 20
OptimizerConfig.clip_norm = 1.0
"""


def tune(variation=0):
    """Three seconds of a melody and a bass, of two programs; variations are different pieces."""
    melody = np.roll((0, 4, 7, 12, 7, 5, 2, 0), variation)
    rows = [(0.4 * k, 0.4 * k + 0.35, 60 + p, 80, 0, False) for k, p in enumerate(melody)]
    rows += [(0.8 * k, 0.8 * k + 0.75, 40 + p, 80, 32, False) for k, p in enumerate((0, 5, 7, 0))]
    return Notes.from_rows(rows).sorted()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of a command."""

    code: int
    out: str
    err: str

    def error(self):
        """The one line that explains a failure; messages may come before it, nothing else may."""
        assert self.code == 1, self
        *messages, error = self.err.strip().splitlines()
        assert error.startswith("mt3: error: "), self.err
        assert all(line.startswith("mt3: ") and "error: " not in line for line in messages), self.err
        return error


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Compiled programs and parsed music stay in a folder of this test session."""
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in settings}
    outer = {
        name: os.environ.get(name)
        for name in ("MT3_CACHE", "JAX_PLATFORMS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    }
    os.environ |= {"MT3_CACHE": str(tmp_path_factory.mktemp("cache")), "JAX_PLATFORMS": "cpu"}
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    for name, value in outer.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def mt3(monkeypatch, capsys):
    """Runs `mt3 ARGUMENTS...` in this process -> `Outcome`."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mt3", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    asyncio_level = logging.getLogger("asyncio").level  # a command silences it for the rest of its process
    yield run
    logging.getLogger("asyncio").setLevel(asyncio_level)


@pytest.fixture(scope="session")
def music(tmp_path_factory):
    """A folder with one MIDI file."""
    folder = tmp_path_factory.mktemp("music")
    write_midi(tune(), folder / "tune.mid")
    return folder


@pytest.fixture(scope="session")
def tiny(music, tmp_path_factory):
    """The gin file TINY."""
    file = tmp_path_factory.mktemp("gin") / "tiny_run.gin"
    data = tmp_path_factory.mktemp("data") / "prepared"
    file.write_text(f'{TINY}\nMUSIC = "{music}"\nDATA_DIR = "{data}"\n')
    return file


@pytest.fixture(scope="session")
def untrained(tiny, tmp_path_factory):
    """The directory of a run of one step: a checkpoint that can be transcribed with."""
    run_dir = tmp_path_factory.mktemp("runs") / "untrained"
    configuration.parse([str(tiny)], ["TrainingRun.num_steps = 1"])
    run = configuration.build("TrainingRun")
    run.run(run.batches(run.spec), Path(run_dir), progress=False)
    return run_dir


@pytest.fixture(scope="session")
def make_tune():
    """The function `tune`."""
    return tune
