"""FluidSynth as a backend of `mt3.audio.synthesis`.

Needs pyfluidsynth and the system's libfluidsynth (2.0 or later); both are
imported only when this backend is checked or used.

FluidSynth keeps state from one note to the next that its own system reset
leaves behind (measured with 2.3.1: filter memory of the voices, and ringing
releases), so samples would depend on what was rendered before. Therefore each
`play` has a synthesizer of its own, made in about a millisecond, and only the
loaded SoundFont lives on, handed from one to the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from mt3.audio.soundfonts import SoundFontError

if TYPE_CHECKING:
    from mt3.audio.synthesis import Performance

_BLOCK_SAMPLES = 64  # FluidSynth's own block: notes start and end on this grid
_WARNING_LEVEL = 2
_SETTINGS = {
    "synth.gain": 0.2,
    "synth.polyphony": 1024,
    "synth.reverb.active": 0,
    "synth.chorus.active": 0,
    "synth.cpu-cores": 1,
}
# Functions of libfluidsynth that pyfluidsynth does not declare: name -> argument types.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "fluid_synth_add_sfont": (ctypes.c_void_p, ctypes.c_void_p),
    "fluid_synth_remove_sfont": (ctypes.c_void_p, ctypes.c_void_p),
    "fluid_synth_write_float": (
        *(ctypes.c_void_p, ctypes.c_int),
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int),
        *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int),
    ),
    "fluid_set_log_function": (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
}


def check() -> str | None:
    """None where FluidSynth can be used, else why not and the remedy."""
    try:
        _library()
    except (ImportError, OSError) as error:
        return (
            f"FluidSynth cannot be used ({error}); install its library (Debian, Ubuntu: "
            "apt-get install libfluidsynth3; macOS: brew install fluid-synth) and "
            "`pip install pyfluidsynth`, or choose the midirenderer synthesizer."
        )
    return None


class Backend:
    """FluidSynth with one SoundFont; one `play` at a time."""

    def __init__(self, soundfont: Path):
        self._lock = threading.Lock()
        self._module, self._call = _library()
        holder = self._module.Synth()
        number = holder.sfload(str(soundfont))
        if number < 0:
            holder.delete()
            raise SoundFontError(f"FluidSynth cannot load the SoundFont {soundfont}; use another file.")
        self._soundfont = self._module.fluid_synth_get_sfont_by_id(holder.synth, number)
        # A synthesizer deletes the SoundFonts that it holds; this one outlives them all.
        self._call["fluid_synth_remove_sfont"](holder.synth, self._soundfont)
        holder.delete()

    def play(self, performance: Performance, num_samples: int, sample_rate: int) -> np.ndarray:
        """float32 [num_samples], mono."""
        num_blocks = -(-num_samples // _BLOCK_SAMPLES)
        channels = -(-len(performance.instruments) // 16) * 16
        with self._lock:
            synth = self._module.Synth(samplerate=float(sample_rate), channels=channels, **_SETTINGS)
            number = self._call["fluid_synth_add_sfont"](synth.synth, self._soundfont)
            try:
                for channel, (bank, program) in enumerate(performance.instruments):
                    if synth.program_select(channel, number, bank, program) < 0:
                        raise SoundFontError(f"FluidSynth cannot select program {program} of bank {bank}.")
                stereo = self._write(synth, performance, num_blocks, sample_rate)
            finally:
                self._call["fluid_synth_remove_sfont"](synth.synth, self._soundfont)
                synth.delete()
        return stereo.mean(axis=0)[:num_samples]

    def _write(self, synth: Any, performance: Performance, num_blocks: int, sample_rate: int) -> np.ndarray:
        """float32 [2, num_blocks * 64]: renders up to each event in turn, then sends it."""
        stereo = np.zeros((2, num_blocks * _BLOCK_SAMPLES), np.float32)
        left, right = stereo[0].ctypes.data, stereo[1].ctypes.data
        write = self._call["fluid_synth_write_float"]
        done = 0
        for block, channel, key, velocity in _events(performance, sample_rate):
            until = min(block, num_blocks) * _BLOCK_SAMPLES
            if until > done:
                write(synth.synth, until - done, left, done, 1, right, done, 1)
                done = until
            if velocity:
                synth.noteon(channel, key, velocity)
            else:
                synth.noteoff(channel, key)
        rest = stereo.shape[1] - done
        if rest:
            write(synth.synth, rest, left, done, 1, right, done, 1)
        return stereo


def _events(performance: Performance, sample_rate: int) -> Iterator[tuple[int, int, int, int]]:
    """(block, channel, key, velocity), in time; velocity 0 ends a note; ends come before starts."""
    blocks_per_second = sample_rate / _BLOCK_SAMPLES
    start = np.rint(performance.onset_seconds * blocks_per_second).astype(np.int64)
    end = np.rint(performance.offset_seconds * blocks_per_second).astype(np.int64)
    block = np.concatenate([end, start])
    velocity = np.concatenate([np.zeros(len(performance), np.int64), performance.velocity])
    order = np.lexsort((velocity > 0, block))
    channel, key = np.tile(performance.channel, 2), np.tile(performance.key, 2)
    columns = (column[order].tolist() for column in (block, channel, key, velocity))
    return zip(*columns, strict=True)


@functools.cache
def _library() -> tuple[ModuleType, dict[str, Callable[..., Any]]]:
    """pyfluidsynth and the functions of `_FUNCTIONS`; ImportError where something is missing."""
    # Where the variable CI is set, pyfluidsynth prints where its library is: not among our results.
    with contextlib.redirect_stdout(io.StringIO()):
        module = importlib.import_module("fluidsynth")
    if not hasattr(module, "cfunc"):
        raise ImportError("the module fluidsynth is not pyfluidsynth's")
    functions = {}
    for name, types in _FUNCTIONS.items():
        arguments = [(f"argument_{index}", kind, 1) for index, kind in enumerate(types)]
        functions[name] = module.cfunc(name, ctypes.c_int, *arguments)
        if functions[name] is None:
            raise ImportError(f"libfluidsynth has no function {name}; version 2.0 or later is needed")
    # Taking a SoundFont back makes FluidSynth warn of every channel without one.
    functions["fluid_set_log_function"](_WARNING_LEVEL, None, None)
    return module, functions
