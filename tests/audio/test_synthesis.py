"""Rendering: the right pitch, the right instruments, the same samples every time."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from mt3.audio import midirenderer_backend, soundfonts, synthesis
from mt3.symbolic.notes import Notes

SAMPLE_RATE = 16000
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(reason is not None, reason=reason or ""))
    for name, reason in synthesis.available_backends().items()
]
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def make_notes(rows):
    """Notes from (onset, offset, pitch, program) rows, velocity 100."""
    return Notes.from_rows([(on, off, pitch, 100, program, False) for on, off, pitch, program in rows])


def chord(pitches, program=0, onset=0.1, offset=0.6):
    return make_notes([(onset, offset, pitch, program) for pitch in pitches])


def random_notes(seed, num_notes=40, seconds=2.0, programs=(0, 25, 33, 48, 65)):
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, seconds, num_notes)
    is_drum = rng.random(num_notes) < 0.2
    return Notes(
        onset_seconds=onset,
        offset_seconds=onset + rng.uniform(0.05, 0.6, num_notes),
        pitch=rng.integers(40, 80, num_notes),
        velocity=rng.integers(1, 128, num_notes),
        program=np.where(is_drum, 0, rng.choice(programs, num_notes)),
        is_drum=is_drum,
    )


def render(backend, notes, **options):
    return synthesis.make_synthesizer(backend=backend).render(notes, **options)


# What sounds: measured against the written pitch.

SLOT_SECONDS = 0.75
SHIFTS = np.arange(-24, 25)
KEYS = (60, 67)

# Programs without a pitch of their own in any General MIDI font.
UNPITCHED = {
    116: "taiko drum",
    117: "melodic tom: a falling pitch",
    118: "synth drum: a falling pitch",
    119: "reverse cymbal",
    **dict.fromkeys(range(120, 128), "sound effect"),
}
# Where the root of the harmonic series is not the written pitch: semitones and why.
SERIES_ROOT = {
    16: (-12, "drawbar organ: a 16-foot stop sounds an octave below the key"),
    17: (-12, "percussive organ: likewise"),
    18: (-12, "rock organ: likewise"),
    47: (-12, "timpani: partials 1 : 1.5 : 2, of which the first is the written pitch"),
    **{program: soundfonts.DEFAULT_SOUNDFONT_OFF_PITCH[program] for program in (31, 55, 86)},
}
# Bells (inharmonic) and whistles (one partial) have no series: their strongest partial
# within an octave of the key counts.
SINGLE_PARTIAL = {
    9: (0, "glockenspiel"),
    78: soundfonts.DEFAULT_SOUNDFONT_OFF_PITCH[78],
    112: (0, "tinkle bell"),
    113: (0, "agogo"),
}


def magnitudes(samples):
    """The frequencies in semitones above MIDI pitch 0, and the magnitude spectrum."""
    size = 1 << 16
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))[1:]
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)[1:]
    return 69 + 12 * np.log2(hertz / 440), spectrum


def series_salience(semitones, spectrum, key):
    """[49]: how strong the first eight harmonics of each pitch within two octaves of `key` are.

    Square roots, so that one strong partial shared by several hypotheses does
    not decide; harmonics count less the higher they are.
    """
    salience = np.zeros(len(SHIFTS))
    for index, shift in enumerate(SHIFTS):
        for harmonic in range(1, 9):
            centre = key + shift + 12 * np.log2(harmonic)
            first, last = np.searchsorted(semitones, [centre - 0.35, centre + 0.35])
            salience[index] += np.sqrt(spectrum[first : last + 1].max(initial=0)) * 0.85 ** (harmonic - 1)
    return salience / salience.max()


def strongest_within_an_octave(semitones, spectrum, key):
    """Semitones from `key` to the strongest partial less than an octave away."""
    near = np.abs(semitones - key) < 11.5
    return semitones[near][np.argmax(spectrum[near])] - key


def render_programs(backend, key, programs):
    """float32 [programs, samples]: half a second of `key` on each, one after the other."""
    rendered = []
    for first in range(0, len(programs), 15):  # as many as midirenderer plays in one go
        group = programs[first : first + 15]
        onsets = np.arange(len(group)) * SLOT_SECONDS
        notes = make_notes(
            [(onset, onset + 0.5, key, program) for onset, program in zip(onsets, group, strict=True)]
        )
        samples = render(backend, notes, duration_seconds=len(group) * SLOT_SECONDS)
        rendered.append(samples.reshape(len(group), -1)[:, 800:8000])
    return np.concatenate(rendered)


@every_backend
def test_every_program_sounds_at_its_pitch(backend):
    programs = [program for program in range(128) if program not in UNPITCHED]
    salience = dict.fromkeys(programs, 0.0)
    partials = {program: [] for program in SINGLE_PARTIAL}
    for key in KEYS:
        for program, samples in zip(programs, render_programs(backend, key, programs), strict=True):
            spectrum = magnitudes(samples)
            if program in SINGLE_PARTIAL:
                partials[program].append(strongest_within_an_octave(*spectrum, key))
            else:
                salience[program] = salience[program] + series_salience(*spectrum, key)
    for program, (expected, why) in SINGLE_PARTIAL.items():
        assert partials[program] == pytest.approx([expected] * len(KEYS), abs=0.2), (program, why)
    for program in programs:
        if program in SINGLE_PARTIAL:
            continue
        expected, _ = SERIES_ROOT.get(program, (0, ""))
        best = SHIFTS[np.argmax(salience[program])]
        other_pitch_classes = salience[program][(SHIFTS - expected) % 12 != 0]
        assert best == expected, (program, best)
        assert salience[program].max() > 1.03 * other_pitch_classes.max(), program


@every_backend
@pytest.mark.parametrize("key", [36, 48, 57, 69, 81])
def test_piano_sounds_at_its_pitch_over_the_keyboard(backend, key):
    samples = render(backend, chord([key]))[2000:9600]
    assert SHIFTS[np.argmax(series_salience(*magnitudes(samples), key))] == 0


@every_backend
def test_a_note_starts_and_ends_when_written(backend):
    onset, offset = 1.003, 1.503
    samples = render(backend, make_notes([(onset, offset, 69, 16)]))  # an organ: no decay
    envelope = np.abs(samples).reshape(-1, 16).max(axis=1)  # per millisecond
    loud = np.flatnonzero(envelope > 0.1 * envelope.max()) / 1000
    assert loud[0] == pytest.approx(onset, abs=0.01)
    assert loud[-1] == pytest.approx(offset, abs=0.15)
    assert not envelope[: round(1000 * onset) - 10].any() or envelope[:990].max() < 1e-4


# Instruments.


@every_backend
def test_more_than_fifteen_programs_at_once_keep_their_instruments(backend):
    programs = [*range(0, 112, 4), 1, 2, 3]
    notes = Notes.concatenate([chord([48 + index], program) for index, program in enumerate(programs)])
    alone = [
        render(backend, notes[[index]], duration_seconds=1.5).astype(np.float64)
        for index in range(len(notes))
    ]
    mix = render(backend, notes, duration_seconds=1.5)
    assert np.linalg.norm(mix - np.sum(alone, axis=0)) < 0.03 * np.linalg.norm(mix)


@every_backend
def test_thick_chords_lose_no_notes(backend):
    """Layered strings spend several voices a note; midirenderer has 64."""
    parts = [chord(range(40 + start, 48 + start), program=48) for start in range(0, 40, 8)]
    alone = sum(render(backend, part, duration_seconds=1.5).astype(np.float64) for part in parts)
    mix = render(backend, Notes.concatenate(parts), duration_seconds=1.5)
    assert np.linalg.norm(mix - alone) < 0.03 * np.linalg.norm(mix)


@every_backend
def test_drums_are_the_drum_kit_whatever_their_program(backend):
    hit = chord([38])
    drum = hit.replace(is_drum=True)
    assert np.array_equal(render(backend, drum), render(backend, drum.replace(program=40)))
    assert not np.allclose(render(backend, drum), render(backend, hit), atol=1e-3)


@every_backend
def test_stems_with_soundfonts_of_their_own_sum_to_the_mix(backend, tmp_path):
    other = tmp_path / "other.sf2"
    other.write_bytes(soundfonts.default_soundfont().read_bytes())
    tracks = [(chord([60]), None), (chord([67], program=40), other)]
    stems = synthesis.render_stems(tracks, backend=backend)
    assert stems.shape == (2, round(1.6 * SAMPLE_RATE))
    assert np.array_equal(stems[0], render(backend, tracks[0][0]))
    assert np.abs(stems).max(axis=1).min() > 0.01
    assert synthesis.render_stems([], backend=backend).shape == (0, SAMPLE_RATE)


def test_instruments_that_the_soundfont_lacks_are_named(monkeypatch):
    synthesizer = synthesis.make_synthesizer()
    monkeypatch.setattr(soundfonts, "soundfont_presets", lambda _: {(0, 0): "Piano"})
    with pytest.raises(synthesis.SynthesisError, match="no instrument for program 40"):
        synthesizer.render(chord([60], program=40))
    with pytest.raises(synthesis.SynthesisError, match="no drum kit"):
        synthesizer.render(chord([38]).replace(is_drum=True))


@every_backend
def test_notes_without_a_sample_are_told_from_those_that_sound(backend):
    """Every key of some programs: what is_sounding says is what is heard."""
    synthesizer = synthesis.make_synthesizer(backend=backend)
    keys = np.arange(24, 108)
    for program in (0, 65, 67, 68):  # the last three have gaps in TimGM6mb
        onsets = np.arange(len(keys)) * 0.4
        notes = make_notes(
            [(onset, onset + 0.2, key, program) for onset, key in zip(onsets, keys, strict=True)]
        )
        samples = synthesizer.render(notes, duration_seconds=len(keys) * 0.4).reshape(len(keys), -1)
        heard = np.abs(samples).max(axis=1) > 1e-3
        assert np.array_equal(synthesizer.is_sounding(notes), heard), program
        assert heard.all() == (program == 0)
    assert synthesizer.is_sounding(chord(range(35, 82)).replace(is_drum=True)).all()
    assert synthesizer.is_sounding(Notes.empty()).shape == (0,)


# Samples.


@every_backend
def test_samples_do_not_depend_on_what_was_rendered_before(backend):
    cases = [random_notes(seed) for seed in range(4)]
    first = [render(backend, notes) for notes in cases]
    for index in (3, 0, 2, 0, 1, 3, 3):
        assert np.array_equal(render(backend, cases[index]), first[index])
    synthesis._open_backend.cache_clear()  # as in a fresh process
    assert np.array_equal(render(backend, cases[2]), first[2])


@every_backend
def test_order_of_the_notes_does_not_matter(backend):
    notes = random_notes(5)
    assert np.array_equal(render(backend, notes), render(backend, notes[::-1]))


@every_backend
def test_a_pickled_synthesizer_renders_the_same(backend):
    synthesizer = synthesis.make_synthesizer(backend=backend)
    notes = random_notes(6)
    assert np.array_equal(pickle.loads(pickle.dumps(synthesizer)).render(notes), synthesizer.render(notes))


@every_backend
def test_length_type_and_gain(backend):
    notes = chord([60])
    samples = render(backend, notes)
    assert samples.shape == (round((0.6 + synthesis.RELEASE_SECONDS) * SAMPLE_RATE),)
    assert samples.dtype == np.float32
    short = render(backend, notes, duration_seconds=0.3333, gain=0.5)
    assert short.shape == (round(0.3333 * SAMPLE_RATE),)
    assert np.allclose(short[:4000], samples[:4000] * 0.5, atol=1e-6)
    assert render(backend, Notes.empty()).tolist() == [0] * SAMPLE_RATE
    assert render(backend, notes, duration_seconds=0).shape == (0,)
    faster = synthesis.make_synthesizer(sample_rate=44100, backend=backend).render(notes, duration_seconds=1)
    assert faster.shape == (44100,)


@every_backend
def test_loud_mixes_are_not_clipped(backend):
    """As loud as can be, in all instruments at once: the mix is still the sum of its parts."""
    programs = (2, 16, 19, 21, 30, 38, 48, 53, 61, 81, 87)
    parts = [chord(range(36, 84, 4), program).replace(velocity=127) for program in programs]
    mix = render(backend, Notes.concatenate(parts), duration_seconds=1.0)
    alone = sum(render(backend, part, duration_seconds=1.0).astype(np.float64) for part in parts)
    assert np.abs(mix).max() > 1.0
    assert np.abs(mix - alone).max() < 0.05 * np.abs(mix).max()


@pytest.mark.skipif(midirenderer_backend.check() is not None, reason="needs midirenderer")
def test_midirenderer_renders_again_softer_what_clips_in_sixteen_bits(monkeypatch):
    kit = chord(range(35, 60)).replace(is_drum=True, velocity=127)

    def rendered_with(*volumes):
        monkeypatch.setattr(midirenderer_backend, "_CHANNEL_VOLUMES", volumes)
        return render("midirenderer", kit)

    clipped, soft = rendered_with(127), rendered_with(50)
    assert np.abs(clipped - soft).max() > 0.01
    assert np.array_equal(rendered_with(127, 50), soft)
    # Amplitude goes with the volume squared; 16 bits and the ends of the tails differ.
    assert np.linalg.norm(rendered_with(25) - soft) < 0.03 * np.linalg.norm(soft)


def test_both_backends_are_about_as_loud():
    if any(synthesis.available_backends().values()):
        pytest.skip("needs both synthesizers")
    notes = random_notes(7, num_notes=80, programs=(0, 25, 33, 56, 65, 73))
    first, second = (np.std(render(name, notes)) for name in ("fluidsynth", "midirenderer"))
    assert abs(20 * np.log10(first / second)) < 1.5


# Notes that need care.


@every_backend
def test_an_overlapped_note_does_not_end_its_successor(backend):
    """Two overlapping notes of one key: the offset of the first must not silence the second."""
    overlapping = make_notes([(0.0, 0.5, 69, 16), (0.25, 1.0, 69, 16)])
    trimmed = make_notes([(0.0, 0.25, 69, 16), (0.25, 1.0, 69, 16)])
    samples = render(backend, overlapping)
    assert np.array_equal(samples, render(backend, trimmed))
    assert np.abs(samples[13000:15000]).max() > 0.01


@every_backend
def test_notes_of_no_length_and_unknown_velocity_sound(backend):
    samples = render(backend, chord([60], offset=0.1).replace(velocity=0))
    assert np.abs(samples).max() > 1e-3
    known = render(backend, chord([60], offset=0.1).replace(velocity=synthesis.UNKNOWN_VELOCITY))
    assert np.array_equal(samples, known)


def test_perform_trims_overlaps_and_drops_double_strokes():
    rows = [(0.0, 1.0, 60, 0), (0.5, 2.0, 60, 0), (0.505, 0.9, 60, 0), (0.5, 2.0, 60, 1), (-0.5, 0.2, 62, 0)]
    performance = synthesis.perform(make_notes(rows), end_seconds=10.0)
    assert performance.instruments == ((0, 0), (0, 1))
    columns = zip(
        performance.channel,
        performance.key,
        performance.onset_seconds,
        performance.offset_seconds,
        strict=True,
    )
    assert sorted((int(c), int(k), float(on), float(off)) for c, k, on, off in columns) == [
        (0, 60, 0.0, 0.5),
        (0, 60, 0.505, 0.9),
        (0, 62, 0.0, 0.2),
        (1, 60, 0.5, 2.0),
    ]
    assert len(synthesis.perform(make_notes(rows), end_seconds=0.5)) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pitch": 128}, "pitch is 128"),
        ({"velocity": -1}, "velocity is -1"),
        ({"program": 200}, "program is 200"),
        ({"offset_seconds": np.nan}, "offset_seconds is nan"),
    ],
)
def test_values_outside_midi_are_refused(columns, message):
    with pytest.raises(synthesis.SynthesisError, match=message):
        synthesis.make_synthesizer().render(chord([60]).replace(**columns), duration_seconds=1.0)
    with pytest.raises(synthesis.SynthesisError, match="duration_seconds is inf"):
        synthesis.make_synthesizer().render(chord([60]), duration_seconds=np.inf)


def test_midirenderer_parts_hold_few_sounding_notes_and_all_rows():
    performance = synthesis.perform(random_notes(8, num_notes=300, programs=range(0, 100, 5)), 10.0)
    parts = list(midirenderer_backend._parts(performance))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(performance)))
    for rows in parts[1:]:  # the first part is the drums
        assert len(set(performance.channel[rows].tolist())) <= 15
        for row in rows:
            onset = performance.onset_seconds[row]
            end = performance.offset_seconds[rows] + midirenderer_backend._RELEASE_SECONDS
            assert np.sum((performance.onset_seconds[rows] <= onset) & (end > onset)) <= 8


# Choosing a synthesizer and a SoundFont.


def test_auto_prefers_fluidsynth_and_falls_back_to_the_wheel(monkeypatch):
    usable = {"fluidsynth": None, "midirenderer": None}
    monkeypatch.setattr(synthesis, "_check_backend", usable.get)
    monkeypatch.delenv(synthesis.ENVIRONMENT_VARIABLE, raising=False)
    assert synthesis.make_synthesizer().backend == "fluidsynth"
    usable["fluidsynth"] = "no library"
    assert synthesis.make_synthesizer().backend == "midirenderer"
    with pytest.raises(synthesis.SynthesisError, match="no library"):
        synthesis.make_synthesizer(backend="fluidsynth")
    usable["midirenderer"] = "no wheel"
    with pytest.raises(synthesis.SynthesisError, match="no library no wheel"):
        synthesis.make_synthesizer()


def test_the_environment_overrides_auto_only(monkeypatch):
    monkeypatch.setattr(synthesis, "_check_backend", lambda _: None)
    monkeypatch.setenv(synthesis.ENVIRONMENT_VARIABLE, "midirenderer")
    assert synthesis.make_synthesizer().backend == "midirenderer"
    assert synthesis.make_synthesizer(backend="fluidsynth").backend == "fluidsynth"
    monkeypatch.setenv(synthesis.ENVIRONMENT_VARIABLE, "timidity")
    with pytest.raises(synthesis.SynthesisError, match="'timidity' is unknown"):
        synthesis.make_synthesizer()


@pytest.mark.parametrize(
    ("backend", "module"), [("fluidsynth", "fluidsynth"), ("midirenderer", "midirenderer")]
)
def test_a_missing_package_is_explained(monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)  # makes its import fail
    synthesis._check_backend.cache_clear()
    from mt3.audio import fluidsynth_backend

    fluidsynth_backend._library.cache_clear()
    try:
        reason = synthesis.available_backends()[backend]
        assert reason is not None
        assert "install" in reason
        with pytest.raises(synthesis.SynthesisError, match=backend):
            synthesis.make_synthesizer(backend=backend)
    finally:
        synthesis._check_backend.cache_clear()


def test_looking_for_backends_prints_nothing():
    # pyfluidsynth prints on standard output where CI is set; commands print results there.
    program = "from mt3.audio import synthesis; synthesis.available_backends()"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "CI": "true"},
    )
    assert result.stdout == ""


def test_sample_rate_is_checked():
    with pytest.raises(synthesis.SynthesisError, match="sample_rate is 100"):
        synthesis.make_synthesizer(sample_rate=100)
