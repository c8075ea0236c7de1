"""Failures of checkpoints: said once, in words of ours."""

import logging

from mt3.training.checkpoint_failures import one_report_of_failures


def test_what_orbax_logs_of_a_failure_is_not_shown_however_late(caplog):
    """Its threads may outlive what they wrote for; messages of others stay."""
    absl = logging.getLogger("absl")

    def log():
        error = ValueError("disk full")
        absl.error("a thread of orbax failed", exc_info=error)
        absl.error("a thread of another library failed", exc_info=error)
        absl.error("orbax is out of date")

    with one_report_of_failures():
        log()
    log()
    shown = ["a thread of another library failed", "orbax is out of date"]
    assert [record.getMessage() for record in caplog.records] == 2 * shown
