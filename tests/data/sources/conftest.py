"""From a published dataset in miniature through everything that a researcher's data goes through."""

import contextlib
import sys

import numpy as np
import pytest

from mt3.data.prepare import prepare
from mt3.data.records import read_recordings
from mt3.data.sources import find_source
from mt3.models.model import ModelSpec
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

MT3 = Tokenizer(VocabularyConfig(num_velocity_bins=1, program_granularity="full"), ties=True)
LENGTHS = {"inputs": 256, "targets": 1024}
KINDS = {"train": "eval_train", "validation": "validation", "test": "test"}


@pytest.fixture
def check_round_trip(tmp_path):
    """archive -> `prepare` -> records -> seqio tasks -> tokens -> notes: what comes out is what went in.

    Called with the source's name, its inputs, {split: {record id: Notes}} and,
    where it is not the default, the configuration. Splits that are not expected
    must not be there. Returns the manifests.
    """

    def check(name, inputs, expected, config=None):
        source = find_source(name)
        output = tmp_path / f"prepared-{name}"
        manifests = prepare(
            source, config or source.config(), [str(i) for i in inputs], output, workers=0, strict=True
        )
        assert manifests.keys() == expected.keys()
        for split, notes_by_id in expected.items():
            manifest = manifests[split]
            recordings = {r.id: r for r in read_recordings(output, split, name=manifest.name)}
            assert recordings.keys() == notes_by_id.keys()
            assert manifest.num_notes == sum(map(len, notes_by_id.values()))
            assert {(r.split, r.dataset) for r in recordings.values()} == {(split, manifest.name)}
            assert all(r.licence for r in recordings.values())
            decoded = _decoded(manifest.name, output, split)
            for record_id, notes in notes_by_id.items():
                assert_same_notes(recordings[record_id].notes, notes, 1e-6)
                assert_same_notes(decoded[record_id], notes, 0.0101)
        if "train" in manifests:
            _check_a_training_batch(manifests["train"], output)
        return manifests

    yield check
    if "seqio" in sys.modules:
        import seqio

        for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
            for name in list(registry.names()):
                registry.remove(name)


def _decoded(dataset, directory, split):
    """{record id: notes} from the tokens of the evaluation task."""
    from mt3.data import tasks

    tasks.register_dataset(dataset, directory, tokenizers=(MT3,))
    task = tasks.find_task_or_mixture(tasks.task_name(dataset, MT3, KINDS[split]))
    segments = {}
    for example in task.get_dataset(LENGTHS, split="eval", shuffle=False).as_numpy_iterator():
        start_seconds = example["start_frame"] / MT3.frames_per_second
        segments.setdefault(example["id"].decode(), []).append((start_seconds, example["targets"]))
    decoded = {record_id: MT3.decode(found) for record_id, found in segments.items()}
    assert all(d.invalid_events == d.dropped_events == 0 for d in decoded.values())
    return {record_id: d.notes for record_id, d in decoded.items()}


def _check_a_training_batch(manifest, directory):
    from mt3.data import tasks
    from mt3.data.seqio_batches import SeqioBatches

    name = tasks.task_name(manifest.name, MT3, "train")
    with contextlib.closing(
        SeqioBatches(ModelSpec(tokenizer=MT3), task=name, batch_size=2, data_dir=str(directory))
    ) as batches:
        batch = next(batches)
    assert batch["inputs"].shape == (2, 256, 128)
    assert np.abs(batch["inputs"]).max() > 0
    assert (batch["decoder_target_tokens"] > 0).any()


def assert_same_notes(found, expected, tolerance_seconds):
    """Equal instruments and pitches, and times within the tolerance; drums end nowhere in particular."""
    for instrument in sorted({*found.instruments, *expected.instruments}):
        a, b = (_of(notes, instrument) for notes in (found, expected))
        assert a.pitch.tolist() == b.pitch.tolist(), instrument
        np.testing.assert_allclose(a.onset_seconds, b.onset_seconds, atol=tolerance_seconds)
        if not instrument[1]:
            np.testing.assert_allclose(a.offset_seconds, b.offset_seconds, atol=tolerance_seconds)


def _of(notes: Notes, instrument):
    """The notes of an instrument by pitch, then onset, so that rounding does not change their order."""
    program, is_drum = instrument
    own = notes[(notes.is_drum == is_drum) & (is_drum | (notes.program == program))]
    return own[np.lexsort((own.onset_seconds, own.pitch))]
