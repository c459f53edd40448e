"""The command line. Heavy imports happen inside commands, so that listing and help answer at once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Unpack

import click
import typer

from harness import __version__
from harness.cli_options import Formats, RunPath, ScaledPreset, completion, listed
from harness.cli_tools import tools
from harness.commands.options import takes
from harness.options import ExecutionOptions, RunOptions
from results.ground.errors import HarnessError

app = typer.Typer(
    name="harness",
    help="Compare ways of composing and routing LoRA experts, on real benchmarks, with honest statistics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
@takes(RunOptions, ExecutionOptions)
def run(
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset, YAML file, or a run's run.yaml; default quick.", autocompletion=completion("presets")
        ),
    ] = None,
    into: Annotated[Path | None, typer.Option(help="A run to extend: what is not said is as it is there.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
    output: Path | None = None,
    executor: str = "local",
    replace: bool = False,
    **options: Unpack[RunOptions],
) -> None:
    """Run a comparison and print its table."""
    from harness.commands.run import run_command

    run_command(preset, into, output, executor, replace, plan, sys.argv[1:], **options)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks, models, presets, or tables.")],
) -> None:
    """List names, one a line; the first column is the name alone."""
    from harness.commands.listing import list_command

    list_command(what)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A method, task, preset, table, or model; or a file of one of the first two.")
    ],
) -> None:
    """Show the card of a method or task, or a preset's resolved settings."""
    from harness.commands.listing import show_command

    show_command(name)


@app.command()
def report(
    run: RunPath,
    table: Annotated[str, typer.Option(help="comparison, or a table of the paper such as t2.")] = "comparison",
    format: Formats = "md,latex,csv",
) -> None:
    """Render a run's tables into RUN/reports/."""
    from harness.commands.report import report_command

    report_command(run, table, listed(format) or [])


@app.command()
def compare(
    run: RunPath,
    methods: Annotated[str | None, typer.Option(help="Comma-separated; default all of the run.")] = None,
) -> None:
    """Paired tests between methods, corrected for their number."""
    from harness.commands.report import compare_command

    compare_command(run, listed(methods))


@app.command()
def verify(run: RunPath) -> None:
    """Check that everything stored in a run fits together."""
    from harness.commands.report import verify_command

    verify_command(run)


@app.command()
@takes(RunOptions, ExecutionOptions)
def reproduce(
    table: Annotated[str, typer.Argument(help="t1..t22, f3..f6, a4, or all.", autocompletion=completion("tables"))],
    preset: ScaledPreset = "quick",
    format: Formats = "md,latex,csv",
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
    output: Path | None = None,
    executor: str = "local",
    replace: bool = False,
    **options: Unpack[RunOptions],
) -> None:
    """Compute what a table or figure of the paper needs, and render it beside the published values."""
    from harness.commands.experiments import reproduce_command

    formats = listed(format) or []
    reproduce_command(table, preset, formats, output, executor, replace, plan, sys.argv[1:], **options)


@app.command()
@takes(RunOptions, ExecutionOptions)
def ablate(
    what: Annotated[
        str,
        typer.Argument(
            help="data-size, top-k, rank, alpha-lambda, or entropy-sign.", autocompletion=completion("ablations")
        ),
    ],
    preset: ScaledPreset = "quick",
    format: Formats = "md,latex,csv",
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
    output: Path | None = None,
    executor: str = "local",
    replace: bool = False,
    **options: Unpack[RunOptions],
) -> None:
    """Vary one thing, run everything that takes, and plot it."""
    from harness.commands.experiments import reproduce_command

    formats = listed(format) or []
    reproduce_command(what, preset, formats, output, executor, replace, plan, sys.argv[1:], **options)


@app.command()
def export(
    run: RunPath,
    method: Annotated[str, typer.Option(help="A method of the run, as its table shows it.")],
    output: Annotated[Path, typer.Option(help="New folder.")],
    task: Annotated[str | None, typer.Option(help="For methods fitted for each task; default all of them.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default the run's first.")] = None,
    form: Annotated[
        str, typer.Option("--as", help="composed (any method) or peft (one ordinary adapter).")
    ] = "composed",
    refer: Annotated[bool, typer.Option("--refer", help="Keep hashes of the experts instead of copies.")] = False,
    variant: Annotated[
        str | None, typer.Option(help="For a run that composed the method in several ways, e.g. rank=16.")
    ] = None,
) -> None:
    """Write a composed model of a finished run to a folder that `harness.load` reads."""
    from harness.commands.export import export_command

    export_command(run, method, task, seed, variant, output, form, refer)


@app.command()
def rescore(
    run: RunPath,
    task: Annotated[str, typer.Option(help="The task to score again, as it stands in the run.")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="What changed, e.g. judge.preset=local or min_isolation=gvisor.")
    ] = None,
) -> None:
    """Score a run's stored outputs again (another judge, parser or sandbox), without any model."""
    from harness.commands.rescore import rescore_command

    rescore_command(run, task, sets or [])


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(help="Two runs or more, e.g. of several machines.")],
    output: Annotated[Path, typer.Option(help="New folder.")],
) -> None:
    """Join runs into one: their plans, their cells, one table."""
    from harness.commands.folders import merge_command

    merge_command(runs, output)


@app.command()
def clean(
    older_than: Annotated[str | None, typer.Option(help="Stages not changed for, e.g. 30d, 12h.")] = None,
    max_size: Annotated[str | None, typer.Option(help="The oldest, until the rest fits into, e.g. 20GB.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="Only stages of this run.")] = None,
    keep: Annotated[list[Path] | None, typer.Option(help="No stage of this run.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; without it they are only counted.")] = False,
) -> None:
    """Show what the stage cache holds, and prune it by age, size or run."""
    from harness.commands.folders import clean_command

    clean_command(older_than, max_size, run or [], keep or [], delete)


@app.command("make-crossdomain")
def make_crossdomain(
    kind: Annotated[str, typer.Argument(help="math-medical or math-coding.")],
    n: Annotated[int, typer.Option("--n", help="Questions wanted.")] = 200,
    output: Annotated[Path | None, typer.Option(help="Data directory for the set; default in the cache.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the generator, e.g. preset=deepseek, model=...")
    ] = None,
) -> None:
    """Have a generator model write questions that need two domains at once."""
    from harness.commands.crossdomain import make_command

    make_command(kind, n, output, sets or [])


app.add_typer(tools)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None: ...


def main() -> None:
    """Entry point: a user's mistake is one sentence on standard error and exit code 2."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        # Not standalone: typer's own ending would swallow Ctrl-C.
        code = app(standalone_mode=False)
    except HarnessError as error:
        typer.echo(f"harness: {error}", err=True)
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        typer.echo("harness: interrupted; finished stages are kept, the same command goes on from there.", err=True)
        code = error.code if isinstance(error, Terminated) else 130
    raise SystemExit(code or 0)


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM): it cleans up as after Ctrl-C."""

    code = 128 + signal.SIGTERM


def _terminated(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


if __name__ == "__main__":
    main()
