"""The endless stream: batches depend on (seed, step) alone, resume exactly, and stay within their bounds."""

import dataclasses
import gc
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from mt3.data.augmentation import AugmentationConfig
from mt3.data.clips import drawn_clips, render_clip
from mt3.data.pieces import Piece, PieceError
from mt3.data.preprocessors import SegmentConfig
from mt3.data.sources.synth import SynthConfig
from mt3.data.stream import StreamConfig, StreamError, SyntheticStream
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

TOKENIZER = Tokenizer(VocabularyConfig(num_velocity_bins=1))


@pytest.fixture(scope="module")
def pieces(make_tune):
    return [Piece.from_notes(f"tune{seed}", make_tune(seed)) for seed in range(6)]


@pytest.fixture
def config():
    return StreamConfig(
        music=SynthConfig(instrumentation="family", max_seconds=4.0, augmentation=AugmentationConfig()),
        segments=SegmentConfig(TOKENIZER, segment_frames=128, max_target_tokens=256),
        batch_size=4,
        clips_per_generation=6,
        live_generations=2,
        segments_per_clip=4,
    )


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def take(config, pieces, count, **options):
    with SyntheticStream(config, pieces=pieces, **options) as batches:
        return [next(batches) for _ in range(count)]


def test_batches_have_the_layout_of_training_batches(config, pieces):
    (batch,) = take(config, pieces, 1)
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == {
        "inputs": ((4, 128, 128), np.float32),
        "decoder_input_tokens": ((4, 256), np.int32),
        "decoder_target_tokens": ((4, 256), np.int32),
        "decoder_loss_weights": ((4, 256), np.float32),
        "example_ids": ((4,), object),
    }
    clips = [f"{clip.generation}-{clip.index}" for clip in drawn_clips(config, 0)]
    for name, clip in zip(batch["example_ids"], clips, strict=True):
        assert re.fullmatch(rf"tune\d \(clip {clip}\)@\d\.\d\d\ds", name.decode())
    assert np.abs(batch["inputs"]).max() <= 1
    assert (np.abs(batch["inputs"]).max(axis=(1, 2)) > 0.01).all()
    targets = batch["decoder_target_tokens"]
    assert ((targets == 1).sum(axis=1) == 1).all()
    assert targets.max() < TOKENIZER.num_embeddings


@pytest.mark.parametrize("mix", [1, 3])
def test_batches_do_not_depend_on_the_workers(config, pieces, mix):
    config = dataclasses.replace(config, max_examples_per_mix=mix)
    serial = take(config, pieces, 5)
    parallel = take(config, pieces, 5, workers=2)
    for a, b in zip(serial, parallel, strict=True):
        assert_equal(a, b)
    assert not multiprocessing.active_children()


def test_resume_is_exact_over_generations(config, pieces):
    steps = 2 * config.steps_per_generation + 3
    whole = take(config, pieces, steps)
    with SyntheticStream(config, pieces=pieces) as first:
        for _ in range(steps - 2):
            next(first)
        state = json.loads(json.dumps(first.get_state()))
    with SyntheticStream(config, pieces=pieces) as second:
        next(second)
        second.set_state(state)
        assert_equal(next(second), whole[-2])
        assert_equal(next(second), whole[-1])
        assert second.get_state()["step"] == steps
        # Back to the start, whose clips have been thrown away.
        second.set_state({"step": 0})
        assert_equal(next(second), whole[0])
    assert_equal(take(config, pieces, 1, start_step=steps - 1)[0], whole[-1])


def test_shards_have_clips_of_their_own(config, pieces):
    """Each gives its part of a batch, and resumes from the state of any."""
    config = dataclasses.replace(config, num_shards=2)
    shards = [dataclasses.replace(config, shard_index=index) for index in range(2)]
    steps = config.steps_per_generation + 2
    first, second = (take(shard, pieces, steps) for shard in shards)
    assert first[0]["inputs"].shape == (2, 128, 128)
    clips = [{clip for step in range(steps) for clip in drawn_clips(shard, step)} for shard in shards]
    assert not clips[0] & clips[1]
    assert not any(np.array_equal(a["inputs"], b["inputs"]) for a, b in zip(first, second, strict=True))
    with SyntheticStream(shards[0], pieces=pieces) as batches:
        next(batches)
        state = batches.get_state()
    with SyntheticStream(shards[1], pieces=pieces) as batches:
        batches.set_state(state)
        assert_equal(next(batches), second[1])


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((0, 3), "batch_size is 4 for 3 shards; give a multiple"),
        ((2, 2), "shard_index is 2; it must be in 0..1"),
    ],
)
def test_shards_that_do_not_fit_are_refused(config, shard, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, shard_index=shard[0], num_shards=shard[1])


