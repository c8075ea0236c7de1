"""Options that several commands take."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mt3.inference.continuity import ContinuityOptions
    from mt3.inference.transcriber import DecodingOptions
    from mt3.models.loading import ModelHints
    from mt3.models.model import ModelSpec

DECODING_PANEL, CONTINUITY_PANEL = "How tokens are chosen", "How segments go on into each other"

GinFiles = Annotated[
    list[str],
    typer.Option(
        "--gin_file",
        help="A gin file, looked for here and among the shipped ones; repeatable, later ones win.",
    ),
]
GinSearchPaths = Annotated[
    list[str],
    typer.Option("--gin_search_paths", help="Further directories to look for gin files in; repeatable."),
]

Checkpoint = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        help="A run's directory or one of its checkpoints, a T5X directory, a .safetensors, .npz or .pth.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(help="Of a checkpoint that does not say what its model is: mt3 or ismir2021."),
]
Heads = Annotated[
    int | None, typer.Option(help="Of such a checkpoint: attention heads, one for 64 if not given.")
]
SpecFile = Annotated[
    Path | None, typer.Option("--spec", help="A model.json, in place of what a checkpoint says of its model.")
]

# None where the default is that of `DecodingOptions` or `ContinuityOptions`.
BeamSize = Annotated[
    int | None, typer.Option(help="Hypotheses kept; 1 is greedy.", min=1, rich_help_panel=DECODING_PANEL)
]
Temperature = Annotated[
    float | None,
    typer.Option(help="0: the likeliest tokens; above: sampled.", min=0.0, rich_help_panel=DECODING_PANEL),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Parameters as float32, bfloat16 or int8: smaller, less exact.", rich_help_panel=DECODING_PANEL
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        help="Share of a segment that the next one hears again, 0 to 0.75: slower, better. "
        "By default 0.5 if the model has ties.",
        rich_help_panel=CONTINUITY_PANEL,
    ),
]
TieConsistency = Annotated[
    str | None,
    typer.Option(
        help="Without overlap, where ties contradict what sounds: published, same_note, lasting "
        "(the default) or adopt.",
        rich_help_panel=CONTINUITY_PANEL,
    ),
]
SmoothPrograms = Annotated[
    float | None,
    typer.Option(
        help="Instruments with less than this share of the notes are given to likelier ones.",
        rich_help_panel=CONTINUITY_PANEL,
    ),
]
InstrumentList = Annotated[
    str | None,
    typer.Option(
        "--instruments",
        help="The only ones that there are, such as piano,bass,drums; names or General MIDI numbers.",
        rich_help_panel=CONTINUITY_PANEL,
    ),
]
Grammar = Annotated[
    bool | None,
    typer.Option(
        "--grammar/--no-grammar",
        help="Whether tokens that make no sense where they stand are unreachable (default: yes).",
        rich_help_panel=CONTINUITY_PANEL,
        show_default=False,
    ),
]

Distributed = Annotated[
    bool,
    typer.Option("--distributed", help="One of several processes, as SLURM, Open MPI or TPU VMs say."),
]
Coordinator = Annotated[
    str | None,
    typer.Option(help="One of several processes: HOST:PORT at which the first one listens."),
]
NumProcesses = Annotated[int | None, typer.Option(help="With --coordinator: how many there are.", min=1)]
ProcessIndex = Annotated[
    int | None, typer.Option(help="With --coordinator: which this one is, from 0.", min=0)
]


def model_hints(preset: str | None, heads: int | None, spec_file: Path | None) -> ModelHints:
    """What the three options say.

    Raises:
      ValueError: they exclude each other, or the file is no model's spec.
    """
    from mt3.models.loading import ModelHints
    from mt3.models.model import ModelSpec

    spec = None
    if spec_file is not None:
        try:
            spec = ModelSpec.from_dict(json.loads(spec_file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(
                f"{spec_file} is no spec of a model: {error}. Give a run's model.json"
            ) from error
    return ModelHints(preset, heads, spec)


def decoding_options(**options: Any) -> DecodingOptions:
    """`DecodingOptions` with what the command line says; the others keep their defaults.

    Raises:
      ValueError: a value is out of its range.
    """
    from mt3.inference.transcriber import DecodingOptions

    return DecodingOptions(**_given(options))


def continuity_given(
    instruments: str | None,
    overlap: float | None,
    tie_consistency: str | None,
    smooth_programs: float | None,
    grammar: bool | None,
) -> dict[str, Any]:
    """Fields of `ContinuityOptions` that the command line says, checked.

    Raises:
      ValueError: a value is out of its range, or no instrument has that name.
    """
    from mt3.inference.continuity import ContinuityOptions
    from mt3.symbolic.instrument_names import parse_instruments

    options = {
        "overlap": overlap,
        "tie_consistency": tie_consistency,
        "smooth_programs": smooth_programs,
        "grammar": grammar,
        "instruments": None if instruments is None else parse_instruments(instruments),
    }
    given = _given(options)
    ContinuityOptions(**given)
    return given


def continuity_options(
    spec: ModelSpec, decoding: DecodingOptions, given: Mapping[str, Any]
) -> ContinuityOptions:
    """What is recommended for a model, but for what the command line says."""
    from mt3.inference.continuity import recommended_continuity

    recommended = recommended_continuity(ties=spec.tokenizer.ties, beam_size=decoding.beam_size)
    return dataclasses.replace(recommended, **given)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
