"""Runs on eight simulated devices and in two processes, compared with one device."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("mesh_program.py")


def start(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, PROGRAM, *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def on_eight_devices(cpu_devices, tmp_path_factory):
    return result(start(cpu_devices(8), "eight_devices", tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def on_one_device(on_eight_devices):
    """Losses of the plainest run."""
    mesh, parts, scan, losses = on_eight_devices["matrix"][0]
    assert (mesh, parts, scan) == ("single", 1, False)
    assert len(losses) == 20
    assert len(set(losses)) == 20
    return losses


@pytest.mark.slow
def test_losses_are_those_of_one_device(on_eight_devices, on_one_device):
    """Of every mesh, with batches whole and in parts, layers scanned and not."""
    meshes, parts, scans, _ = zip(*on_eight_devices["matrix"], strict=True)
    assert (set(meshes), set(parts), set(scans)) == (
        {"single", "data", "fsdp", "fsdp+model"},
        {1, 2, 4},
        {False, True},
    )
    for *choice, losses in on_eight_devices["matrix"]:
        np.testing.assert_allclose(losses, on_one_device, rtol=1e-5, err_msg=str(choice))


@pytest.mark.slow
def test_a_checkpoint_of_one_mesh_is_resumed_on_another(on_eight_devices):
    """With dropout, whose choices do not depend on the mesh."""
    runs = on_eight_devices["change_mesh"]
    assert len(runs["changing"]) == 12
    np.testing.assert_allclose(runs["changing"], runs["staying"], rtol=1e-5)


@pytest.mark.slow
def test_parameters_and_optimizer_are_cut_up(on_eight_devices):
    """After an update on four by two devices: kernels in eight, what has one such axis in less."""
    arrays = on_eight_devices["change_mesh"]["sizes"]
    kernel = "['decoder']['layers_0']['mlp']['wi_0']['kernel']"
    size, shard, spec = arrays[f"[0]{kernel}"]
    assert (size, shard, spec) == (16 * 32, 16 * 32 // 8, "P('fsdp', 'model')")
    # Adafactor's factored moments: of the axis `embed`, and of `mlp`.
    factored = sorted(row for path, row in arrays.items() if path.endswith(kernel) and ".v_" in path)
    assert factored == [[16, 4, "P('fsdp',)"], [32, 16, "P('model',)"]]
    params = [row for path, row in arrays.items() if path.startswith("[0]")]
    assert sum(shard for _, shard, _ in params) < 0.15 * sum(size for size, *_ in params)


@pytest.mark.slow
def test_two_processes_are_as_good_as_one_device(cpu_devices, on_one_device, tmp_path):
    """A signal to one of them stops both after the same update; resumed, they end where one device does."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start(cpu_devices(2), "process", tmp_path, port, index) for index in range(2)]
    first, second = map(result, processes)
    assert first == second
    assert first["stopped_at"] == 8
    np.testing.assert_allclose(first["losses"], on_one_device, rtol=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    np.testing.assert_allclose([line["train/loss"] for line in lines], first["losses"], rtol=1e-7)
