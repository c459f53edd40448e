"""The command line. Heavy imports happen inside commands, so that listing and help answer at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__
from harness.errors import UserError

app = typer.Typer(
    name="harness",
    help="Compare ways of composing and routing LoRA experts, on real benchmarks, with honest statistics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunPath = Annotated[Path, typer.Argument(help="Folder of a run, e.g. results/runs/NAME.")]
Formats = Annotated[str, typer.Option("--format", help="Comma-separated: latex, md, csv, html.")]


def _commas(text: str | None) -> list[str] | None:
    """Split at commas outside brackets: `mixer[a=1,b=2],mole` is two methods."""
    if text is None:
        return None
    parts, depth, current = [], 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += char
    return [part for part in [*parts, current.strip()] if part]


def _complete(kind: str):  # type: ignore[no-untyped-def]
    def complete(incomplete: str) -> list[str]:
        from harness.commands.listing import completions

        return completions(kind, incomplete)

    return complete


def _benchmarks(incomplete: str) -> list[str]:
    from harness.bench import BENCHMARKS

    return [name for name in BENCHMARKS if name.startswith(incomplete)]


@app.command()
def run(
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated, e.g. mixer,mole.", autocompletion=_complete("methods"))
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated, e.g. gsm8k,arc-c.", autocompletion=_complete("tasks"))
    ] = None,
    model: Annotated[str | None, typer.Option(help="Bundled name, hub id, or folder.")] = None,
    data: Annotated[str | None, typer.Option(help="bundled, hub, or a directory.")] = None,
    preset: Annotated[str, typer.Option(help="Preset, or a YAML file.", autocompletion=_complete("presets"))] = "quick",
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
            methods=_commas(methods),
            tasks=_commas(tasks),
            model=model,
            data=data,
            seeds=_commas(seeds),
            experts=_commas(experts),
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

    report_command(run, table, _commas(format) or [])


@app.command()
def compare(
    run: RunPath,
    methods: Annotated[str | None, typer.Option(help="Comma-separated; default all of the run.")] = None,
) -> None:
    """Paired tests between methods, corrected for their number."""
    from harness.commands.report import compare_command

    compare_command(run, _commas(methods))


@app.command()
def verify(run: RunPath) -> None:
    """Check that everything stored in a run fits together."""
    from harness.commands.report import verify_command

    verify_command(run)


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="t1..t22, f3..f6, a4, or all.", autocompletion=_complete("tables"))],
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
        seeds=_commas(seeds),
        limit=limit,
        sets=sets or [],
        transfer_from=transfer_from,
        executor=executor,
        device=device,
        output=output,
        plan_only=plan,
        arguments=sys.argv[1:],
    )
    reproduce_command(table, request, _commas(format) or [])


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
        seeds=_commas(seeds),
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


@app.command()
def docs(
    output: Annotated[Path, typer.Option(help="Folder that methods.md and tasks.md are written to.")] = Path("docs"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a page is out of date.")] = False,
) -> None:
    """Write the pages of methods and tasks from their cards."""
    from harness.commands.docs import docs_command

    docs_command(output, check)


@app.command()
def fetch() -> None:
    """Fetch and convert the bundled assets, so that later runs need no network."""
    from harness.commands.maintenance import fetch_command

    fetch_command()


@app.command()
def doctor() -> None:
    """Say what works on this machine and what would be missing."""
    from harness.commands.maintenance import doctor_command

    doctor_command()


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="A method or task; default: all.")] = None,
    data: Annotated[
        str, typer.Option(help="Rows that tasks are checked on: bundled, hub, or a directory.")
    ] = "bundled",
) -> None:
    """Run the conformance suite over methods (on tiny models) and tasks (on a source's rows, without a model)."""
    from harness.commands.maintenance import check_command

    check_command(name, data)


@app.command()
def agreement(
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated; default: all with choices.", autocompletion=_complete("tasks"))
    ] = None,
    model: Annotated[str, typer.Option(help="Bundled name, hub id, or folder.")] = "smollm2-135m",
    data: Annotated[str, typer.Option(help="bundled, hub, or a directory.")] = "bundled",
    items: Annotated[int, typer.Option(help="Items of each task.")] = 200,
    peer_batch: Annotated[int, typer.Option(help="Batch size of lm-eval's side.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a base model's scores with those that lm-eval itself computes on the same items."""
    from harness.commands.agreement import agreement_command

    agreement_command(_commas(tasks), model, data, items, peer_batch, json)


@app.command()
def params(
    model: Annotated[str, typer.Option(help="llama3-8b, another shipped architecture, or any model.")] = "llama3-8b",
    rank: Annotated[int, typer.Option(help="Rank of every LoRA of the pool.")] = 64,
    experts: Annotated[int, typer.Option(help="Size of the pool.")] = 6,
    targets: Annotated[str | None, typer.Option(help="Comma-separated layer names that LoRAs go to.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated; default all.", autocompletion=_complete("methods"))
    ] = None,
    format: Annotated[str, typer.Option("--format", help="text, md, latex or csv.")] = "text",
) -> None:
    """Count what every method trains and stores, from the architecture alone."""
    from harness.commands.params import params_command

    params_command(model, rank, experts, _commas(targets), _commas(methods), format)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="What to measure.", autocompletion=_benchmarks)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model: Annotated[str | None, typer.Option(help="Bundled name, hub id, or folder.")] = None,
    data: Annotated[str | None, typer.Option(help="bundled, hub, or a directory.")] = None,
    items: Annotated[
        int | None, typer.Option(help="Items of each task; default: those of the published figures.")
    ] = None,
    repetitions: Annotated[int | None, typer.Option(help="Turns of both sides; default 3.")] = None,
    peer_batches: Annotated[
        str | None, typer.Option(help="Comma-separated batch sizes for the other side, which takes its fastest.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="A finished run; startup times its report.")] = None,
    preset: Annotated[str | None, typer.Option(help="The run that engine times; default quick.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where scaling draws its plot (.svg, .png, .pdf).")] = None,
    only: Annotated[str | None, typer.Option(help="Rows whose names hold this text.")] = None,
    clock: Annotated[str | None, typer.Option(help="wall, or cpu (processor seconds) on a busy machine.")] = None,
) -> None:
    """Measure speed side by side with what people use today."""
    from harness.commands.bench import bench_command

    bench_command(
        name,
        json,
        model=model,
        data=data,
        items=items,
        repetitions=repetitions,
        peer_batches=_commas(peer_batches),
        run=run,
        preset=preset,
        plot=plot,
        only=only,
        clock=clock,
    )


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
    except UserError as error:
        typer.echo(f"harness: {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        typer.echo("harness: interrupted; finished stages are kept, the same command goes on from there.", err=True)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
