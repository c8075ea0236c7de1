"""A picture of a dataset's statistics: what is in it at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mt3.data.distributions import Distribution
from mt3.data.pictures import DOTS_PER_INCH, save_figure
from mt3.data.statistics import DatasetStatistics, Statistics, instrument_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Splits = Mapping[str, Statistics]

SPLIT_COLOURS = ("#2f6db5", "#f0932b", "#4aa564", "#8e5bb5", "#7f7f7f")
LIMIT_COLOUR = "#c0392b"
_MAX_INSTRUMENT_BARS = 28


def statistics_picture(statistics: DatasetStatistics, path: Path) -> None:
    """Writes `statistics_figure` as a PNG file."""
    save_figure(statistics_figure(statistics), path)


def statistics_figure(statistics: DatasetStatistics) -> Figure:
    """Instruments, polyphony, density, lengths, pitches, loudness and tokens; splits stacked by colour."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    splits = statistics.splits
    total = statistics.total
    figure = Figure(figsize=(18, 10), dpi=DOTS_PER_INCH, layout="constrained")
    figure.get_layout_engine().set(hspace=0.06, wspace=0.03)  # type: ignore[union-attr]
    grid = figure.add_gridspec(3, 4, width_ratios=[1.25, 1, 1, 1])
    figure.suptitle(
        f"{statistics.name}: {total.num_recordings:,} recordings, {total.hours:,.1f} hours, "
        f"{total.num_notes:,} notes",
        fontsize=15,
    )
    _draw_instruments(figure.add_subplot(grid[:, 0]), splits, total)
    panels = (
        (grid[0, 1], _draw_polyphony),
        (grid[0, 2], _draw_density),
        (grid[0, 3], _draw_instruments_per_recording),
        (grid[1, 1], _draw_recording_lengths),
        (grid[1, 2], _draw_note_lengths),
        (grid[1, 3], _draw_pitches),
        (grid[2, 3], _draw_velocities),
    )
    for place, draw in panels:
        draw(figure.add_subplot(place), splits, total)
    _draw_tokens(figure.add_subplot(grid[2, 1:3]), statistics, total)
    if len(splits) > 1:
        handles = [
            Patch(facecolor=colour, label=split)
            for split, colour in zip(splits, _split_colours(len(splits)), strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _split_colours(number: int) -> list[str]:
    return [SPLIT_COLOURS[index % len(SPLIT_COLOURS)] for index in range(number)]


def _draw_instruments(axes: Axes, splits: Splits, total: Statistics) -> None:
    keys = sorted(total.programs, key=lambda key: -total.programs[key])
    shown, others = keys[:_MAX_INSTRUMENT_BARS], keys[_MAX_INSTRUMENT_BARS:]
    names = [instrument_name(key) if key == "drums" else f"{instrument_name(key)} ({key})" for key in shown]
    if others:
        names.append(f"{len(others)} others")
    left = np.zeros(len(names))
    for part, colour in zip(splits.values(), _split_colours(len(splits)), strict=True):
        widths = [part.programs.get(key, 0) for key in shown]
        if others:
            widths.append(sum(part.programs.get(key, 0) for key in others))
        axes.barh(np.arange(len(names)), widths, left=left, color=colour, height=0.75)
        left += widths
    axes.set_yticks(np.arange(len(names)), names, fontsize=9)
    axes.set_ylim(max(len(names), 4) - 0.4, -0.6)
    _finish(axes, "Instruments", "Notes")


def _finish(axes: Axes, title: str, xlabel: str, ylabel: str = "") -> None:
    """Title, labels and grid; the bars of a panel without `ylabel` lie."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    lengths = axes.yaxis if ylabel else axes.xaxis
    lengths.grid(True, color="#d9d9d9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if "%" not in ylabel:  # numbers of things
        lengths.set_major_locator(MaxNLocator(nbins=6, integer=True))
        lengths.set_major_formatter(EngFormatter(sep=""))


def _draw_histogram(
    axes: Axes,
    splits: Splits,
    field: str,
    edges: np.ndarray,
    *,
    as_share: bool = False,
    factor: float = 1.0,
) -> None:
    """Bars between `edges`, splits on top of each other; what lies beyond them is in the outer bars.

    Args:
      as_share: of all weight, in per cent.
      factor: of the values, for another unit.
    """
    bottom = np.zeros(len(edges) - 1)
    whole = sum(getattr(part, field).total for part in splits.values()) or 1.0
    for part, colour in zip(splits.values(), _split_colours(len(splits)), strict=True):
        one: Distribution = getattr(part, field)
        values = np.clip(one.values * factor, edges[0], edges[-1])
        heights = np.histogram(values, edges, weights=one.weights)[0] * (100 / whole if as_share else 1)
        axes.bar(edges[:-1], heights, width=np.diff(edges), bottom=bottom, align="edge", color=colour)
        bottom += heights
    axes.set_xlim(edges[0], edges[-1])


def _whole_number_edges(highest: float, lowest: float = 0.0, most: int = 60) -> np.ndarray:
    """Edges of bars for whole numbers: one each, or as many for each that there are not too many bars."""
    step = max(1, int(np.ceil((highest - lowest + 1) / most)))
    return np.arange(lowest, highest + step + 1, step) - 0.5


def _draw_polyphony(axes: Axes, splits: Splits, total: Statistics) -> None:
    _draw_histogram(axes, splits, "polyphony", _whole_number_edges(total.polyphony.maximum), as_share=True)
    _finish(axes, "Polyphony (drums left out)", "Notes sounding at a time", "Share of time (%)")


def _draw_density(axes: Axes, splits: Splits, total: Statistics) -> None:
    edges = _whole_number_edges(total.notes_per_second.maximum)
    _draw_histogram(axes, splits, "notes_per_second", edges, as_share=True)
    _finish(axes, "Density", "Notes a second", "Share of seconds (%)")


def _draw_instruments_per_recording(axes: Axes, splits: Splits, total: Statistics) -> None:
    _draw_histogram(axes, splits, "instruments", _whole_number_edges(total.instruments.maximum))
    highest = int(total.instruments.maximum)
    axes.set_xticks(range(0, highest + 1, max(1, highest // 10)))
    _finish(axes, "Instruments in a recording", "Programs, drums counted as one", "Recordings")


def _draw_recording_lengths(axes: Axes, splits: Splits, total: Statistics) -> None:
    unit, factor = ("min", 1 / 60) if total.recording_seconds.quantile(0.5) > 120 else ("s", 1.0)
    edges = np.linspace(0, max(total.recording_seconds.maximum * factor, 0.1), 41)
    _draw_histogram(axes, splits, "recording_seconds", edges, factor=factor)
    _finish(axes, "Length of recordings", f"Length ({unit})", "Recordings")


def _draw_note_lengths(axes: Axes, splits: Splits, total: Statistics) -> None:
    edges = np.geomspace(0.01, max(total.note_seconds.maximum, 1.0), 51)
    _draw_histogram(axes, splits, "note_seconds", edges, as_share=True)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    _finish(axes, "Length of notes (drums left out)", "Length (s), logarithmic", "Share of notes (%)")


def _draw_pitches(axes: Axes, splits: Splits, total: Statistics) -> None:
    edges = _whole_number_edges(min(total.pitch.maximum + 2, 127), max(total.pitch.minimum - 2, 0), most=128)
    _draw_histogram(axes, splits, "pitch", edges, as_share=True)
    octaves = [pitch for pitch in range(0, 128, 12) if edges[0] < pitch < edges[-1]]
    axes.set_xticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    _finish(axes, "Pitches (drums left out)", "Pitch (C4 is 60)", "Share of notes (%)")


def _draw_velocities(axes: Axes, splits: Splits, total: Statistics) -> None:
    _draw_histogram(axes, splits, "velocity", np.arange(0, 129, 2), as_share=True)
    _finish(axes, "Velocities", "MIDI velocity (0: unknown)", "Share of notes (%)")


def _draw_tokens(axes: Axes, statistics: DatasetStatistics, total: Statistics) -> None:
    limit = statistics.max_target_tokens
    highest = max(total.tokens.maximum, limit * 1.05)
    _draw_histogram(axes, statistics.splits, "tokens", np.linspace(0, highest, 81))
    too_long = total.tokens.weight_above(limit)
    share = too_long / total.tokens.total if total.tokens.total else 0.0
    axes.set_ylim(top=axes.get_ylim()[1] * 1.2)  # room for the words
    axes.axvline(limit, color=LIMIT_COLOUR, linestyle="--", linewidth=1.5)
    label = f"limit: {limit:,}\n{too_long:,.0f} of {total.tokens.total:,.0f} segments above ({share:.2%})"
    on_left = limit > highest / 2
    axes.annotate(
        label,
        (limit, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if on_left else 6, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="top",
        color=LIMIT_COLOUR,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )
    seconds = statistics.segment_frames / statistics.tokenizer.frames_per_second
    _finish(axes, f"Tokens of a segment of {seconds:g} s", "Tokens", "Segments")
