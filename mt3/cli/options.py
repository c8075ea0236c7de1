"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

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
