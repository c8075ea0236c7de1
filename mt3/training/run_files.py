"""Where things lie in a run's directory, and how its text files are written.

    RUN/model.json              the model's spec
    RUN/config.gin              the resolved configuration, where there is one
    RUN/metrics.jsonl           one JSON object a line: step and published metrics
    RUN/tensorboard/            the same for TensorBoard
    RUN/incidents.jsonl         skipped updates and loss spikes, with the examples that were in their batches
    RUN/best.json               {"step", "metric", "value", "mode"} of the best kept checkpoint
    RUN/checkpoints/STEP/       one checkpoint after STEP updates (Orbax), of the items
        params, train_state     (optimizer state, step, PRNG key data, skipped steps)
        data, spec              JSON: state of the batch iterator, the model's spec

`mt3.models.checkpoints` names and reads those that a trained model needs; the
others are named here. Text files are replaced atomically: a reader sees the old text or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mt3.files import write_text

SPEC_FILE = "model.json"
CONFIG_FILE = "config.gin"
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
# Items of a checkpoint besides those that `mt3.models.checkpoints` reads.
TRAIN_STATE_ITEM = "train_state"
DATA_ITEM = "data"


def incidents_file(process_index: int) -> str:
    """Name of a process's file of incidents: each knows its own part of a batch only."""
    return f"incidents-{process_index}.jsonl" if process_index else "incidents.jsonl"


def write_run_files(
    run_dir: str | Path, spec: Mapping[str, Any] | None = None, config_text: str | None = None
) -> None:
    """Writes RUN/model.json and RUN/config.gin, each atomically.

    Raises:
      OSError: they cannot be written; the message names the directory and the remedy.
    """
    run_dir = Path(run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if spec is not None:
            write_text(run_dir / SPEC_FILE, json.dumps(spec, indent=2) + "\n")
        if config_text is not None:
            write_text(run_dir / CONFIG_FILE, config_text)
    except OSError as error:
        message = f"cannot write to {run_dir}: {error.strerror}; make room there or choose another run_dir"
        raise OSError(error.errno, message) from error
