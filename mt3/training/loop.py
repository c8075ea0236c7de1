"""The training loop: updates a model with batches, and resumes where it was stopped.

It is handed an iterator of batches (dictionaries of NumPy arrays) and does not
know where they come from. The next ones are fetched and sent to the devices
while they work on the current one. Promises: a run that was interrupted and
resumed ends in the same state, bit for bit, as one that was not (same
devices, and an iterator that can be put back); SIGTERM and Ctrl-C finish the
current update, save and stop; updates that were skipped are reported with the
examples of their batches, and end the run when they are too many.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import optax

from mt3.evaluation.summaries import Summary
from mt3.models.checkpoints import CheckpointError
from mt3.training import multihost
from mt3.training.checkpoints import CheckpointConfig, Checkpoints
from mt3.training.guards import GuardConfig, Guards
from mt3.training.hooks import (
    CheckpointWriter,
    Evaluation,
    Hook,
    JsonlWriter,
    LogWriter,
    ProgressBar,
    Run,
    TrainingMetrics,
    end_hooks,
)
from mt3.training.optimizers import OptimizerConfig, build_optimizer, build_schedule
from mt3.training.partitioning import DEFAULT_AXIS_RULES, AxisRules, MeshConfig, Partitioner, make_mesh
from mt3.training.prefetch import Prefetch
from mt3.training.run_files import write_run_files
from mt3.training.step import Batch, HasLogicalAxes, Metrics, Model, TrainState, init_state, jit_train_step
from mt3.training.tensorboard import TensorBoardWriter
from mt3.training.throughput import CountsFlops, peak_flops_per_second

logger = logging.getLogger(__name__)

StepFunction = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingInterrupted(Exception):
    """A signal stopped the run; its state is saved and the same call resumes it.

    Attributes:
      step: updates done and saved.
      signum: the signal.
    """

    def __init__(self, step: int, signum: int, run_dir: Path) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name} "
            + (f"after step {step}, which is saved in {run_dir}" if step else "before the first update")
            + ": run the same command again to go on"
        )
        self.step = step
        self.signum = signum


def train(
    model: Model,
    batches: Iterator[Batch],
    *,
    num_steps: int,
    run_dir: str | Path,
    optimizer: OptimizerConfig | None = None,
    checkpoints: CheckpointConfig | None = None,
    guards: GuardConfig | None = None,
    seed: int = 0,
    resume: bool = True,
    label_smoothing: float = 0.0,
    z_loss: float = 1e-4,
    initial_params: Any = None,
    evaluate: Callable[[Any, int], Mapping[str, float | Summary]] | None = None,
    evaluation_period_steps: int = 1000,
    metrics_period_steps: int = 100,
    hooks: Sequence[Hook] = (),
    mesh: str | MeshConfig | None = None,
    axis_rules: AxisRules = DEFAULT_AXIS_RULES,
    prng: str = "threefry2x32",
    device_peak_flops_per_second: float | None = None,
    config_text: str | None = None,
    progress: bool = True,
    tensorboard: bool = True,
) -> TrainState:
    """Trains up to `num_steps` updates in all, resuming what `run_dir` holds.

    Args:
      model: `init` and `loss`; its `spec`, if it has one, is stored with every
        checkpoint, its `logical_axes()` place the parameters on the mesh, and
        its `training_flops()` are compared with what the devices can do.
      batches: yields dictionaries of NumPy arrays, new ones each time, and is used by
        another thread while this function runs. If it has `get_state()` (JSON-able,
        cheap: called once per batch) and `set_state()`, it is put back on resuming;
        otherwise it starts over. When it ends early, so does training, with a
        warning. `example_ids` (bytes or text, [batch]) say what the rows are of. If it
        has `interrupt()`, this is called when a batch under way is no longer wanted.
      num_steps: of the whole run; also the end of schedules that need one.
      run_dir: see `run_files.py`.
      optimizer: what to minimise with.
      checkpoints: when to write them and which to keep.
      guards: when to report and to stop a run that goes wrong.
      seed: of initial parameters and dropout.
      resume: False refuses a directory that has checkpoints.
      label_smoothing: of the loss.
      z_loss: of the loss.
      initial_params: to start from instead of random ones.
      evaluate: from (parameters, step) to metrics and summaries, published as `eval/NAME`.
      evaluation_period_steps: how often.
      metrics_period_steps: how often training metrics are published.
      hooks: further hooks; they see evaluation results, and come before checkpoints.
      mesh: devices along each mesh axis, or a name of `MESHES`; all on `data` by default.
      axis_rules: from logical axes to mesh axes.
      prng: JAX's random bit generator for dropout, e.g. "rbg" (faster on
        accelerators, the same bits on the same devices only).
      device_peak_flops_per_second: of one device, which `train/mfu` is a share of; by
        default from `throughput.PEAK_FLOPS_PER_SECOND`.
      config_text: the resolved configuration, saved beside the checkpoints.
      progress: show a progress bar.
      tensorboard: write metrics and summaries for TensorBoard.

    Returns:
      The state after the last update.

    Raises:
      TrainingInterrupted: SIGTERM or SIGINT; all is saved.
      CheckpointError: a checkpoint does not fit, or the last one cannot be written.
      TooManySkippedUpdatesError: the limits of `guards` are reached.
      FileExistsError: there are checkpoints and `resume` is False.
    """
    run_dir = Path(run_dir)
    optimizer = optimizer or OptimizerConfig()
    checkpoints = checkpoints or CheckpointConfig()
    transformation = build_optimizer(optimizer, num_steps)
    partitioner = Partitioner(make_mesh(mesh), axis_rules)
    spec = _spec_of(model)
    with _stop_on_signals() as stop, Checkpoints(run_dir, checkpoints, spec) as saved:
        if saved.latest_step is not None and not resume:
            raise FileExistsError(
                f"{run_dir} holds checkpoints up to step {saved.latest_step}: "
                "resume from them, or choose another run_dir"
            )
        rng = jax.random.key(seed, impl=prng)
        state, shardings = _first_state(
            model, transformation, partitioner, rng, initial_params, saved, batches, spec
        )
        if multihost.is_primary():
            write_run_files(run_dir, spec, config_text)
        step_function = jit_train_step(
            state_shardings=shardings,
            partitioner=partitioner,
            model=model,
            optimizer=transformation,
            schedule=build_schedule(optimizer, num_steps),
            accumulation_steps=optimizer.accumulation_steps,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
        )
        step = int(state.step)
        run = Run(state=state, num_steps=num_steps, step=step, start_step=step)
        run.hooks = [
            TrainingMetrics(metrics_period_steps, _peak(partitioner, device_peak_flops_per_second)),
            Guards(run_dir, guards or GuardConfig()),
            *([Evaluation(evaluate, evaluation_period_steps)] if evaluate else []),
            *hooks,
            *(_writers(run_dir, tensorboard, progress) if multihost.is_primary() else []),
            CheckpointWriter(saved, checkpoints.period_steps),
        ]
        count_flops = model.training_flops if isinstance(model, CountsFlops) else None
        with Prefetch(batches, partitioner, most=num_steps - step) as prefetch:
            _run_to_end(run, lambda: _update(run, step_function, prefetch, count_flops, stop))
    if stop.signum is not None and run.step < run.num_steps:
        raise TrainingInterrupted(run.step, stop.signum, run_dir)
    return run.state


def _peak(partitioner: Partitioner, of_a_device: float | None) -> float | None:
    """Of all devices of the mesh, in operations a second."""
    devices = partitioner.mesh.devices
    if of_a_device is None:
        of_a_device = peak_flops_per_second(devices.flat[0].device_kind)
    return None if of_a_device is None else of_a_device * devices.size


def _writers(run_dir: Path, tensorboard: bool, progress: bool) -> list[Hook]:
    """What the first process writes and shows for all."""
    return [
        JsonlWriter(run_dir),
        *([TensorBoardWriter(run_dir)] if tensorboard else []),
        *([ProgressBar()] if progress else []),
        LogWriter(),
    ]


def _spec_of(model: Model) -> dict[str, Any] | None:
    """The model's spec as it will be read back from JSON."""
    spec = getattr(model, "spec", None)
    return None if spec is None else json.loads(json.dumps(spec.to_dict()))


