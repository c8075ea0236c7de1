"""Shown examples: audio of the right stretch, the notes that sound in it, a page that lists all."""

import html.parser
import re
import shutil

import numpy as np
import pytest

from mt3.audio.io import audio_info, load_audio
from mt3.data.preprocessors import SegmentConfig, consecutive_segments, split_recording, truncate_target
from mt3.data.showing import TaskExample, centred_log_mel, decode_example, show_task
from mt3.symbolic.conversions import read_midi
from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

seqio = pytest.importorskip("seqio")
pytest.importorskip("matplotlib")

MT3 = Tokenizer(VocabularyConfig(1, program_granularity="full"))
PIANO = Tokenizer(VocabularyConfig(127), ties=False)
ONSETS = Tokenizer(VocabularyConfig(127), ties=False, onsets_only=True)
TRAIN = "synth_notes_ties_vb1_train"
VALIDATION = "synth_notes_ties_vb1_validation"


def clear_registries():
    seqio.set_global_cache_dirs([])
    for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
        for name in list(registry.names()):
            registry.remove(name)


@pytest.fixture(autouse=True)
def no_traces():
    yield
    clear_registries()


@pytest.fixture(scope="module")
def shown_validation(prepared_dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("shown") / "new" / "folder"
    yield show_task(VALIDATION, prepared_dataset.directory, output, count=2, seed=1)
    clear_registries()


@pytest.fixture(scope="module")
def shown_train(prepared_dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp("shown_train")
    yield show_task(TRAIN, prepared_dataset.directory, output, count=2, seed=1, render=False)
    clear_registries()


def assert_same_notes(found, expected, tolerance_seconds=0.0101, seconds=2.048):
    """Each note of one is in the other, but for those that only touch the borders of the example."""
    for one, other in ((found, expected), (expected, found)):
        margin = 3 * tolerance_seconds
        inner = one[(one.onset_seconds < seconds - margin) & (one.offset_seconds > margin)]
        for note in range(len(inner)):
            same = np.ones(len(other), bool)
            for name in ("pitch", "program", "is_drum"):
                same &= getattr(other, name) == getattr(inner, name)[note]
            for name in ("onset_seconds", "offset_seconds"):
                same &= np.abs(getattr(other, name) - getattr(inner, name)[note]) < tolerance_seconds
            assert same.sum() == 1, inner[[note]]


def sounding(notes, start_seconds, seconds=2.048):
    """What sounds in a stretch, from its start."""
    return trim_overlaps(notes).crop(start_seconds, start_seconds + seconds).shift(-start_seconds)


def music(seed=0, seconds=8.0, num_notes=80):
    """Notes of four programs and drums, 0.05 to 1.5 s long, none of which touch."""
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, seconds - 1.6, num_notes)
    program = rng.choice([0, 7, 40, 73], num_notes)
    is_drum = rng.random(num_notes) < 0.2
    return Notes(
        onset,
        np.where(is_drum, onset + 0.01, onset + rng.uniform(0.05, 1.5, num_notes)),
        rng.permutation(np.arange(num_notes) % 88 + 21),
        np.full(num_notes, 100),
        np.where(is_drum, 0, program),
        is_drum,
    )


def example_of(notes, tokenizer, start_frame, *, told=True, num_frames=256):
    targets = tokenizer.encode(tokenizer.prepare(notes), start_frame, num_frames)
    inputs = np.zeros((num_frames, 128), np.float32)
    return TaskExample(inputs, targets, "some/recording" if told else None, start_frame if told else None)


@pytest.mark.parametrize("start_frame", [0, 131, 256, 333, 699])
@pytest.mark.parametrize("told", [True, False])
def test_decoded_notes_are_those_that_sound_in_the_example(start_frame, told):
    notes = music()
    decoded = decode_example(example_of(notes, MT3, start_frame, told=told), MT3)
    start_seconds = start_frame / 125
    # Steps round to 5 ms; the end of the example, and its start where it is not told, may lie within a step.
    assert_same_notes(decoded.notes, sounding(notes, start_seconds), 0.0111 if told else 0.0131)
    assert decoded.invalid_events == 0
    # By pitch, as no two notes have the same; at the borders rounding decides.
    pitched, margin, end_seconds = notes[~notes.is_drum], 0.03, start_seconds + 2.048
    for marked, sign, border, edge, other_edge in (
        (decoded.sounds_before, 1, start_seconds, pitched.onset_seconds, pitched.offset_seconds),
        (decoded.sounds_after, -1, end_seconds, pitched.offset_seconds, pitched.onset_seconds),
    ):
        over, stays = sign * (border - edge), sign * (other_edge - border)
        marked = set(decoded.notes.pitch[marked])
        assert set(pitched.pitch[(over > margin) & (stays > margin)]) <= marked
        assert marked <= set(pitched.pitch[(over > -margin) & (stays > -margin)])


def test_the_example_has_notes_of_all_kinds():
    """So that the test above sees them."""
    decoded = decode_example(example_of(music(), MT3, 256), MT3)
    assert decoded.sounds_before.sum() >= 3
    assert decoded.sounds_after.sum() >= 3
    assert decoded.notes.is_drum.any()
    assert not (decoded.sounds_before | decoded.sounds_after)[decoded.notes.is_drum].any()
    assert len(decoded.notes.instruments) >= 4


def test_a_note_through_the_whole_example():
    notes = Notes.from_rows([(0.0, 8.0, 60, 100, 40, False)])
    decoded = decode_example(example_of(notes, MT3, 256), MT3)
    assert decoded.notes == Notes.from_rows([(0.0, 2.048, 60, 127, 40, False)])
    assert decoded.sounds_before.tolist() == decoded.sounds_after.tolist() == [True]


def test_without_ties_notes_from_before_are_not_told():
    """Their ends are, which a decoder cannot use; notes without an end sound on."""
    rows = [(0.5, 1.3, 60, 90, 0, False), (1.5, 2.0, 62, 80, 0, False), (3.0, 6.0, 64, 70, 0, False)]
    decoded = decode_example(example_of(Notes.from_rows(rows), PIANO, 125), PIANO)
    expected = Notes.from_rows([(0.5, 1.0, 62, 80, 0, False), (2.0, 2.048, 64, 70, 0, False)])
    assert_same_notes(decoded.notes, expected, 0.0051)
    assert decoded.notes.velocity.tolist() == [80, 70]
    assert decoded.sounds_before.tolist() == [False, False]
    assert decoded.sounds_after.tolist() == [False, True]
    assert decoded.invalid_events == 1


def test_onsets_are_short_notes_at_their_times():
    notes = music()
    decoded = decode_example(example_of(notes, ONSETS, 256), ONSETS)
    # All are of program 0 then, drums too.
    onsets = notes.replace(offset_seconds=notes.onset_seconds + 0.01, program=0, is_drum=False)
    assert_same_notes(decoded.notes, sounding(onsets, 2.048), 0.0051)
    assert len(decoded.notes) > 20
    assert not decoded.sounds_after.any()


@pytest.mark.parametrize("num_tokens", [1, 2, 4, 6, 40])
def test_truncated_targets_tell_what_is_left(num_tokens):
    """Also where the tie section itself is cut."""
    whole = example_of(music(), MT3, 256)
    cut = truncate_target(whole.targets, num_tokens, MT3.codec)
    decoded = decode_example(TaskExample(whole.inputs, cut, None, 256), MT3)
    all_notes = decode_example(whole, MT3).notes
    assert decoded.invalid_events == 0
    assert set(decoded.notes.pitch) <= set(all_notes.pitch)
    assert len(decoded.notes) < len(all_notes)


def test_other_grids_and_program_granularities():
    tokenizer = Tokenizer(VocabularyConfig(1, steps_per_second=50, program_granularity="midi_class"))
    notes = music()
    decoded = decode_example(example_of(notes, tokenizer, 333), tokenizer)
    families = notes.replace(program=notes.program // 8 * 8)
    assert_same_notes(decoded.notes, sounding(families, 333 / 125), 0.0201)


def test_evaluation_examples_are_the_right_stretches(shown_validation, prepared_dataset):
    """What the files hold: the audio's samples say where it is from."""
    assert len(shown_validation) == 2
    for shown in shown_validation:
        frames = load_audio(shown.audio, 16000).reshape(256, 128)
        number, first_frame, num_frames = prepared_dataset.locate(frames)
        recording = prepared_dataset.recordings["validation"][number]
        assert (shown.example.recording, shown.example.start_frame) == (recording.id, first_frame)
        start_seconds = first_frame / 125
        assert shown.title.startswith(f"{VALIDATION}: {recording.id} from {start_seconds:.3f} s\n")
        expected = sounding(recording.notes, start_seconds)
        assert len(expected) > 5
        assert_same_notes(shown.decoded.notes, expected, 0.0051)
        assert_same_notes(read_midi(shown.midi), expected)
        assert num_frames == min(256, [1300, 2048][number] - first_frame)


def test_training_examples_are_the_right_stretches(shown_train, prepared_dataset):
    for index, shown in enumerate(shown_train):
        frames = load_audio(shown.audio, 16000).reshape(256, 128)
        number, first_frame, _ = prepared_dataset.locate(frames)
        assert shown.example.recording is None
        expected = sounding(prepared_dataset.recordings["train"][number].notes, first_frame / 125)
        assert_same_notes(read_midi(shown.midi), expected, 0.0131)
        num_tokens = len(shown.example.targets)
        assert shown.title == (
            f"{TRAIN}: example {index}\n{num_tokens} of 1,024 tokens, {len(shown.decoded.notes)} notes"
        )
        assert shown.example.targets[-1] == 1
        assert 0 not in shown.example.targets


def test_without_shuffling_evaluation_goes_through_a_recording(prepared_dataset, tmp_path):
    shown = show_task(
        VALIDATION,
        prepared_dataset.directory,
        tmp_path,
        count=2,
        shuffle=False,
        render=False,
        input_frames=128,
    )
    assert [one.example.start_frame for one in shown] == [0, 128]
    (whole,) = split_recording(prepared_dataset.recordings["validation"][0], chunk_frames=None)
    segments = consecutive_segments(whole, SegmentConfig(MT3, segment_frames=128))
    for one, inputs, targets in zip(shown, segments.inputs, segments.targets, strict=False):
        np.testing.assert_array_equal(np.rint(one.example.inputs * 32768), inputs)
        np.testing.assert_array_equal(one.example.targets, targets[targets > 0])


def test_the_same_seed_shows_the_same_examples(shown_train, prepared_dataset, tmp_path):
    again, other = (
        show_task(TRAIN, prepared_dataset.directory, tmp_path, count=1, seed=seed, render=False)
        for seed in (1, 2)
    )
    np.testing.assert_array_equal(again[0].example.inputs, shown_train[0].example.inputs)
    assert not np.array_equal(other[0].example.inputs, shown_train[0].example.inputs)


def test_notes_are_rendered_to_be_compared_by_ear(shown_validation, shown_train):
    for shown in shown_validation:
        info = audio_info(shown.rendered)
        assert info.sample_rate == 16000
        samples = load_audio(shown.rendered, 16000)
        assert len(samples) == 256 * 128
        assert 0.01 < np.abs(samples).max() <= 1
    assert shown_train[0].rendered is None


def test_mixes_keep_their_samples(prepared_dataset, tmp_path):
    """Several segments summed are louder than 16 bits can hold, here and there."""
    shown = show_task(
        TRAIN, prepared_dataset.directory, tmp_path, count=3, seed=3, max_examples_per_mix=4, render=False
    )
    loud = [one for one in shown if np.abs(one.example.inputs).max() > 1]
    assert loud
    for one in loud:
        np.testing.assert_array_equal(load_audio(one.audio, 16000), one.example.inputs.reshape(-1))


def test_a_mixture_tells_recordings_too(prepared_dataset, tmp_path):
    name = "mega_notes_ties_vb1_eval"
    shown = show_task(
        name, prepared_dataset.directory, tmp_path, count=1, mixture_datasets=["synth"], render=False
    )
    assert re.match(rf"{name}: validation[01] from \d+\.\d+ s\n", shown[0].title)


def test_a_cache_is_read(prepared_dataset, tmp_path):
    """The records themselves are gone."""
    from mt3.data.cache import cache_chunks

    records = shutil.copytree(prepared_dataset.directory, tmp_path / "records")
    cache_chunks(records, tmp_path / "cache", num_shards=2, workers=0)
    for shard in records.glob("*.tfrecord-*"):
        shard.write_bytes(b"")
    shown = show_task(TRAIN, records, tmp_path / "shown", count=1, cache_dir=tmp_path / "cache", render=False)
    number, first_frame, _ = prepared_dataset.locate(shown[0].example.inputs)
    expected = sounding(prepared_dataset.recordings["train"][number].notes, first_frame / 125)
    assert_same_notes(shown[0].decoded.notes, expected, 0.0131)


class _Links(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_lists_every_file(shown_validation):
    folder = shown_validation[0].audio.parent
    page = _Links((folder / "index.html").read_text(encoding="utf-8"))
    files = [f"00{index}{end}" for index in range(2) for end in (".wav", "_rendered.wav", ".mid", ".png")]
    assert page.links == files
    assert {path.name for path in folder.iterdir()} == {*files, "index.html"}
    assert page.open == []
    assert page.tags.count("audio") == 4
    assert page.tags.count("img") == 2
    assert "script" not in page.tags


def test_titles_are_escaped_on_the_page(prepared_dataset, shown_train):
    import dataclasses

    from mt3.data.showing import _page

    strange = dataclasses.replace(shown_train[0], title='<b>"a" & b</b>\nsecond line')
    page = _page("<i>", [strange])
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;&quot;a&quot; &amp; b&lt;/b&gt;: second line" in page


def test_the_picture_shows_the_notes_of_the_example(shown_validation):
    from matplotlib import image

    from mt3.symbolic.instrument_colours import instrument_colour

    for shown in shown_validation:
        pixels = image.imread(shown.picture)[..., :3]
        for program, _ in shown.decoded.notes.instruments:
            colour = np.abs(pixels - np.float32(instrument_colour(program))).max(axis=-1) < 0.01
            assert colour.sum() > 100


def test_the_spectrogram_is_centred():
    """A click at 1 s is in the frames that lie within half a window (64 ms) of it."""
    from mt3.audio.spectrograms import SpectrogramConfig

    frames = np.zeros((256, 128), np.float32)
    frames[125, 0] = 1.0
    loud = np.flatnonzero(centred_log_mel(frames, SpectrogramConfig()).max(axis=1) > np.log(1e-5) + 1)
    assert (loud[0] + loud[-1]) / 2 == 125
    assert 6 <= 125 - loud[0] <= 8
    assert len(centred_log_mel(frames, SpectrogramConfig())) == 257


def test_what_cannot_be_shown_is_said(prepared_dataset, tmp_path):
    with pytest.raises(ValueError, match="count is 0; it must be at least 1"):
        show_task(TRAIN, prepared_dataset.directory, tmp_path, count=0)
    with pytest.raises(ValueError, match="split 'test' is not prepared"):
        show_task("synth_notes_ties_vb1_test", prepared_dataset.directory, tmp_path, render=False)
    with pytest.raises(ValueError, match="maestrov3; run `mt3 prepare maestro"):
        show_task("maestrov3_notes_train", prepared_dataset.directory, tmp_path, render=False)
    with pytest.raises(ValueError, match=r"nowhere\.sf2"):
        show_task(TRAIN, prepared_dataset.directory, tmp_path, soundfont=tmp_path / "nowhere.sf2")
    assert list(tmp_path.iterdir()) == []
