import numpy as np
import pytest

from mt3.symbolic import vocabularies
from mt3.symbolic.vocabularies import VocabularyConfig, bin_to_velocity, build_codec, velocity_to_bin


@pytest.mark.parametrize("num_velocity_bins", [1, 127])
def test_numbering_and_sizes_equal_the_published_ones(read_golden, num_velocity_bins):
    expected = read_golden("vocabulary.json")[str(num_velocity_bins)]
    config = VocabularyConfig(num_velocity_bins=num_velocity_bins)
    codec = build_codec(config)
    assert codec.num_classes == expected["num_classes"]
    assert config.max_shift_steps == expected["max_shift_steps"]
    assert {kind: list(codec.id_range(kind)) for kind in codec.kinds} == expected["ranges"]
    assert vocabularies.vocabulary_size(config) == expected["vocab_size"]
    assert vocabularies.num_embeddings(config) == expected["num_embeddings"]
    special = (vocabularies.PAD_ID, vocabularies.EOS_ID, vocabularies.UNK_ID)
    assert special == (expected["pad_id"], expected["eos_id"], expected["unk_id"])
    for event_id, target_id in expected["encode"].items():
        assert int(event_id) + vocabularies.NUM_SPECIAL_IDS == target_id


def test_velocity_bins():
    velocity = np.arange(128)
    assert velocity_to_bin(velocity, 127).tolist() == velocity.tolist()
    assert velocity_to_bin(velocity, 1).tolist() == [0] + [1] * 127
    # By hand: 127 / 4 = 31.75 per bin, upper ends included.
    assert velocity_to_bin([0, 1, 31, 32, 63, 64, 95, 96, 127], 4).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert bin_to_velocity([0, 1, 2, 3, 4], 4).tolist() == [0, 31, 63, 95, 127]
    assert bin_to_velocity([0, 1], 1).tolist() == [0, 127]


@pytest.mark.parametrize("num_velocity_bins", [1, 4, 30, 127])
def test_the_velocity_of_a_bin_falls_into_it(num_velocity_bins):
    bins = np.arange(num_velocity_bins + 1)
    velocity = bin_to_velocity(bins, num_velocity_bins)
    assert velocity_to_bin(velocity, num_velocity_bins).tolist() == bins.tolist()


def test_program_granularities():
    programs = [0, 7, 8, 40, 127]
    assert vocabularies.map_programs(programs, "flat").tolist() == [0] * 5
    assert vocabularies.map_programs(programs, "midi_class").tolist() == [0, 0, 8, 40, 120]
    assert vocabularies.map_programs(programs, "full").tolist() == programs
    with pytest.raises(ValueError, match=r"Program 128 is outside 0\.\.127"):
        vocabularies.map_programs([128], "full")
    with pytest.raises(ValueError, match="flat, midi_class, full"):
        vocabularies.map_programs([0], "family")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_velocity_bins": 0}, "num_velocity_bins is 0; choose 1..127"),
        ({"num_velocity_bins": 128}, "num_velocity_bins is 128"),
        ({"steps_per_second": 0}, "steps_per_second is 0"),
        ({"program_granularity": "family"}, "choose one of flat, midi_class, full"),
    ],
)
def test_wrong_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        VocabularyConfig(**setting)
