"""The command line. Heavy imports happen inside commands, so that listing and help answer at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.cli_options import Formats, RunPath, completion, listed
from harness.cli_tools import tools
from results.ground.errors import HarnessError

app = typer.Typer(
    name="harness",
    help="Compare ways of composing and routing LoRA experts, on real benchmarks, with honest statistics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def run(
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated, e.g. mixer,mole.", autocompletion=completion("methods"))
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated, e.g. gsm8k,arc-c.", autocompletion=completion("tasks"))
    ] = None,
    model: Annotated[str | None, typer.Option(help="Bundled name, hub id, or folder.")] = None,
    data: Annotated[str | None, typer.Option(help="bundled, hub, or a directory.")] = None,
    preset: Annotated[
        str, typer.Option(help="Preset, or a YAML file.", autocompletion=completion("presets"))
    ] = "quick",
    seeds: Annotated[str | None, typer.Option(help="Comma-separated integers.")] = None,
    experts: Annotated[
        str | None, typer.Option(help="Pool: NAME or NAME=PATH (a PEFT LoRA folder or hub id), comma-separated.")
    ] = None,
    shots: Annotated[int | None, typer.Option(help="Few-shot examples for every task.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many items a task.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value: of the run, of every method, or methods.NAME.key=value."),
    ] = None,
    transfer_from: Annotated[
        str | None, typer.Option(help="Base model of equal shapes that experts and fits are taken from.")
    ] = None,
    tune: Annotated[bool, typer.Option(help="Choose learning rates on the dev part first.")] = False,
    executor: Annotated[str, typer.Option(help="local or ray.")] = "local",
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, or auto.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; default results/runs/<name>.")] = None,
    min_isolation: Annotated[str | None, typer.Option(help="Weakest sandbox allowed for generated code.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
) -> None:
    """Run a comparison and print its table."""
    from harness.commands.run import RunRequest, run_command

    run_command(
        RunRequest(
            preset=preset,
            methods=listed(methods),
            tasks=listed(tasks),
            model=model,
            data=data,
            seeds=listed(seeds),
            experts=listed(experts),
            shots=shots,
            limit=limit,
            sets=sets or [],
            transfer_from=transfer_from,
            tune=tune,
            executor=executor,
            device=device,
            output=output,
            min_isolation=min_isolation,
            plan_only=plan,
            arguments=sys.argv[1:],
        )
    )


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, tasks, models, presets, or tables.")],
) -> None:
    """List names, one a line; the first column is the name alone."""
    from harness.commands.listing import list_command

    list_command(what)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A method, task, preset, table, or model.")]) -> None:
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
def reproduce(
    table: Annotated[str, typer.Argument(help="t1..t22, f3..f6, a4, or all.", autocompletion=completion("tables"))],
    preset: Annotated[str, typer.Option(help="Preset; quick and smoke scale the paper's budgets down.")] = "quick",
    model: Annotated[str | None, typer.Option(help="Bundled name, hub id, or folder.")] = None,
    data: Annotated[str | None, typer.Option(help="bundled, hub, or a directory.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated integers.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many items a task.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="key=value, as for run.")] = None,
    transfer_from: Annotated[
        str | None, typer.Option(help="Base model of equal shapes that experts and fits are taken from.")
    ] = None,
    format: Formats = "md,latex,csv",
    executor: Annotated[str, typer.Option(help="local or ray.")] = "local",
    device: Annotated[str | None, typer.Option(help="cpu, cuda:0, or auto.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; default results/runs/<table>.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
) -> None:
    """Compute what a table or figure of the paper needs, and render it beside the published values."""
    from harness.commands.experiments import reproduce_command
    from harness.commands.run import RunRequest

    request = RunRequest(
        preset=preset,
        model=model,
        data=data,
        seeds=listed(seeds),
        limit=limit,
        sets=sets or [],
        transfer_from=transfer_from,
        executor=executor,
        device=device,
        output=output,
        plan_only=plan,
        arguments=sys.argv[1:],
    )
    reproduce_command(table, request, listed(format) or [])


@app.command()
def ablate(
    what: Annotated[str, typer.Argument(help="data-size, top-k, rank, alpha-lambda, or entropy-sign.")],
    preset: Annotated[str, typer.Option(help="Preset; quick and smoke scale the paper's budgets down.")] = "quick",
    model: Annotated[str | None, typer.Option(help="Bundled name, hub id, or folder.")] = None,
    data: Annotated[str | None, typer.Option(help="bundled, hub, or a directory.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated integers.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many items a task.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="key=value, as for run.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; default results/runs/<what>.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cells and an estimate; run nothing.")] = False,
) -> None:
    """Vary one thing, run everything that takes, and plot it."""
    from harness.commands.experiments import reproduce_command
    from harness.commands.run import RunRequest

    request = RunRequest(
        preset=preset,
        model=model,
        data=data,
        seeds=listed(seeds),
        limit=limit,
        sets=sets or [],
        output=output,
        plan_only=plan,
        arguments=sys.argv[1:],
    )
    reproduce_command(what, request, ["md", "latex", "csv"])


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
) -> None:
    """Write a composed model of a finished run to a folder that `methods.load` reads."""
    from harness.commands.export import export_command

    export_command(run, method, task, seed, output, form, refer)


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
    try:
        app()
    except HarnessError as error:
        typer.echo(f"harness: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("harness: interrupted; finished stages are kept, the same command goes on from there.", err=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