def test_workers_can_be_set_back_and_forth(config, pieces):
    whole = take(config, pieces, 9)
    with SyntheticStream(config, pieces=pieces, workers=1) as batches:
        assert_equal(next(batches), whole[0])
        for step in (8, 2, 3):
            batches.set_state({"step": step})
            assert_equal(next(batches), whole[step])


def test_a_changed_configuration_is_noticed(config, pieces, caplog):
    with SyntheticStream(config, pieces=pieces) as batches:
        state = batches.get_state()
    other = dataclasses.replace(config, music=dataclasses.replace(config.music, seed=1))
    with SyntheticStream(other, pieces=pieces) as batches:
        batches.set_state(state)
    assert "has changed since the checkpoint" in caplog.text


def test_steps_and_seeds_differ(config, pieces):
    first, second = take(config, pieces, 2)
    other_seed = dataclasses.replace(config, music=dataclasses.replace(config.music, seed=1))
    (third,) = take(other_seed, pieces, 1)
    assert not np.array_equal(first["inputs"], second["inputs"])
    assert not np.array_equal(first["inputs"], third["inputs"])


@pytest.mark.parametrize("mix", [1, 4])
def test_clips_serve_as_often_as_declared(config, mix):
    config = dataclasses.replace(
        config,
        batch_size=8,
        max_examples_per_mix=mix,
        clips_per_generation=40,
        live_generations=3,
        segments_per_clip=10,
    )
    num_generations = 12
    steps = config.steps_per_generation * num_generations
    uses = {}
    for step in range(steps):
        clips = drawn_clips(config, step)
        assert len(set(clips)) == len(clips) == config.num_segments
        first = step // config.steps_per_generation
        assert {clip.generation for clip in clips} <= set(range(first, first + 3))
        for clip in clips:
            uses[clip] = uses.get(clip, 0) + 1
    # Generations whose whole life was seen.
    whole = [uses.get((g, i), 0) for g in range(2, num_generations - 2) for i in range(40)]
    assert np.mean(whole) == pytest.approx(10, rel=0.05)


def test_targets_say_what_sounds(config, pieces):
    # Notes decoded from the targets of a segment are those that its clip has there.
    config = dataclasses.replace(config, batch_size=1)
    num_compared = 0
    for step, batch in enumerate(take(config, pieces, 4)):
        (clip,) = drawn_clips(config, step)
        chunk = render_clip(config, pieces, clip)
        start_seconds = find_segment(chunk.samples, batch["inputs"][0]) / 125
        decoded = TOKENIZER.decode([(0.0, batch["decoder_target_tokens"][0])])
        assert decoded.dropped_events == 0
        ours = onsets(chunk.notes.shift(-start_seconds), first_seconds=0.02)
        theirs = onsets(decoded.notes, first_seconds=0.0)
        for time, pitch in ours:
            assert {(time + d, pitch) for d in (-1, 0, 1)} & theirs
        num_compared += len(ours)
    assert num_compared > 10


