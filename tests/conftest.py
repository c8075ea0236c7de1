"""How a test session ends, and the checkpoint that T5X itself has written."""

import os
import sys
import tarfile
from pathlib import Path

import pytest

_STATUS = pytest.StashKey[int]()


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


@pytest.fixture(scope="session")
def t5x_directory(tmp_path_factory):
    """A T5X checkpoint of the network of network.npz, with Adafactor's slots; not to be changed."""
    folder = tmp_path_factory.mktemp("t5x")
    with tarfile.open(Path(__file__).parent / "golden" / "t5x_checkpoint.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "t5x_checkpoint" / "checkpoint_0"