def _first_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    partitioner: Partitioner,
    rng: jax.Array,
    initial_params: Any,
    saved: Checkpoints,
    batches: Any,
    spec: Mapping[str, Any] | None,
) -> tuple[TrainState, Any]:
    """The state to go on from, restored or new, and the shardings of its arrays."""

    def new_state(rng: jax.Array, params: Any) -> TrainState:
        return init_state(model, optimizer, rng, params=params)

    shapes = jax.eval_shape(new_state, rng, initial_params)
    logical_axes = model.logical_axes() if isinstance(model, HasLogicalAxes) else None
    shardings = partitioner.state_shardings(shapes, logical_axes, optimizer)
    if saved.latest_step is None:
        return jax.jit(new_state, out_shardings=shardings)(rng, initial_params), shardings
    template = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )
    state, data_state = saved.restore(
        template.replace(rng=jax.jit(lambda key: key, out_shardings=shardings.rng)(rng))
    )
    logger.info("resuming from step %d of %s", int(state.step), saved.folder)
    changed = _changed_fields(saved.read_spec(), spec or {})
    if changed:
        logger.warning("the model's spec has changed since the checkpoint: %s", "; ".join(changed))
    if data_state is not None and hasattr(batches, "set_state"):
        batches.set_state(data_state)
    else:
        logger.warning("the batches cannot be put back to step %d: they start over", int(state.step))
    return state, shardings


