"""The `mt3` command: parse, call, print.

Each command is one file of this room; the heavy rooms are imported inside the
commands, so that `mt3 --help` answers at once. Errors that a user can mend
(a file, a name, a value) are one line on standard error and exit code 1; with
MT3_TRACEBACK=1 they come with their traceback. Everything else is a defect and
shows as one.
"""

from __future__ import annotations

import os
import sys

import typer

import mt3
from mt3.cli import checkpoint, data, evaluate, prepare, report, reproduce, score, serve, train, transcribe
from mt3.cli.messages import log_messages

app = typer.Typer(
    name="mt3",
    help="Multi-task multitrack music transcription: prepare data, train, evaluate, transcribe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# Left over after the command's own options are the `--gin.NAME=VALUE` bindings.
_WITH_BINDINGS = {"allow_extra_args": True, "ignore_unknown_options": True}

app.add_typer(prepare.app, name="prepare")
app.add_typer(data.app, name="data")
app.add_typer(checkpoint.app, name="checkpoint")
app.command("train", context_settings=_WITH_BINDINGS)(train.train_command)
app.command("eval", context_settings=_WITH_BINDINGS)(evaluate.eval_command)
app.command("transcribe")(transcribe.transcribe_command)
app.command("serve")(serve.serve_command)
app.command("score")(score.score_command)
app.command("report")(report.report_command)
app.command("reproduce", context_settings=_WITH_BINDINGS)(reproduce.reproduce_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mt3 {mt3.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Options of `mt3` itself."""


# Errors with a remedy that are neither an OSError nor a ValueError, by module.
_MENDABLE = {"mt3.models.checkpoints": "CheckpointError", "mt3.data.clips": "StreamError"}


def _is_mendable(error: Exception) -> bool:
    # Whatever was raised, its module is imported; importing them here would cost --help its speed.
    types = [
        getattr(sys.modules[module], name) for module, name in _MENDABLE.items() if module in sys.modules
    ]
    return isinstance(error, (OSError, ValueError, ModuleNotFoundError, *types))


def main() -> None:
    """The console script."""
    try:
        with log_messages():
            app(prog_name="mt3")
    except Exception as error:
        if os.environ.get("MT3_TRACEBACK") or not _is_mendable(error):
            raise
        # gin appends which of its configurables was being called.
        text = str(error).partition("\n  In call to configurable ")[0]
        message = " ".join(text.split()) or type(error).__name__
        if isinstance(error, ModuleNotFoundError):
            message += "; training needs more packages than transcribing: pip install 'mt3[train]'"
        print(f"mt3: error: {message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
