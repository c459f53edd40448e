"""Commands about this installation rather than one run: its cards, assets, checks, counts and speed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.arguments import COMPARE, INSTALLATION, KNOW, SHARE, completion, listed, numbers, place

tools = typer.Typer(rich_markup_mode=None)


@tools.command(rich_help_panel=KNOW)
def docs(
    output: Annotated[
        Path, typer.Option(help="Folder that methods.md and tasks.md are written to.", parser=place)
    ] = Path("docs"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a page is out of date.")] = False,
) -> None:
    """Write the pages of methods and tasks from their cards."""
    from harness.commands.docs import docs_command

    docs_command(output, check)


@tools.command(rich_help_panel=INSTALLATION)
def clean(
    older_than: Annotated[str | None, typer.Option(help="Stages not changed for, e.g. 30d, 12h.")] = None,
    max_size: Annotated[str | None, typer.Option(help="The oldest, until the rest fits into, e.g. 20GB.")] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(help="Only stages of this run.", parser=place, autocompletion=completion("runs")),
    ] = None,
    keep: Annotated[
        list[Path] | None, typer.Option(help="No stage of this run.", parser=place, autocompletion=completion("runs"))
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; without it they are only counted.")] = False,
) -> None:
    """Show what the stage cache holds, and prune it by age, size or run."""
    from harness.commands.folders import clean_command

    clean_command(older_than, max_size, run or [], keep or [], delete)


@tools.command("make-crossdomain", rich_help_panel=COMPARE)
def make_crossdomain(
    kind: Annotated[str, typer.Argument(help="math-medical or math-coding.", autocompletion=completion("made-sets"))],
    n: Annotated[int, typer.Option("--n", help="Questions wanted.")] = 200,
    output: Annotated[
        Path | None, typer.Option(help="Data directory for the set; default in the cache.", parser=place)
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the generator, e.g. preset=deepseek, model=...")
    ] = None,
) -> None:
    """Have a generator model write questions that need two domains at once."""
    from harness.commands.crossdomain import make_command

    make_command(kind, n, output, sets or [])


@tools.command(rich_help_panel=INSTALLATION)
def fetch(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Only this model of `harness list models`; repeatable.", autocompletion=completion("models")),
    ] = None,
    accept_terms: Annotated[
        list[str] | None,
        typer.Option(help="Terms that a model comes under and you accept.", autocompletion=completion("terms")),
    ] = None,
) -> None:
    """Fetch and convert the bundled assets, so that later runs need no network; or the models that are named."""
    from harness.commands.maintenance import fetch_command, fetch_models

    if model:
        fetch_models(model, accept_terms or [])
    else:
        fetch_command()


@tools.command(rich_help_panel=INSTALLATION)
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON: an object for each feature.")] = False,
) -> None:
    """Say of each feature that it works here, or the command that mends it."""
    from harness.commands.doctor import doctor_command

    doctor_command(json)


@tools.command(rich_help_panel=INSTALLATION)
def check(
    name: Annotated[
        str | None,
        typer.Argument(help="A method or task, or a file of one; default: all.", autocompletion=completion("checked")),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help="Rows that tasks are checked on: bundled, hub, or a directory.", autocompletion=completion("sources")
        ),
    ] = "bundled",
) -> None:
    """Run the conformance suite over methods (on tiny models) and tasks (on a source's rows, without a model)."""
    from harness.commands.maintenance import check_command

    check_command(name, data)


@tools.command(rich_help_panel=SHARE)
def new(
    kind: Annotated[str, typer.Argument(help="method or task.", autocompletion=completion("plug-ins"))],
    name: Annotated[str, typer.Argument(help="Its name, e.g. my-router.")],
    output: Annotated[
        Path | None, typer.Option(help="New folder; default one of that name here.", parser=place)
    ] = None,
) -> None:
    """Write a package with a method or task of your own, which passes `harness check` as it is."""
    from harness.commands.new import new_command

    new_command(kind, name, output)


@tools.command(rich_help_panel=SHARE)
def pool(
    experts: Annotated[
        str, typer.Option(help="Comma-separated names, e.g. sst2,arc,gsm8k.", autocompletion=completion("experts"))
    ],
    output: Annotated[
        Path, typer.Option(help="Folder of the pool; one that holds a pool gains experts.", parser=place)
    ],
    model: Annotated[
        str, typer.Option(help="Bundled name, hub id, or folder.", autocompletion=completion("models"))
    ] = "smollm2-135m",
    data: Annotated[
        str, typer.Option(help="bundled, hub, or a directory.", autocompletion=completion("sources"))
    ] = "bundled",
    rank: Annotated[int, typer.Option(help="Rank of every expert; alpha is twice that.")] = 8,
    rates: Annotated[str, typer.Option(help="Learning rates to try, comma-separated.")] = "5e-4,1e-3,2e-3",
    tokens: Annotated[str, typer.Option(help="Budgets to grow through, comma-separated.")] = "8000,16000,32000,64000",
    gain: Annotated[float, typer.Option(help="Share of the loss that a larger budget has to take off.")] = 0.02,
    dev_rows: Annotated[int, typer.Option(help="Development rows to judge by.")] = 128,
    seed: Annotated[int, typer.Option(help="Of initial values and order.")] = 0,
    preset: Annotated[
        str, typer.Option(autocompletion=completion("presets"), help="Settings to start from.")
    ] = "default",
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value of the run.")] = None,
) -> None:
    """Train a pool of experts to hand on, learning rates and budgets chosen on dev."""
    from harness.commands.pool import pool_command, pool_configuration

    config = pool_configuration(preset, listed(experts) or [], model, data, rank, seed, set_ or [])
    pool_command(config, output, numbers(rates, float), numbers(tokens, int), gain, dev_rows, sys.argv[1:])


@tools.command(rich_help_panel=INSTALLATION)
def agreement(
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated; default: all with choices.", autocompletion=completion("tasks"))
    ] = None,
    model: Annotated[
        str, typer.Option(help="Bundled name, hub id, or folder.", autocompletion=completion("models"))
    ] = "smollm2-135m",
    data: Annotated[
        str, typer.Option(help="bundled, hub, or a directory.", autocompletion=completion("sources"))
    ] = "bundled",
    items: Annotated[int, typer.Option(help="Items of each task.")] = 200,
    peer_batch: Annotated[int, typer.Option(help="Batch size of lm-eval's side.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a base model's scores with those that lm-eval itself computes on the same items."""
    from harness.commands.agreement import agreement_command

    agreement_command(listed(tasks), model, data, items, peer_batch, json)


@tools.command(rich_help_panel=KNOW)
def params(
    model: Annotated[
        str,
        typer.Option(
            help="llama3-8b, another shipped architecture, or any model.", autocompletion=completion("counted")
        ),
    ] = "llama3-8b",
    rank: Annotated[int, typer.Option(help="Rank of every LoRA of the pool.")] = 64,
    experts: Annotated[int, typer.Option(help="Size of the pool.")] = 6,
    targets: Annotated[str | None, typer.Option(help="Comma-separated layer names that LoRAs go to.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated; default all.", autocompletion=completion("methods"))
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="text, md, latex or csv.", autocompletion=completion("count-formats"))
    ] = "text",
) -> None:
    """Count what every method trains and stores, from the architecture alone."""
    from harness.commands.params import params_command

    params_command(model, rank, experts, listed(targets), listed(methods), format)


@tools.command(rich_help_panel=INSTALLATION)
def bench(
    name: Annotated[str, typer.Argument(help="What to measure.", autocompletion=completion("benchmarks"))],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Bundled name, hub id, or folder.", autocompletion=completion("models"))
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="bundled, hub, or a directory.", autocompletion=completion("sources"))
    ] = None,
    items: Annotated[
        int | None, typer.Option(help="Items of each task; default: those of the published figures.")
    ] = None,
    repetitions: Annotated[int | None, typer.Option(help="Turns of both sides; default 3.")] = None,
    peer_batches: Annotated[
        str | None, typer.Option(help="Comma-separated batch sizes for the other side, which takes its fastest.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="A finished run, whose report startup and plans time.", autocompletion=completion("runs")),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="The run that engine times; default quick.", autocompletion=completion("presets"))
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Where scaling draws its plot (.svg, .png, .pdf).", parser=place)
    ] = None,
    only: Annotated[str | None, typer.Option(help="Rows whose names hold this text.")] = None,
    clock: Annotated[
        str | None,
        typer.Option(help="wall, or cpu (processor seconds) on a busy machine.", autocompletion=completion("clocks")),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:0, or auto; default cpu.", autocompletion=completion("devices"))
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16.", autocompletion=completion("dtypes"))
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Draw the model's weights: its configuration is enough.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="File that gets the JSON, row by row as they come.", parser=place)
    ] = None,
) -> None:
    """Measure speed side by side with what people use today."""
    from harness.commands.bench import bench_command

    bench_command(
        name,
        json,
        output,
        model=model,
        data=data,
        items=items,
        repetitions=repetitions,
        peer_batches=listed(peer_batches),
        run=run,
        preset=preset,
        plot=plot,
        only=only,
        clock=clock,
        device=device,
        dtype=dtype,
        random_weights=random_weights,
    )
