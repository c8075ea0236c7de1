"""The scripts that start runs: that they are shell, and what they start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

LAUNCH = Path(__file__).parents[1] / "scripts" / "launch"
SCRIPTS = sorted(LAUNCH.iterdir())
# What stands in for programs that a test does not have: says how it was called.
STUB = '#!/usr/bin/env bash\nprintf "%s\\n" "$(basename "$0")" "$@"\nexit "${CODE:-0}"\n'


def run(script, *arguments, path=None, **environment):
    search = os.pathsep.join(
        map(str, (*([path] if path else []), Path(sys.executable).parent, "/usr/bin", "/bin"))
    )
    return subprocess.run(
        ["bash", str(LAUNCH / script), *map(str, arguments)],
        env=os.environ | {"PATH": search, "JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def stubs(tmp_path):
    """A directory with programs that are not here."""
    for name in ("srun", "scontrol", "gcloud"):
        (tmp_path / name).write_text(STUB)
        (tmp_path / name).chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_is_shell(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
        assert found.stdout == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_says_how_it_is_used(script):
    outcome = run(script.name)
    assert outcome.returncode != 0
    assert "usage: " in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "environment", "mesh"),
    [("one_gpu.sh", {}, "single"), ("one_host.sh", {"MESH": "fsdp"}, "fsdp")],
)
def test_starts_a_run_in_16_bits(tmp_path, script, environment, mesh):
    """Up to the configuration; the stream needs no data."""
    arguments = ("--gin_file", "tiny.gin", "--gin_file", "stream.gin", "--dry-run")
    write_midi(Notes.from_rows([(t, t + 0.5, 60, 80, 0, False) for t in range(20)]), tmp_path / "tune.mid")
    music = (
        f"--gin.SynthConfig.collections=('{tmp_path}',)",
        *(f"--gin.SynthConfig.{name}=0" for name in ("num_validation", "num_test")),
        *(f"--gin.SynthConfig.{name}=0.0" for name in ("validation_fraction", "test_fraction")),
        "--gin.stream_batches.workers=0",
    )
    outcome = run(script, tmp_path / "run", *arguments, *music, **environment)
    assert outcome.returncode == 0, outcome.stderr
    for line in (
        f"TrainingRun.mesh = '{mesh}'",
        "TransformerConfig.activation_dtype = 'bfloat16'",
        "ComputeConfig.attention = 'fused'",
    ):
        assert line in outcome.stdout.splitlines()


def test_slurm_starts_processes_and_queues_again_what_was_saved(stubs, tmp_path):
    settings = {"path": stubs, "SLURM_JOB_ID": "17", "SLURM_SUBMIT_DIR": str(tmp_path)}
    outcome = run("slurm.sbatch", "runs/a b", "--gin_file", "mt3_small.gin", MESH="fsdp", **settings)
    assert outcome.returncode == 0
    assert outcome.stdout.splitlines()[:8] == [
        *("srun", "--kill-on-bad-exit=1", "mt3", "train", "--distributed", "--run-dir", "runs/a b", "--mesh")
    ]
    assert "scontrol" not in outcome.stdout
    assert run("slurm.sbatch", "run", CODE="1", **settings).returncode == 1
    stopped = run("slurm.sbatch", "run", CODE="75", **settings)
    assert stopped.stdout.splitlines()[-3:] == ["scontrol", "requeue", "17"]


def test_tpu_hosts_get_arguments_as_they_were_given(stubs):
    binding = "--gin.DATA_DIR='a b'"
    outcome = run("tpu_vm.sh", "pod", "zone-a", "/mnt/runs/a", binding, path=stubs)
    *arguments, command = outcome.stdout.splitlines()
    assert arguments == [
        *(
            "gcloud",
            "compute",
            "tpus",
            "tpu-vm",
            "ssh",
            "pod",
            "--zone",
            "zone-a",
            "--worker=all",
            "--command",
        )
    ]
    assert command.startswith(
        "cd mt3 && exec .venv/bin/mt3 train --distributed --run-dir /mnt/runs/a --mesh data "
    )
    read = subprocess.run(
        ["bash", "-c", "printf '%s\\n' " + command.partition("train ")[2]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout.splitlines()[-1] == binding
