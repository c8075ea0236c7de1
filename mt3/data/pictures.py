"""Pictures of what a model is taught: the audio of an example with its notes.

matplotlib is imported when a picture is drawn, without its global state: figures
belong to the caller alone, need no display, and are drawn alike in any process.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mt3 import files
from mt3.audio.spectrograms import SpectrogramConfig
from mt3.symbolic.general_midi import program_name
from mt3.symbolic.instrument_colours import DRUMS_COLOUR, instrument_colour
from mt3.symbolic.notes import Notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
_WIDTH_INCHES = 12.0
_PANEL_INCHES = (2.8, 3.2, 1.0)  # spectrogram, piano roll, drums
_LEFT_INCHES, _RIGHT_INCHES = 0.95, 0.2
_TITLE_INCHES, _GAP_INCHES, _AXIS_INCHES = 0.65, 0.15, 0.6
_LEGEND_COLUMNS, _LEGEND_ROW_INCHES = 4, 0.22
# What is quieter than the loudest point by more than this looks like silence.
_DYNAMIC_RANGE_DB = 80.0
_DB_PER_NEPER = 20 / np.log(10)
_TICK_HERTZ = (200, 500, 1000, 2000, 4000, 7000)


@dataclasses.dataclass(frozen=True, eq=False)
class ExamplePicture:
    """What is drawn of an example.

    Attributes:
      title: one or two lines.
      seconds: length of the example.
      log_mel: float [num_frames, num_mel_bins] natural logarithms, frame i centred
        at i * hop_samples.
      spectrogram: how it was made.
      notes: times from the start of the example.
      sounds_before: bool [num_notes], began before the example.
      sounds_after: bool [num_notes], do not end within it.
    """

    title: str
    seconds: float
    log_mel: np.ndarray
    spectrogram: SpectrogramConfig
    notes: Notes
    sounds_before: np.ndarray
    sounds_after: np.ndarray


def example_picture(example: ExamplePicture, path: Path) -> None:
    """Writes `example_figure` as a PNG file."""
    save_figure(example_figure(example), path)


def example_figure(example: ExamplePicture) -> Figure:
    """A spectrogram, the piano roll below it and, where there are any, drums; one time axis for all."""
    from matplotlib.figure import Figure

    handles = _legend_handles(example)
    heights = _PANEL_INCHES if example.notes.is_drum.any() else _PANEL_INCHES[:2]
    below = _AXIS_INCHES + _LEGEND_ROW_INCHES * -(-len(handles) // _LEGEND_COLUMNS)
    height = _TITLE_INCHES + sum(heights) + _GAP_INCHES * (len(heights) - 1) + below
    height = round(height * DOTS_PER_INCH) / DOTS_PER_INCH  # whole dots
    # Laid out by hand: to have matplotlib do it costs as much time as the drawing.
    figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=DOTS_PER_INCH)
    axes = figure.subplots(
        len(heights),
        1,
        sharex=True,
        squeeze=False,
        gridspec_kw={
            "height_ratios": heights,
            "left": _LEFT_INCHES / _WIDTH_INCHES,
            "right": 1 - _RIGHT_INCHES / _WIDTH_INCHES,
            "top": 1 - _TITLE_INCHES / height,
            "bottom": below / height,
            "hspace": _GAP_INCHES * len(heights) / sum(heights),
        },
    )[:, 0]
    longest = max(map(len, example.title.splitlines()), default=0)
    figure.suptitle(example.title, fontsize=min(12, 12 * 110 / max(longest, 1)), y=1 - 0.1 / height)
    _draw_spectrogram(axes[0], example)
    _draw_piano_roll(axes[1], example)
    if len(axes) == 3:
        _draw_drums(axes[2], example.notes[example.notes.is_drum])
    axes[-1].set_xlabel("Time (s)")
    axes[-1].set_xlim(0, example.seconds)
    if handles:
        figure.legend(
            handles=handles, loc="lower center", ncols=min(len(handles), _LEGEND_COLUMNS), frameon=False
        )
    return figure


def _draw_spectrogram(axes: Axes, example: ExamplePicture) -> None:
    config = example.spectrogram
    decibels = example.log_mel.T * _DB_PER_NEPER
    loudest = float(decibels.max())
    num_bins, num_frames = decibels.shape
    frame_seconds = config.hop_samples / config.sample_rate
    axes.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        vmin=loudest - _DYNAMIC_RANGE_DB,
        vmax=loudest,
        extent=(-0.5 * frame_seconds, (num_frames - 0.5) * frame_seconds, -0.5, num_bins - 0.5),
    )
    hertz = [one for one in _TICK_HERTZ if config.mel_low_hz < one < config.mel_high_hz]
    axes.set_yticks([mel_bin(one, config) for one in hertz], [f"{one:,}" for one in hertz])
    axes.set_ylabel("Frequency (Hz, mel scale)")


def mel_bin(hertz: float, config: SpectrogramConfig) -> float:
    """Where a frequency lies among the mel bins: bin k's filter is centred at k."""
    low, high, mel = (np.log1p(one / 700) for one in (config.mel_low_hz, config.mel_high_hz, hertz))
    return float((mel - low) / (high - low) * (config.num_mel_bins + 1) - 1)