def _changed_fields(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            change
            for key in sorted({*old, *new})
            for change in _changed_fields(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if old == new else [f"{name} was {old!r} and is {new!r}"]


def _run_to_end(run: Run, update: Callable[[], None]) -> None:
    """Hooks around the updates; what ends them, an exception too, ends the hooks."""
    try:
        for hook in run.hooks:
            hook.on_start(run)
        update()
    except BaseException as error:
        multihost.report_failure(error)
        if jax.process_count() > 1:  # A checkpoint is written by all processes or by none.
            run.hooks = [hook for hook in run.hooks if not isinstance(hook, CheckpointWriter)]
        # What ended the run matters more than a failed write, which has been logged.
        with contextlib.suppress(CheckpointError):
            end_hooks(run)
        raise
    end_hooks(run)


def _update(
    run: Run,
    step_function: StepFunction,
    prefetch: Prefetch,
    count_flops: Callable[[Batch], float] | None,
    stop: _Stop,
) -> None:
    """Updates until the end or a signal, each followed by the hooks."""

    def devices_are_busy() -> bool:
        metrics: Any = run.metrics.values()
        return not all(metric.is_ready() for metric in metrics)

    def is_given_up() -> bool:
        # Several processes stop after the same update only, which all have a batch for.
        return stop.signum is not None and jax.process_count() == 1

    fetched = prefetch.next(devices_are_busy, is_given_up) if run.step < run.num_steps else None
    previous: Any = ()
    while fetched is not None and not stop.agreed():
        run.state, run.metrics = step_function(run.state, fetched.batch)
        run.data_state, run.num_examples = fetched.data_state, fetched.num_examples
        run.example_ids = fetched.example_ids
        run.num_flops = count_flops(fetched.batch) if count_flops else 0.0
        run.step += 1
        run.published = {}
        # The devices are at work on this update when the next one's batch is asked for, and
        # at most two updates are under way at a time.
        fetched = prefetch.next(devices_are_busy, is_given_up) if run.step < run.num_steps else None
        run.idle_seconds = prefetch.idle_seconds
        jax.block_until_ready(run.metrics if run.step == run.start_step + 1 else previous)
        previous = run.metrics
        if fetched is None and run.step < run.num_steps and not is_given_up():
            logger.warning("the batches ended after step %d of %d: so does the run", run.step, run.num_steps)
            run.num_steps = run.step
        for hook in run.hooks:
            hook.on_step(run)


@dataclasses.dataclass
class _Stop:
    signum: int | None = None
    exchange: multihost.Exchange = dataclasses.field(default_factory=lambda: multihost.Exchange("stop"))

    def agreed(self) -> bool:
        """Whether any process is to stop: the same answer in all of them, after the same update."""
        signals = [signum for signum in self.exchange(self.signum) if signum is not None]
        self.signum = max(signals, default=None)
        return bool(signals)


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """Takes note of the first SIGTERM or SIGINT; a second one acts as it did before."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python gives signals to the main thread only.
        return
    before: dict[int, Any] = {}

    def take_note(signum: int, frame: FrameType | None) -> None:
        stop.signum = signum
        signal.signal(signum, before[signum])

    for signum in _STOP_SIGNALS:
        before[signum] = signal.signal(signum, take_note) or signal.SIG_DFL
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
