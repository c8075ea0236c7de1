"""seqio's vocabulary and feature converter, held to the golden sizes and to the NumPy batches."""

import json
from pathlib import Path

import numpy as np
import pytest

from mt3.audio.spectrograms import SpectrogramConfig, log_mel_numpy
from mt3.data.batches import make_batch
from mt3.symbolic.vocabularies import VocabularyConfig, num_embeddings

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")
features = pytest.importorskip("mt3.data.features")

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vocabulary.json").read_text())


@pytest.mark.parametrize("num_velocity_bins", [1, 127])
def test_vocabulary_has_the_published_sizes(num_velocity_bins):
    golden = GOLDEN[str(num_velocity_bins)]
    config = VocabularyConfig(num_velocity_bins)
    vocabulary = features.TranscriptionVocabulary(config)
    for name in ("vocab_size", "pad_id", "eos_id", "unk_id"):
        assert getattr(vocabulary, name) == golden[name]
    assert num_embeddings(config) == golden["num_embeddings"] >= vocabulary.vocab_size
    events = [int(event) for event in golden["encode"]]
    ids = [golden["encode"][str(event)] for event in events]
    assert vocabulary.encode(events) == ids
    assert vocabulary.decode(ids) == events
    assert vocabulary.encode_tf(tf.constant(events)).numpy().tolist() == ids
    assert vocabulary.decode_tf(tf.constant(ids)).numpy().tolist() == events


def test_special_ids_decode_to_no_events():
    vocabulary = features.TranscriptionVocabulary(VocabularyConfig(1))
    last = vocabulary.vocab_size - 1  # an extra id, no event
    # seqio cuts after the end and makes ids from the extra ones on unknown.
    assert vocabulary.decode([3, 2, last, 0, 1, 7]) == [0, -2, -2, -2, -1]
    assert vocabulary.decode_tf(tf.constant([3, 2, last, 0, 1, 7])).numpy().tolist() == [
        0,
        -2,
        -2,
        -2,
        -1,
        -2,
    ]


def test_events_out_of_range_are_named():
    vocabulary = features.TranscriptionVocabulary(VocabularyConfig(1))
    with pytest.raises(ValueError, match=r"Event id 1388 is outside 0\.\.1387"):
        vocabulary.encode([0, 1388])


def test_vocabularies_are_equal_by_their_settings():
    one, same, other = (features.TranscriptionVocabulary(VocabularyConfig(bins)) for bins in (1, 1, 127))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


def example_dataset():
    rng = np.random.default_rng(0)
    examples = [
        {
            "inputs": rng.uniform(-1, 1, (num_frames, 128)).astype(np.float32),
            "targets": np.append(rng.integers(3, 1000, num_tokens), 1).astype(np.int32),
        }
        for num_frames, num_tokens in ((16, 5), (16, 0), (9, 31))
    ]
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(examples),
        output_signature={
            "inputs": tf.TensorSpec([None, 128], tf.float32),
            "targets": tf.TensorSpec([None], tf.int32),
        },
    )
    return examples, dataset


def test_converted_features_are_those_of_numpy_batches():
    examples, dataset = example_dataset()
    converted = features.TranscriptionFeatureConverter()(dataset, {"inputs": 16, "targets": 32})
    (batch,) = converted.batch(3).as_numpy_iterator()
    expected = make_batch(examples, input_frames=16, max_target_tokens=32)
    assert batch.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(batch[name], value, err_msg=name)
        assert batch[name].dtype == value.dtype


def test_log_mel_can_be_made_on_the_host():
    examples, dataset = example_dataset()
    config = SpectrogramConfig()
    converter = features.TranscriptionFeatureConverter(config)
    (batch,) = converter(dataset, {"inputs": 16, "targets": 32}).batch(3).as_numpy_iterator()
    frames = make_batch(examples, input_frames=16, max_target_tokens=32)["inputs"]
    np.testing.assert_array_equal(batch["inputs"], log_mel_numpy(frames, config))