def find_segment(samples, inputs):
    """The frame of `samples` at which the frames of `inputs` start."""
    padded = np.pad(samples, (0, inputs.size)).astype(np.float32) / 32768
    starts = range(len(samples) // 128)
    (start,) = [s for s in starts if np.array_equal(padded[s * 128 :][: inputs.size], inputs.reshape(-1))]
    return start


def onsets(notes, first_seconds):
    """(time in hundredths of a second, pitch) of the notes struck within a segment, but for its edges."""
    inside = notes[(notes.onset_seconds >= first_seconds) & (notes.onset_seconds < 1.0)]
    return {(round(float(t) * 100), int(p)) for t, p in zip(inside.onset_seconds, inside.pitch, strict=True)}


@pytest.mark.parametrize("rule", ["truncate", "drop", "resample"])
def test_long_targets_are_counted_and_batches_stay_full(config, pieces, rule):
    segments = SegmentConfig(TOKENIZER, segment_frames=128, max_target_tokens=26, long_targets=rule)
    config = dataclasses.replace(config, segments=segments, max_examples_per_mix=2)
    with SyntheticStream(config, pieces=pieces) as batches:
        for _ in range(3):
            assert next(batches)["decoder_target_tokens"].shape == (4, 26)
        assert batches.counts.batches == 3
        assert batches.counts.too_long > 0
        assert (batches.counts.dropped > 0) == (rule == "drop")


def test_dropped_segments_are_replaced_the_same_by_workers(config, pieces):
    segments = SegmentConfig(TOKENIZER, segment_frames=128, max_target_tokens=22, long_targets="drop")
    config = dataclasses.replace(config, segments=segments)
    for a, b in zip(take(config, pieces, 3), take(config, pieces, 3, workers=1), strict=True):
        assert_equal(a, b)


def test_targets_that_never_fit_are_an_error(config, pieces):
    segments = SegmentConfig(TOKENIZER, segment_frames=128, max_target_tokens=2, long_targets="drop")
    config = dataclasses.replace(config, segments=segments)
    with pytest.raises(StreamError, match="raise max_target_tokens"):
        take(config, pieces, 1)


def test_music_that_gives_no_clip_is_an_error(config):
    sparse = [Piece.from_notes("sparse", Notes.from_rows([(0.0, 1.0, 60, 80, 0, False)]))]
    for workers in (0, 1):
        with pytest.raises(PieceError, match="the last: sparse: 1 notes"):
            take(config, sparse, 1, workers=workers)
    with pytest.raises(PieceError, match="No music is left"):
        SyntheticStream(config, pieces=[])


def test_target_buckets(config, pieces):
    config = dataclasses.replace(config, target_buckets=(64, 128, 256))
    shapes = {batch["decoder_target_tokens"].shape[1] for batch in take(config, pieces, 4)}
    assert shapes <= {64, 128, 256}
    assert min(shapes) < 256


def test_close_ends_workers_and_removes_their_files(config, pieces):
    batches = SyntheticStream(config, pieces=pieces, workers=2)
    next(batches)
    folder = batches._maker._folder
    assert any(folder.iterdir())
    batches.close()
    batches.close()
    assert not folder.exists()
    assert not multiprocessing.active_children()


def test_a_forgotten_stream_cleans_up(config, pieces):
    batches = SyntheticStream(config, pieces=pieces, workers=1)
    next(batches)
    folder = batches._maker._folder
    del batches
    gc.collect()
    assert not folder.exists()
    assert not multiprocessing.active_children()


def test_clips_of_old_generations_are_deleted(config, pieces):
    config = dataclasses.replace(config, clips_per_generation=4, segments_per_clip=1)
    with SyntheticStream(config, pieces=pieces, workers=1) as batches:
        for _ in range(6):
            next(batches)
        generations = {int(path.name.split("-")[0]) for path in batches._maker._folder.glob("*.clip")}
        assert min(generations) >= 5


def test_a_killed_worker_is_reported(config, pieces):
    with SyntheticStream(config, pieces=pieces, workers=1) as batches:
        next(batches)
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(StreamError, match="worker process of the stream died"):
            list(itertools.islice(batches, 20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"segments": SegmentConfig(TOKENIZER, hop_samples=160)}, r"100\.0 frames per second"),
    ],
)
def test_values_out_of_range_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)


def test_the_stream_needs_no_tensorflow_and_leaves_no_process(midi_folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import json, sys
for name in ("tensorflow", "seqio", "apache_beam", "note_seq", "music21"):
    sys.modules[name] = None
from mt3.data.sources.synth import SynthConfig
from mt3.data.stream import StreamConfig, SyntheticStream
if __name__ == "__main__":
    music = SynthConfig(collections=({str(midi_folder)!r},), max_seconds=3.0)
    config = StreamConfig(music=music, batch_size=2, clips_per_generation=4, live_generations=1)
    batches = SyntheticStream(config, workers=1, cache_dir={str(tmp_path)!r})
    shape = next(batches)["inputs"].shape
    print(json.dumps([shape, "jax" in sys.modules]))
    # Not closed: leaving the program must be enough.
""")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert json.loads(result.stdout) == [[2, 256, 128], False]
