"""How a test session ends, simulated devices, the checkpoint that T5X itself has written, malformed audio."""

import importlib.util
import os
import sys
import tarfile
from pathlib import Path

import jax
import pytest

_STATUS = pytest.StashKey[int]()

_HASTY = (
    *("cli", "evaluation", "inference", "test_documentation.py", "training", "web"),
    *("models/test_beam_search.py", "models/test_cached_decoder.py", "models/test_compute.py"),
    *("models/test_decoding.py", "models/test_token_constraints.py"),
)


def pytest_collection_modifyitems(items):
    """The dearest file first: at the end, one process would be left alone with it."""
    items.sort(key=lambda item: item.path.name != "test_meshes.py")


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Ends the process here, with the status of the tests.

    One process holds TensorFlow's, gRPC's and tensorstore's threads at once, after tests that broke off
    what these were doing; taking down the interpreter under them has crashed after all tests had passed.
    That commands end well is tested in processes of their own.
    """
    if _STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_STATUS])


@pytest.fixture(scope="module", autouse=True)
def _compile_in_haste(request):
    """What these tests compile runs for moments: optimizing it would take most of their time.

    Published numbers, but for tokens, and equality to the last bit are tested where programs are
    compiled as users have them.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    place = request.path.relative_to(Path(__file__).parent).as_posix()
    jax.config.update("jax_disable_most_optimizations", place.startswith(_HASTY))
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def cpu_devices():
    """Number of CPU devices -> environment of a process that has so many, and compiles in haste."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    # Later ones end the process because of flags that they do not know.
    if jax.__version_info__ < (0, 11):
        flags += " --xla_cpu_use_fusion_emitters=false"

    def environment(number):
        all_flags = f"{flags} --xla_force_host_platform_device_count={number}"
        return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": all_flags}

    return environment


@pytest.fixture(scope="session")
def t5x_directory(tmp_path_factory):
    """A T5X checkpoint of the network of network.npz, with Adafactor's slots; not to be changed."""
    folder = tmp_path_factory.mktemp("t5x")
    with tarfile.open(Path(__file__).parent / "golden" / "t5x_checkpoint.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "t5x_checkpoint" / "checkpoint_0"


@pytest.fixture(scope="session")
def malformed_audio(tmp_path_factory):
    """Paths of malformed and odd inputs, see `malformed_audio.py`; not to be changed."""
    location = Path(__file__).with_name("malformed_audio.py")
    specification = importlib.util.spec_from_file_location("malformed_audio", location)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.write_malformed(tmp_path_factory.mktemp("malformed") / "audio")
