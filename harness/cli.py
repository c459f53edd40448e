"""The command line. Heavy imports happen inside commands, so that listing and help answer at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Unpack

import typer

from harness import __version__
from harness.commands.arguments import (
    COMPARE,
    KNOW,
    LOOK,
    SHARE,
    Against,
    Formats,
    Grouped,
    Margin,
    MetricName,
    NewFolder,
    RunPath,
    ScaledPreset,
    SeveralRuns,
    Values,
    check_argument,
    completion,
    listed,
    place,
)
from harness.commands.options import takes
from harness.commands.tools import tools
from harness.interrupts import Ended, endable
from harness.planning.options import PLACES, ROWS, ExecutionOptions, RunOptions
from results.ground.damage import in_words
from results.ground.errors import HarnessError

app = typer.Typer(
    name="harness",
    cls=Grouped,
    help="Compare ways of composing and routing LoRA experts, on real benchmarks, with honest statistics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(rich_help_panel=COMPARE)
@takes(RunOptions, ExecutionOptions)
def run(
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset, YAML file, or a run's run.yaml; default quick.", autocompletion=completion("presets")
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="A run to extend: what is not said is as it is there.", parser=place, autocompletion=completion("runs")
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
    output: Path | None = None,
    executor: str = "local",
    replace: bool = False,
    track: str | None = None,
    workers: int | None = None,
    sbatch: str | None = None,
    dry_run: bool = False,
    **options: Unpack[RunOptions],
) -> None:
    """Run a comparison and print its table."""
    from harness.commands.run import Execution, run_command

    execution = Execution(executor, plan, track, workers, sbatch, dry_run)
    run_command(preset, into, output, replace, execution, sys.argv[1:], **options)


@app.command("list", rich_help_panel=KNOW)
def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="methods, tasks, models, architectures, presets, tables, ablations, or trackers.",
            autocompletion=completion("kinds"),
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON: an object for each name.")] = False,
) -> None:
    """List names, one a line; the first column is the name alone."""
    from harness.commands.listing import list_command

    list_command(what, json)


@app.command(rich_help_panel=KNOW)
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="Whatever `harness list` knows, or a file of a method or task.", autocompletion=completion("shown")
        ),
    ],
) -> None:
    """Show the card of a method or task, a preset's resolved settings, or what a table or model is."""
    from harness.commands.show import show_command

    show_command(name)


@app.command(rich_help_panel=LOOK)
def report(
    run: RunPath,
    table: Annotated[
        str,
        typer.Option(
            help="comparison, matrix, routing, or a table of the paper: t2.", autocompletion=completion("reported")
        ),
    ] = "comparison",
    format: Annotated[
        str,
        typer.Option(
            help="Comma-separated: latex, md, csv, html, lm-eval.", autocompletion=completion("report-formats")
        ),
    ] = "md,latex,csv",
    against: Against = None,
    metric: MetricName = None,
    margin: Margin = None,
    bare: Annotated[bool, typer.Option("--bare", help="The table alone; in LaTeX its tabular.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="LaTeX: a table* as wide as the text.")] = False,
    no_cost: Annotated[bool, typer.Option("--no-cost", help="Leave out parameters and seconds.")] = False,
    notes: Annotated[
        str | None,
        typer.Option(
            help="short, file (NAME.notes.tex), none, or full; short in LaTeX, else full.",
            autocompletion=completion("notes"),
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="LaTeX label; default tab:NAME.")] = None,
    caption: Annotated[str | None, typer.Option(help="Plain text in place of the title.")] = None,
    rename: Annotated[list[str] | None, typer.Option(help="OLD=NEW, of a row or a column; repeatable.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns to show, in this order, e.g. sst2,mean.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Rows, comma-separated; tests are among them.", autocompletion=completion("methods")),
    ] = None,
) -> None:
    """Render a run's tables into RUN/reports/."""
    from harness.commands.report import report_command
    from reports.panel import asked
    from reports.render.options import TableOptions, renaming

    shown = None if columns is None else tuple(listed(columns) or [])
    options = TableOptions(bare, wide, not no_cost, notes, label, caption, renaming(rename or []), shown)  # type: ignore[arg-type]
    own = asked(against, metric, margin)
    report_command(run, table, listed(format) or [], options, own, listed(methods) or [])


@app.command(rich_help_panel=LOOK)
def compare(
    runs: SeveralRuns,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated; default all of the runs.", autocompletion=completion("methods"))
    ] = None,
    against: Against = None,
    metric: MetricName = None,
    margin: Margin = None,
) -> None:
    """Paired tests between methods, corrected for their number."""
    from harness.commands.report import compare_command
    from reports.panel import asked

    compare_command(runs, listed(methods), asked(against, metric, margin))


@app.command(rich_help_panel=LOOK)
@takes(RunOptions, only=PLACES)
def verify(
    run: RunPath,
    recompute: Annotated[
        int | None, typer.Option(min=1, help="Also compute this many cells again, and compare them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the cells that are computed again.")] = 0,
    **places: Unpack[RunOptions],
) -> None:
    """Check that a run and the stages behind it are what was written, and fit together.

    --data and --experts name the folders of this machine where those of another one were used.
    """
    from harness.commands.verify import verify_command

    verify_command(run, recompute, seed, places)


@app.command(rich_help_panel=COMPARE)
@takes(RunOptions, ExecutionOptions)
def reproduce(
    table: Annotated[
        str, typer.Argument(help="t1..t22, f3..f6, a4, or all.", autocompletion=completion("reproducible"))
    ],
    preset: ScaledPreset = "quick",
    format: Formats = "md,latex,csv",
    values: Values = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
    output: Path | None = None,
    executor: str = "local",
    replace: bool = False,
    track: str | None = None,
    workers: int | None = None,
    sbatch: str | None = None,
    dry_run: bool = False,
    **options: Unpack[RunOptions],
) -> None:
    """Compute what a table or figure of the paper needs, and render it beside the published values."""
    from harness.commands.experiments import reproduce_command
    from harness.commands.run import Execution

    execution = Execution(executor, plan, track, workers, sbatch, dry_run)
    reproduce_command(table, preset, listed(format) or [], values, output, replace, execution, sys.argv[1:], **options)


@app.command(rich_help_panel=COMPARE)
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
    values: Values = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
    output: Path | None = None,
    executor: str = "local",
    replace: bool = False,
    track: str | None = None,
    workers: int | None = None,
    sbatch: str | None = None,
    dry_run: bool = False,
    **options: Unpack[RunOptions],
) -> None:
    """Vary one thing, run everything that takes, and plot it."""
    from harness.commands.experiments import reproduce_command
    from harness.commands.run import Execution

    execution = Execution(executor, plan, track, workers, sbatch, dry_run)
    reproduce_command(what, preset, listed(format) or [], values, output, replace, execution, sys.argv[1:], **options)


