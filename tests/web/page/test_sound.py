"""What is heard: the original and the notes, alone and together."""

import base64

import numpy as np
import pytest

from mt3.audio.io import write_audio

pytestmark = pytest.mark.slow

DRUMS = 128
RATE = 48000
PLAYER = "(await import('/assets/player.js'))"
# A second of notes as the synthesizer plays them, as base64: [instrument, pitch, velocity, at, seconds].
SYNTHESIZE = """async ([notes, muted]) => {
  const { Synth } = await import("/assets/synth.js");
  const context = new OfflineAudioContext(1, 48000, 48000);
  const synth = new Synth(context, context.destination);
  muted.forEach((instrument) => synth.mute(instrument, true));
  for (const [instrument, pitch, velocity, at, seconds] of notes) {
    synth.play({ instrument, pitch, velocity, at, seconds });
  }
  const bytes = new Uint8Array((await context.startRendering()).getChannelData(0).buffer);
  return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
}"""
# Keeps the gains that the player makes; the first two are those of the original and of the notes.
RECORD_GAINS = """() => {
  window.gains = [];
  window.GainNode = class extends GainNode {
    constructor(...settings) {
      super(...settings);
      gains.push(this);
    }
  };
}"""
# The greatest samples that these two hand on within 0.7 seconds.
PEAKS = """async () => {
  const analysers = gains.slice(0, 2).map((gain) => {
    const analyser = new AnalyserNode(gain.context, { fftSize: 32768 });
    gain.connect(analyser);
    return analyser;
  });
  await new Promise((done) => setTimeout(done, 750));
  return analysers.map((analyser) => {
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    return samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  });
}"""


@pytest.fixture
def playable(play, tmp_path):
    """A visitor with a recording of 20 seconds and its original, a low tone."""
    path = tmp_path / "tone.wav"
    write_audio(path, 0.5 * np.sin(np.arange(20 * 16000) / 10).astype(np.float32), 16000)
    return play(path.read_bytes())


def set_position(visitor, seconds):
    visitor.page.evaluate(f"document.getElementById('position').value = {seconds}")
    visitor.page.dispatch_event("#position", "input")


def synthesize(scripts, notes, muted=()):
    return np.frombuffer(base64.b64decode(scripts.evaluate(SYNTHESIZE, [notes, muted])), np.float32)


def test_play_seek_pause_and_end(playable):
    page = playable.page
    assert page.inner_text("#player-note") == ""
    playable.press("Play")
    playable.until(f"{PLAYER}.isPlaying() && {PLAYER}.now() > 0.3")
    assert page.get_attribute("#play", "aria-pressed") == "true"
    playable.until("Number(document.getElementById('position').value) > 0.3")
    set_position(playable, 12)
    playable.until(f"{PLAYER}.isPlaying() && {PLAYER}.now() > 12.1")
    assert playable.now() < 19
    playable.press("Pause")
    playable.until(f"!{PLAYER}.isPlaying()")
    place = playable.now()
    page.wait_for_timeout(100)
    assert playable.now() == place
    set_position(playable, 19.8)
    playable.press("Play")
    playable.until(f"!{PLAYER}.isPlaying()")
    assert playable.now() == pytest.approx(20, abs=0.05)
    playable.press("Play")  # from the start again
    playable.until(f"{PLAYER}.isPlaying()")
    assert playable.now() < 15


def test_original_and_notes_reach_the_output_as_the_balance_says(playable):
    playable.page.evaluate(RECORD_GAINS)
    playable.press("Play")
    playable.until(f"{PLAYER}.now() > 0.3")
    original, notes = playable.page.evaluate(PEAKS)
    assert min(original, notes) > 0.02
    for balance, silent, heard in (("1", 0, 1), ("0", 1, 0)):
        playable.page.fill("#balance", balance)
        playable.page.wait_for_timeout(200)
        peaks = playable.page.evaluate(PEAKS)
        assert peaks[silent] < 0.01 < peaks[heard]


def test_an_original_that_the_browser_cannot_play_is_said(play):
    visitor = play(b"no sound")
    visitor.until("document.getElementById('player-note').textContent.startsWith('This browser cannot play')")
    assert visitor.page.is_disabled("#balance")
    visitor.press("Play")
    visitor.until(f"{PLAYER}.now() > 0.1")


def test_notes_sound_at_their_pitch_while_they_last(scripts):
    for instrument, pitch, hertz in ((0, 69, 440.0), (33, 33, 55.0), (40, 76, 659.26), (73, 84, 1046.5)):
        heard = synthesize(scripts, [[instrument, pitch, 100, 0.1, 0.6]])
        assert np.abs(heard[: int(0.1 * RATE)]).max() < 1e-4
        held = heard[int(0.1 * RATE) : int(0.7 * RATE)]
        assert 0.05 < np.abs(held).max() < 1
        assert np.abs(heard[-RATE // 20 :]).max() < 0.01
        spectrum = np.abs(np.fft.rfft(held * np.hanning(len(held))))
        assert np.fft.rfftfreq(len(held), 1 / RATE)[spectrum.argmax()] == pytest.approx(hertz, abs=2)
    chord = synthesize(scripts, [[0, pitch, 127, 0.0, 0.8] for pitch in range(40, 90, 2)])
    assert np.abs(chord).max() < 1.2
    assert np.abs(synthesize(scripts, [[0, 60, 100, 0.2, 0.5]], muted=[0])).max() < 1e-3


def test_drums_sound_high_and_low(scripts):
    centres = []
    for key in (36, 42):  # kick, hi-hat
        heard = synthesize(scripts, [[DRUMS, key, 100, 0.1, 0.01]])
        assert 0.02 < np.abs(heard).max() < 1
        spectrum = np.abs(np.fft.rfft(heard)) ** 2
        centres.append((spectrum * np.fft.rfftfreq(len(heard), 1 / RATE)).sum() / spectrum.sum())
    assert centres[0] < 300
    assert centres[1] > 5000