def _draw_piano_roll(axes: Axes, example: ExamplePicture) -> None:
    pitched = ~example.notes.is_drum
    notes = example.notes[pitched]
    lowest, highest = _pitch_range(notes)
    for pitch in range(lowest, highest + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            axes.axhspan(pitch - 0.5, pitch + 0.5, facecolor="#f2f2f2", zorder=0)
    instruments = notes.instruments
    for rank, (program, _) in enumerate(instruments):
        rows = notes.program == program
        # Later instruments are drawn thinner, so that all that play one pitch are seen.
        height = 0.9 - 0.5 * rank / max(len(instruments) - 1, 1)
        colour = instrument_colour(program)
        own = notes[rows]
        axes.barh(
            own.pitch,
            own.duration_seconds,
            left=own.onset_seconds,
            height=height,
            color=colour,
            edgecolor=tuple(0.6 * part for part in colour),
            linewidth=0.5,
            zorder=2,
        )
        marks = ((example.sounds_before, "<", 0.0), (example.sounds_after, ">", example.seconds))
        for mask, marker, seconds in marks:
            pitch = own.pitch[mask[pitched][rows]]
            if not len(pitch):  # drawn unclipped, nothing would still take room
                continue
            axes.plot(
                np.full(len(pitch), seconds),
                pitch,
                linestyle="none",
                marker=marker,
                markersize=7,
                color=colour,
                markeredgecolor="black",
                markeredgewidth=0.6,
                clip_on=False,
                zorder=4,
            )
    axes.set_ylim(lowest - 0.5, highest + 0.5)
    octaves = [pitch for pitch in range(lowest, highest + 1) if pitch % 12 == 0]
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1} ({pitch})" for pitch in octaves])
    axes.grid(axis="both", color="#d5d5d5", linewidth=0.6, zorder=1)
    axes.set_ylabel("Pitch")


def _pitch_range(notes: Notes) -> tuple[int, int]:
    """What the piano roll shows: all notes with some room, two octaves at least."""
    lowest, highest = (int(notes.pitch.min()), int(notes.pitch.max())) if len(notes) else (60, 60)
    room = max(2, -(-(24 - (highest - lowest)) // 2))
    return max(lowest - room, 0), min(highest + room, 127)


def _draw_drums(axes: Axes, drums: Notes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.plot(
        drums.onset_seconds, drums.pitch, linestyle="none", marker="D", markersize=5, color=DRUMS_COLOUR
    )
    keys = np.unique(drums.pitch)
    room = max(2.0, 0.15 * (keys[-1] - keys[0]))
    axes.set_ylim(keys[0] - room, keys[-1] + room)
    axes.grid(color="#d5d5d5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_ylabel("Drum key")


def _legend_handles(example: ExamplePicture) -> list[Any]:
    """What the legend explains: instruments, and marks where there are any."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for program, is_drum in example.notes.instruments:
        name = program_name(program, is_drum)
        colour = instrument_colour(program, is_drum)
        if is_drum:
            handles.append(Line2D([], [], linestyle="none", marker="D", color=colour, label=name))
        else:
            handles.append(Patch(facecolor=colour, label=f"{name} ({program})"))
    for mask, marker, label in (
        (example.sounds_before, "<", "began before"),
        (example.sounds_after, ">", "sounds on"),
    ):
        if mask.any():
            mark = Line2D([], [], linestyle="none", marker=marker, color="white", label=label)
            mark.set_markeredgecolor("black")
            handles.append(mark)
    return handles


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file, whole or not at all."""
    with files.atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)
