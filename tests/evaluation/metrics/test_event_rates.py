import pytest

from mt3.evaluation.metrics import event_rates


def test_rates_are_shares_of_all_events():
    assert event_rates(3, 1, 40) == {"Invalid event rate": 3 / 40, "Dropped event rate": 1 / 40}
    assert event_rates(0, 0, 40) == {"Invalid event rate": 0.0, "Dropped event rate": 0.0}
    assert event_rates(0, 0, 0) == {}


@pytest.mark.parametrize("counts", [(3, 1, 3), (-1, 0, 3), (0, -1, 3)])
def test_impossible_counts_are_named(counts):
    with pytest.raises(ValueError, match="must be parts of all 3 events"):
        event_rates(*counts)
