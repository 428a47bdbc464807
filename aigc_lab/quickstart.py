"""The verb `quickstart`: four generators of two modalities, trained and compared, from embedded data alone."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

EXPERIMENTS = {
    "text/pydoc": "a Transformer that writes Python's documentation byte by byte",
    "image/digits_gan": "a GAN that draws handwritten digits",
    "image/digits_vae": "a variational autoencoder of the same digits",
    "text/digits_pixels": "the Transformer again, on the digits' pixels",
}


def run_quickstart(runs_dir: str, say: Callable[[str], None]) -> Path:
    """Train every experiment of `EXPERIMENTS`, score them with all controls, write the report.

    Prints a plan first, the tables at the end, and the report's path as the last line.

    Returns:
        The report.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from aigc_lab.config.compose import Composer

    composer = Composer()
    configs = {name: composer.train([f"experiment={name}", f"paths.runs_dir={runs_dir}"]) for name in EXPERIMENTS}
    plan = Table(
        title="quickstart: train four generators, then compare them",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for title in ("experiment", "what", "batches"):
        plan.add_column(title)
    for name, config in configs.items():
        plan.add_row(name, EXPERIMENTS[name], str(config.trainer.max_steps))
    Console(width=None if sys.stdout.isatty() else 120).print(plan)
    sys.stdout.flush()

    began = time.monotonic()
    say("importing torch and Lightning (about 10 s)")
    from aigc_lab import training
    from aigc_lab.evaluation import compare
    from aigc_lab.evaluation.report import write_report
    from aigc_lab.evaluation.subjects import evaluate
    from aigc_lab.evaluation.tabulate import print_table

    runs = []
    for i, (name, config) in enumerate(configs.items(), 1):
        say(f"{i} of {len(configs)}: training {name}, {EXPERIMENTS[name]}")
        run = training.train(config, ["aigc", "train", f"experiment={name}", f"paths.runs_dir={runs_dir}"])
        print(f"run: {run.path}", flush=True)
        runs.append(str(run.path))
    protocol = composer.evaluate([])
    evaluated = evaluate(runs, protocol, data_given=False, anew=True, say=say)
    tables = compare.tables(evaluated)
    for table in tables:
        print_table(table, every=False)
    path = write_report(evaluated, tables, Path(runs_dir, "report.html"), command=["aigc", "quickstart"])
    say(f"done in {(time.monotonic() - began) / 60:.1f} minutes; open this file in a browser")
    print(path, flush=True)
    return path
