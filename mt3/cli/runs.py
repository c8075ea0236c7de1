"""What `mt3 train` puts together from gin files: the rooms' parts, chosen and connected.

Everything here is plain Python: a script may build a `TrainingRun` without gin.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mt3.cli.evaluation_runs import EvaluationRun
from mt3.data.aligned_batches import AlignedBatches
from mt3.data.preprocessors import SegmentConfig
from mt3.data.sources.synth import SynthConfig
from mt3.data.stream import StreamConfig, SyntheticStream, varied_music
from mt3.evaluation.recording_summaries import RecordingSummaries, SummaryConfig, f1_histograms
from mt3.evaluation.summaries import Summary
from mt3.files import cache_directory
from mt3.models.checkpoints import checkpoint_steps
from mt3.models.compute import ComputeConfig
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.processes import available_cores
from mt3.training import multihost
from mt3.training.checkpoints import CheckpointConfig
from mt3.training.guards import GuardConfig
from mt3.training.initialization import InitialParameters
from mt3.training.loop import train
from mt3.training.optimizers import OptimizerConfig
from mt3.training.partitioning import DEFAULT_AXIS_RULES, MeshConfig, Partitioner, make_mesh, mesh_config
from mt3.training.step import TrainState

Batches = Iterator[dict[str, np.ndarray]]


def stream_batches(
    spec: ModelSpec,
    *,
    music: SynthConfig | None = None,
    batch_size: int = 64,
    max_examples_per_mix: int = 1,
    clips_per_generation: int = 128,
    live_generations: int = 4,
    segments_per_clip: int = 16,
    target_buckets: Sequence[int] = (),
    long_targets: str = "truncate",
    split: str = "train",
    workers: int | None = None,
    shard_index: int = 0,
    num_shards: int = 1,
) -> SyntheticStream:
    """Batches of music that is rendered while training goes on; see `mt3.data.stream.StreamConfig`.

    Args:
      spec: whose segments and tokens.
      workers: processes that render; one a core by default, 0 for none but this one.
      shard_index: which part of each batch this process makes ...
      num_shards: ... of how many.
    """
    config = StreamConfig(
        music=varied_music() if music is None else music,
        segments=_segments(spec, long_targets),
        batch_size=batch_size,
        max_examples_per_mix=max_examples_per_mix,
        clips_per_generation=clips_per_generation,
        live_generations=live_generations,
        segments_per_clip=segments_per_clip,
        target_buckets=tuple(target_buckets),
        split=split,
        shard_index=shard_index,
        num_shards=num_shards,
    )
    workers = available_cores() if workers is None else workers
    return SyntheticStream(config, workers=workers, cache_dir=cache_directory())


def _segments(spec: ModelSpec, long_targets: str) -> SegmentConfig:
    if spec.input_kind != "frames":
        raise ValueError(
            f"the model's input_kind is {spec.input_kind!r}, but the stream gives audio frames: "
            "set ModelSpec.input_kind = 'frames', the numbers are the same"
        )
    return SegmentConfig(
        tokenizer=spec.tokenizer,
        segment_frames=spec.input_frames,
        max_target_tokens=spec.max_target_tokens,
        hop_samples=spec.spectrogram.hop_samples,
        long_targets=long_targets,
    )


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """Everything that a training run is, apart from its directory.

    Attributes:
      batches: from the model's spec to an iterator of batches: `seqio_batches`
        or `stream_batches` with their arguments bound.
      num_steps: updates in all.
      spec: the model.
      optimizer: what to minimise with.
      checkpoints: when they are written, which are kept.
      guards: when a run that goes wrong is stopped, and what is reported of it.
      evaluation: scored during training, or None.
      evaluation_period_steps: how often.
      summaries: what TensorBoard shows of its recordings.
      metrics_period_steps: how often training metrics are logged.
      label_smoothing: of the loss.
      z_loss: of the loss.
      seed: of initial parameters and dropout.
      compute: how the model is computed; may change from one sitting to the next.
      mesh: devices along each mesh axis, or a name of `mt3.training.partitioning.MESHES`.
      axis_rules: (logical axis, mesh axis or axes or None for no cut), tried in this
        order before `mt3.training.partitioning.DEFAULT_AXIS_RULES`.
      initial_parameters: the checkpoint that the run starts from, for fine-tuning;
        random numbers by default. Not read again when the run is resumed.
      device_peak_flops_per_second: see `mt3.training.loop.train`.
    """

    batches: Callable[[ModelSpec], Batches]
    num_steps: int
    spec: ModelSpec = ModelSpec()
    optimizer: OptimizerConfig = OptimizerConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    guards: GuardConfig = GuardConfig()
    evaluation: EvaluationRun | None = None
    evaluation_period_steps: int = 1000
    summaries: SummaryConfig = SummaryConfig()
    metrics_period_steps: int = 100
    label_smoothing: float = 0.0
    z_loss: float = 1e-4
    seed: int = 0
    compute: ComputeConfig = ComputeConfig()
    mesh: str | MeshConfig | None = "data"
    axis_rules: Sequence[tuple[str, str | tuple[str, ...] | None]] = ()
    initial_parameters: InitialParameters | None = None
    device_peak_flops_per_second: float | None = None

    def __post_init__(self) -> None:
        mesh_config(self.mesh)

    @property
    def _all_axis_rules(self) -> Sequence[tuple[str, str | tuple[str, ...] | None]]:
        return (*map(tuple, self.axis_rules), *DEFAULT_AXIS_RULES)

    def open_batches(self) -> Batches:
        """The batches of this process: all of each, or its part where several processes share them.

        Raises:
          ValueError: they cannot be shared.
        """
        index, number = Partitioner(make_mesh(self.mesh), self._all_axis_rules).batch_shard
        if number == 1:
            return self.batches(self.spec)
        batches: Any = self.batches
        if "num_shards" not in inspect.signature(batches).parameters:
            raise ValueError(
                f"batches are {batches!r}, which cannot be shared among {number} processes: "
                "give it parameters shard_index and num_shards"
            )
        shared = batches(self.spec, shard_index=index, num_shards=number)
        return AlignedBatches(shared, multihost.Exchange("batches"))

    def run(
        self,
        batches: Batches,
        run_dir: Path,
        *,
        config_text: str | None = None,
        resume: bool = True,
        progress: bool = True,
    ) -> TrainState:
        """Trains, from where `run_dir` has come to; see `mt3.training.loop.train`."""
        return train(
            TranscriptionModel(self.spec, self.compute),
            batches,
            num_steps=self.num_steps,
            run_dir=run_dir,
            optimizer=self.optimizer,
            checkpoints=self.checkpoints,
            guards=self.guards,
            seed=self.seed,
            resume=resume,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            initial_params=self._initial_params(run_dir),
            evaluate=self._evaluate(),
            evaluation_period_steps=self.evaluation_period_steps,
            metrics_period_steps=self.metrics_period_steps,
            mesh=self.mesh,
            axis_rules=self._all_axis_rules,
            device_peak_flops_per_second=self.device_peak_flops_per_second,
            config_text=config_text,
            progress=progress,
        )

    def _initial_params(self, run_dir: Path) -> Any:
        if self.initial_parameters is None or checkpoint_steps(run_dir):
            return None
        # The key that `init_state` would draw all parameters with.
        rng, _ = jax.random.split(jax.random.key(self.seed))
        return self.initial_parameters.read(TranscriptionModel(self.spec), rng)

    def _evaluate(self) -> Callable[[Any, int], Mapping[str, float | Summary]] | None:
        """From (parameters, step) to scores and, in the first process, what TensorBoard shows besides."""
        if self.evaluation is None:
            return None
        evaluation = self.evaluation
        shown = RecordingSummaries(self.summaries, self.spec.spectrogram, self.spec.segment_seconds)

        def evaluate(params: Any, step: int) -> Mapping[str, float | Summary]:
            histograms: dict[str, Summary] = {}

            def scores(params: Any) -> dict[str, float]:
                result = evaluation.run(
                    self.spec, params, settings={"step": step}, progress=False, observe=shown.observe
                )
                histograms.update(f1_histograms(result))
                return dict(result.scores)

            return {**multihost.on_primary(scores, params), **histograms, **shown.take()}

        return evaluate