@app.command(rich_help_panel=COMPARE)
@takes(RunOptions, ExecutionOptions, hidden=ROWS)
def matrix(
    preset: ScaledPreset = "quick",
    format: Formats = "md,latex,csv",
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
    output: Path | None = None,
    executor: str = "local",
    replace: bool = False,
    track: str | None = None,
    workers: int | None = None,
    sbatch: str | None = None,
    dry_run: bool = False,
    **options: Unpack[RunOptions],
) -> None:
    """Each expert of the pool alone on each task, beside the base: a table and a heat map."""
    from harness.commands.matrix import matrix_command
    from harness.commands.run import Execution

    execution = Execution(executor, plan, track, workers, sbatch, dry_run)
    matrix_command(preset, listed(format) or [], output, replace, execution, sys.argv[1:], **options)


@app.command(rich_help_panel=SHARE)
def export(
    run: RunPath,
    method: Annotated[
        str, typer.Option(help="A method of the run, as its table shows it.", autocompletion=completion("methods"))
    ],
    output: NewFolder,
    task: Annotated[
        str | None,
        typer.Option(help="For methods fitted for each task; default all of them.", autocompletion=completion("tasks")),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Default the run's first.")] = None,
    form: Annotated[
        str,
        typer.Option(
            "--as", help="composed (any method) or peft (one ordinary adapter).", autocompletion=completion("forms")
        ),
    ] = "composed",
    refer: Annotated[bool, typer.Option("--refer", help="Keep hashes of the experts instead of copies.")] = False,
    variant: Annotated[
        str | None, typer.Option(help="For a run that composed the method in several ways, e.g. rank=16.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train again what is no longer stored.")] = False,
) -> None:
    """Write a composed model of a finished run to a folder that `harness.load` reads."""
    from harness.commands.export import export_command

    export_command(run, method, task, seed, variant, output, form, refer, train)


@app.command(rich_help_panel=SHARE)
def publish(
    run: RunPath,
    to: Annotated[str | None, typer.Option(help="ORG/NAME of the data set; a model's is ORG/NAME-METHOD.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Also this method's composed model, as `export` writes it.", autocompletion=completion("methods")
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="For --model, as for export.", autocompletion=completion("tasks"))
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For --model, as for export.")] = None,
    form: Annotated[
        str, typer.Option("--as", help="For --model, as for export.", autocompletion=completion("forms"))
    ] = "composed",
    variant: Annotated[str | None, typer.Option(help="For --model, as for export.")] = None,
    public: Annotated[bool, typer.Option("--public", help="For everybody to see; otherwise private.")] = False,
    dry_run: Annotated[
        Path | None, typer.Option(help="Write what would be pushed to this folder; push nothing.", parser=place)
    ] = None,
    slim: Annotated[
        Path | None,
        typer.Option(
            help="Write the run without texts (outcomes and log-likelihoods alone) here; push nothing.", parser=place
        ),
    ] = None,
) -> None:
    """Push a run's records and items to the Hugging Face hub as a data set, and a composed model with its card."""
    from harness.commands.publish import publish_command, slim_command

    if slim is not None:
        slim_command(run, slim, given={"--to": to, "--model": model, "--dry-run": dry_run, "--public": public or None})
    else:
        publish_command(run, to, model, task, seed, variant, form, public, dry_run)


@app.command(rich_help_panel=COMPARE)
def rescore(
    run: RunPath,
    task: Annotated[
        str, typer.Option(help="The task to score again, as it stands in the run.", autocompletion=completion("tasks"))
    ],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="What changed, e.g. judge.preset=local or min_isolation=gvisor.")
    ] = None,
) -> None:
    """Score a run's stored outputs again (another judge, parser or sandbox), without any model."""
    from harness.commands.rescore import rescore_command

    rescore_command(run, task, sets or [])


@app.command(rich_help_panel=LOOK)
def merge(runs: SeveralRuns, output: NewFolder) -> None:
    """Join runs into one: their plans, their cells, one table."""
    from harness.commands.folders import merge_command

    merge_command(runs, output)


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
    try:
        with endable():
            for argument in sys.argv[1:]:
                check_argument(argument)
            app()
    except (HarnessError, OSError) as error:
        typer.echo(f"harness: {in_words(error)}", err=True)
        raise SystemExit(2) from None
    except Ended as ended:
        typer.echo("harness: interrupted; finished stages are kept, the same command goes on from there.", err=True)
        raise SystemExit(ended.code) from None


if __name__ == "__main__":
    main()
