"""How a test session ends."""

import os
import sys

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
