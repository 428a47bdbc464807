"""The verbs. Nothing heavy is imported before a verb needs it: torch takes 3 seconds, Lightning 9."""

import inspect
import json
import math
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigc_lab import __version__
from aigc_lab.errors import UserError
from aigc_lab.looking import LOOKS, SAMPLES
from aigc_lab.processes import global_rank

if TYPE_CHECKING:
    from aigc_lab.chatting import Speaker
    from aigc_lab.config.schema import EvaluateConfig
    from aigc_lab.decoding import Sampling
    from aigc_lab.evaluation.subjects import Evaluated

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="aigc")
def aigc() -> None:
    """Train, sample and compare generative models of text and images.

    \b
    A first run:   aigc train experiment=image/digits_gan
    Look at it:    aigc sample RUN
    Score it:      aigc compare RUN
    Everything:    aigc quickstart
    """


def verb(**options: Any) -> Callable[[Callable[..., None]], click.Command]:
    return aigc.command(context_settings=CONTEXT, **options)


config_dir = click.option("--config-dir", metavar="DIR", help="A folder of your own configs, searched first.")
as_json = click.option("--json", "as_json", is_flag=True, help="End stdout with one JSON document.")


@verb()
@click.argument("overrides", nargs=-1)
@click.option("-m", "--multirun", is_flag=True, help="Sweep: a=1,2  b=range(0,3)  experiment=glob(image/digits_*)")
@click.option("--continue", "or_continue", is_flag=True, help="Continue the run if run_id exists.")
@config_dir
def train(overrides: tuple[str, ...], multirun: bool, or_continue: bool, config_dir: str | None) -> None:
    """Train a run. OVERRIDES follow Hydra's grammar.

    \b
    aigc train experiment=image/digits_gan model.lr=1e-3 trainer=ddp_cpu
    aigc train data=text_file data.path=book.txt model=transformer trainer.max_steps=2000
    aigc train -m experiment=image/digits_gan seed=0,1,2 model/objective=minimax,hinge
    aigc train experiment=text/pydoc launcher=slurm launcher.partition=gpu trainer=ddp

    The last line on stdout is `run: DIRECTORY`.
    """
    from aigc_lab.config.compose import Composer
    from aigc_lab.config.targets import build

    composer = Composer(config_dir)
    config = None if multirun else composer.train(overrides)
    if config is None or not build(config.launcher, path="launcher").in_place:
        from aigc_lab.sweep import sweep

        sys.exit(sweep(composer, overrides, config_dir))
    say(f"training {config.name} on {config.trainer.devices} {config.trainer.accelerator} (importing torch)")
    from aigc_lab import training
    from aigc_lab.run import Run

    existing = Path(config.paths.runs_dir, config.name, config.run_id) if config.run_id else None
    if or_continue and existing and existing.exists():
        run = training.resume(Run.open(existing))
    else:
        run = training.train(config, ["aigc", *sys.argv[1:]])
    announce(run.path)


@verb()
@click.argument("run")
def resume(run: str) -> None:
    """Continue an interrupted RUN, to the weights it would have had unbroken."""
    from aigc_lab.run import Run

    opened = Run.open(run)
    config = opened.config()
    if opened.status() == "finished" and opened.weights_path.is_file():
        say(f"{run} is finished already")
    else:
        say(f"resuming {config.name} (importing torch)")
        from aigc_lab import training

        training.resume(opened)
    announce(opened.path)


class Numbers(click.FloatRange):
    """Those of a range that are finite: click compares with its ends, which NaN passes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


def decoding(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `aigc_lab.decoding.Sampling`; None where not given."""
    for option in reversed(
        [
            click.option("--temperature", type=Numbers(0), help="0: the likeliest symbol [1]."),
            click.option("--top-k", type=click.IntRange(1), help="Draw from the k likeliest symbols."),
            click.option("--top-p", type=Numbers(0, 1), help="Draw from the likeliest of this mass."),
            click.option("--min-p", type=Numbers(0, 1, max_open=True), help="Least share of the top's."),
            click.option("--repetition-penalty", type=Numbers(0, min_open=True), help="1: none."),
        ]
    ):
        command = option(command)
    return command


class Classes(click.ParamType):
    """Numbers with commas between them."""

    name = "A,B,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return value if isinstance(value, tuple) else tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}': give numbers with commas between them, e.g. 3,5,8", param, ctx)


def of_looks(command: Callable[..., None]) -> Callable[..., None]:
    """--what, and the options of the looks; None where not given."""
    picture = click.Path(path_type=Path)
    for option in reversed(
        [
            click.option("--what", type=click.Choice([SAMPLES, *LOOKS]), default=SAMPLES, help="See above."),
            click.option("--classes", type=Classes(), help="Which (classes), or A - B + C (arithmetic)."),
            click.option("--style", type=picture, metavar="FILE", help="The picture whose style it is."),
            click.option("--content", type=picture, metavar="FILE", help="What is painted [samples of RUN]."),
            click.option(
                "--vgg",
                type=picture,
                metavar="FILE",
                help="Weights of torchvision's, vgg19-*.pth e.g. [RUN's network].",
            ),
            click.option("--size", type=click.IntRange(32, 2048), help="Longest side in pixels [256]."),
            click.option("--steps", type=click.IntRange(1), help="Of painting [200]."),
            click.option("--style-weight", type=Numbers(0, min_open=True), help="Against content [100]."),
        ]
    ):
        command = option(command)
    return command


@verb()
@click.argument("run")
@click.option("-n", type=click.IntRange(1), help="How many samples [16; 1 with --beams].")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
@click.option("--output", type=click.Path(path_type=Path), help="File to write instead of RUN/samples/.")
@click.option("--prompt", default="", help="Text to continue, or to answer (text models).")
@click.option("--length", type=click.IntRange(1), help="Symbols to write (text models).")
@click.option("--guidance", type=Numbers(0), help="Weight of a class: 1 its law, more plainer (flows).")
@decoding
@click.option("--beams", "n_beams", type=click.IntRange(2), help="Search for the likeliest text instead.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End a text where this would stand; may be repeated.")
@of_looks
def sample(
    run: str,
    n: int | None,
    seed: int,
    output: Path | None,
    what: str,
    guidance: float | None,
    **options: Any,
) -> None:
    """Sample a RUN: images as a PNG sheet, texts on the terminal and as a file.

    \b
    aigc sample RUN --what interpolate --output walk.gif
    aigc sample RUN --what style --style painting.jpg --content photo.jpg

    What there is to see of images:

    \b
    """
    if options["n_beams"] and n not in (None, 1):
        raise UserError(f"-n {n}: a search with --beams finds one text, the likeliest; leave one of the two out")
    if "" in options["stop"]:
        raise UserError("--stop '': an empty text stands everywhere; name one to stop at")
    n = n or 16
    from aigc_lab.run import Run

    of_text, of_look = _split_options(options, what)
    if output is not None and output.suffix.lower() == ".gif" and not (what in LOOKS and LOOKS[what].moves):
        moving = ", ".join(name for name, look in LOOKS.items() if look.moves)
        raise UserError(f"--output {output}: --what {what} does not move; write a .png, or look at {moving}")
    opened = Run.open(run)
    opened.config()
    say(f"sampling {opened.path.name} (importing torch)")
    from aigc_lab.sampling import look_to_file, sample_to_file

    if what == SAMPLES:
        path = sample_to_file(opened, n=n, seed=seed, output=output, guidance=guidance, **of_text)
    else:
        path, caption = look_to_file(
            opened, what=what, n=n, seed=seed, output=output, guidance=guidance, **of_look
        )
        print(caption)
    print(f"samples: {path}")


sample.help = inspect.cleandoc(sample.help or "") + "".join(f"\n{n:12} {v.shows}" for n, v in LOOKS.items())


def _split_options(options: dict[str, Any], what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of texts and those of looks.

    Raises:
        UserError: one was given that this look does not take.
    """
    known = {name for look in LOOKS.values() for name in look.options}
    taken = LOOKS[what].options if what in LOOKS else ()
    of_text = {name: value for name, value in options.items() if name not in known}
    foreign = known - set(taken) if what == SAMPLES else set(options) - set(taken)
    if wrong := sorted(name for name in foreign if options[name] not in ("", None, ())):
        takers = [name for name, look in LOOKS.items() if wrong[0] in look.options]
        which = f"--what {' and '.join(takers)}" if takers else "texts"
        flag = next(option.opts[0] for option in sample.params if option.name == wrong[0])
        raise UserError(f"{flag}: is for {which}, not for --what {what}")
    return of_text, {name: options[name] for name in taken}


system_prompt = click.option("--system", metavar="TEXT", help="A system message, before everything else.")
of_response = click.option("--length", type=click.IntRange(1), help="Symbols of a response [half the context].")
seed_option = click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))


@verb()
@click.argument("run")
@system_prompt
@seed_option
@of_response
@decoding
def chat(run: str, system: str | None, seed: int, length: int | None, **sampling: Any) -> None:
    """Talk with a RUN that was trained on conversations, line by line; also `... | aigc chat RUN`.

    \b
    /reset forgets what was said, /quit ends.
    """
    speaker = _speaker(run)
    from aigc_lab.chatting import Conversation

    interactive = sys.stdin.isatty()
    conversation = Conversation(
        speaker,
        system=system,
        seed=seed,
        sampling=_sampling(sampling),
        length=length or speaker.half,
        show=_show,
        tell=_tell,
    )
    conversation.read(iter(lambda: _ask(interactive), ""))


@verb()
@click.argument("run")
@click.option("--task", required=True, metavar="NAME", help="summary, article, ad, code, qa, translate, or yours.")
@click.option("--field", "fields", multiple=True, metavar="KEY=VALUE", help="Of the template; may be repeated.")
@system_prompt
@seed_option
@of_response
@decoding
@config_dir
def write(
    run: str,
    task: str,
    fields: tuple[str, ...],
    system: str | None,
    seed: int,
    length: int | None,
    config_dir: str | None,
    **sampling: Any,
) -> None:
    """Have a RUN write something: the prompt is the template of a task, conf/write/NAME.jinja.

    \b
    aigc write RUN --task summary --field text="$(cat article.txt)"
    aigc write RUN --task translate --field to=French --field text="Good morning"

    Tasks of your own stand in write/NAME.jinja below --config-dir.
    """
    from aigc_lab.config.compose import Composer
    from aigc_lab.tasks import prompt

    if wrong := [field for field in fields if "=" not in field]:
        raise UserError(f"--field {wrong[0]}: give KEY=VALUE")
    composer = Composer(config_dir)
    folders = [*([composer.own] if composer.own else []), composer.conf]
    asked = prompt(task, dict(field.split("=", 1) for field in fields), folders)
    speaker = _speaker(run)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": asked})
    how: dict[str, Any] = {"seed": seed, "sampling": _sampling(sampling), "length": length or speaker.half}
    try:
        if unread := speaker.unread(messages):
            raise UserError(
                f"--task {task}: what is asked is {unread} symbols longer than the model can read at once; give "
                "shorter fields"
            )
        for piece in speaker.streamed(messages, **how):
            _show(piece)
    except ValueError as error:
        raise UserError(f"--task {task}: {error}") from None
    _show("\n")


@verb()
@click.argument("run")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="A new folder.")
def export(run: str, folder: Path) -> None:
    """Write the language model of a RUN as a folder that Hugging Face's transformers opens.

    \b
    AutoModelForCausalLM.from_pretrained(FOLDER); AutoTokenizer.from_pretrained(FOLDER)
    """
    from aigc_lab.run import Run

    opened = Run.open(run)
    opened.config()
    if folder.exists():
        raise UserError(f"--to {folder}: exists already; name a new folder")
    say(f"exporting {opened.path.name} (importing torch)")
    from aigc_lab.huggingface import export as write_folder

    write_folder(opened, folder)
    print(f"model: {folder}")


every_metric = click.option(
    "--all", "every", is_flag=True, help="Show every metric and control, not only the main ones."
)


@verb()
@click.argument("subjects", nargs=-1, metavar="(RUN|control:NAME|OVERRIDE)...")
@click.option("--data", help="Data set of the controls, e.g. digits or pydoc; a run brings its own.")
@click.option("--calibrate", is_flag=True, help="Draw which metric sees which fault, into the runs folder.")
@every_metric
@as_json
@config_dir
def evaluate(
    subjects: tuple[str, ...],
    data: str | None,
    calibrate: bool,
    every: bool,
    as_json: bool,
    config_dir: str | None,
) -> None:
    """Score runs and controls, and append the scores to each run's results.jsonl.

    \b
    aigc evaluate runs/image/digits_gan/20261122-101500-3f2a
    aigc evaluate control:copycat --data digits evaluation.n=200
    aigc evaluate --calibrate --data digits
    """
    if calibrate and data:
        subjects = ("control:oracle", *subjects)
    evaluated, config = _evaluated(subjects, data, config_dir, anew=True)
    from aigc_lab.evaluation import compare as comparing
    from aigc_lab.evaluation.tabulate import print_table

    found = comparing.tables(evaluated)
    for table in found:
        print_table(table, every=every)
    more = {"calibrations": _calibrations(evaluated, Path(config.paths.runs_dir))} if calibrate else {}
    if as_json:
        print(comparing.to_json(found, **more))


@verb()
@click.argument("subjects", nargs=-1, metavar="(RUN|control:NAME|OVERRIDE)...")
@click.option("--data", help="Data set of the controls; a run brings its own.")
@click.option("--baseline", metavar="RUN", help="Show what the others score less this one, with intervals.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="The report's file [report.html in the first run's folder]."
)
@click.option("--markdown", "style", flag_value="markdown", help="Print the tables in Markdown.")
@click.option("--latex", "style", flag_value="latex", help="Print the tables in LaTeX (booktabs, graphicx).")
@click.option(
    "--csv", "style", flag_value="csv", help="Print every field of the scores as CSV; with --all of every score."
)
@every_metric
@as_json
@config_dir
def compare(
    subjects: tuple[str, ...],
    data: str | None,
    baseline: str | None,
    output: Path | None,
    style: str | None,
    every: bool,
    as_json: bool,
    config_dir: str | None,
) -> None:
    """Set runs and controls side by side: a table here, and a self-contained report.html.

    Runs that have no scores under the protocol yet are evaluated first.
    """
    if baseline and baseline.startswith("control:"):
        raise UserError(f"--baseline={baseline}: name a run; controls stand in every table anyway")
    if output is not None:
        from aigc_lab.files import check_output

        check_output(output, "report.html")
    if baseline and baseline not in subjects:
        subjects = (baseline, *subjects)
    evaluated, _ = _evaluated(subjects, data, config_dir, anew=False)
    from aigc_lab.evaluation import compare as comparing
    from aigc_lab.evaluation.report import write_report
    from aigc_lab.evaluation.tabulate import FORMATS, print_table

    same = Path(baseline).resolve() if baseline else None
    name = next((e.name for e in evaluated if e.run and e.run.path.resolve() == same), None)
    found = comparing.tables(evaluated, baseline=name)
    if style:
        print(FORMATS[style](found, every=every))
    else:
        for table in found:
            print_table(table, every=every)
    path = write_report(evaluated, found, output, command=["aigc", *sys.argv[1:]])
    print(f"report: {path}", file=sys.stderr if style else sys.stdout)
    if as_json:
        print(comparing.to_json(found, report=str(path)))


@verb()
@click.argument("name")
@click.option("--quick", is_flag=True, help="A short version that says it is one.")
@click.option("--trainer", metavar="NAME", help="What it trains on: cpu, gpu, ddp, ... [the experiment's own].")
@click.option("--runs-dir", metavar="DIR", help="Where the runs go [paths.runs_dir].")
@click.option("--judge", is_flag=True, help="Judge what was measured before by the claims of now, and no more.")
@as_json
@config_dir
def reproduce(
    name: str,
    quick: bool,
    trainer: str | None,
    runs_dir: str | None,
    judge: bool,
    as_json: bool,
    config_dir: str | None,
) -> None:
    """Train, measure and judge every claim of the experiment NAME.

    \b
    aigc reproduce minimax/gaussian_1d --quick
    aigc reproduce minimax/dirac
    aigc reproduce modes/stacked_mnist --trainer gpu

    Finished runs are used again. Writes NAME.results.json beside the experiment and regenerates
    LEDGER.md; exit code 1 when a claim of the full version fails.
    """
    from aigc_lab.config.compose import Composer
    from aigc_lab.reproduce.plan import make_plan

    if judge and trainer:
        raise UserError("--trainer: nothing is trained with --judge; leave one of the two out")
    composer = Composer(config_dir)
    plan = make_plan(composer, name, quick=quick, runs_dir=runs_dir, trainer=trainer)
    doing = "judging" if judge else "reproducing"
    say(f"{doing} {name}{' (quick)' if quick else ''}, {len(plan.trials)} trials (importing torch)")
    from aigc_lab.reproduce import reproduction

    beside = [n for n in composer.with_claims() if composer.results_root(n) == plan.root]
    if judge:
        results = reproduction.judge_again(plan, with_claims=beside)
    else:
        results = reproduction.reproduce(plan, with_claims=beside, say=say)
    reproduction.print_results(results)
    print(f"results: {plan.results_path}")
    if as_json:
        print(json.dumps(results))
    if not quick and any(claim["verdict"] == "fails" for claim in results["claims"]):
        sys.exit(1)


@verb()
@click.argument("runs_dir", default="runs")
@click.option("--where", help="Only scored runs for which this holds: \"gap_closed > 0.8 and data = 'digits'\"")
@as_json
def runs(runs_dir: str, where: str | None, as_json: bool) -> None:
    """List the runs below RUNS_DIR with their status and headline scores.

    \b
    aigc runs
    aigc runs --where "gap_closed > 0.8 and recall > 0.5"

    The columns that --where may use are those of the table `runs` in RUNS_DIR/results.sqlite.
    """
    from aigc_lab.listing import list_runs, print_query, print_runs, query_runs

    if where is not None:
        found, damaged = query_runs(runs_dir, where)
        print_query(found, where)
        for reason in damaged:
            print(f"aigc: left out: {reason}", file=sys.stderr)
    else:
        found = list_runs(runs_dir)
        print_runs(found, runs_dir)
    if as_json:
        print(json.dumps({"runs": found}))


@verb()
@as_json
def doctor(as_json: bool) -> None:
    """Check this machine and installation; exit code 1 when something needs mending."""
    from aigc_lab.doctor import examine, print_findings

    findings = examine()
    print_findings(findings)
    if as_json:
        print(json.dumps({"findings": findings}))
    if any(finding["status"] == "broken" for finding in findings):
        sys.exit(1)


@verb()
@click.option("--runs-dir", default="runs", show_default=True, help="Where the runs and the report go.")
def quickstart(runs_dir: str) -> None:
    """Train a text Transformer, a GAN, a VAE and a pixel Transformer, and compare them: about 5 minutes."""
    from aigc_lab.quickstart import run_quickstart

    run_quickstart(runs_dir, say)


@verb()
@click.option("--p", "real", default="N(0, 1)", show_default=True, metavar="LAW", help="The data's law.")
@click.option("--q", "fake", default="N(1, 1)", show_default=True, metavar="LAW", help="A generator's law.")
@click.option("--output", type=click.Path(path_type=Path), default="minimax.html", show_default=True)
@click.option("--quick", is_flag=True, help="Shorter games: 15 seconds instead of 90.")
def minimax(real: str, fake: str, output: Path, quick: bool) -> None:
    """The minimax game step by step, here and as one page with all figures.

    A LAW is N(MEAN, SD) or a sum of them, e.g. "0.3 N(-2, 0.5) + 0.7 N(2, 0.5)".
    """
    from aigc_lab.files import check_output
    from aigc_lab.minimax.laws import parse_law
    from aigc_lab.minimax.tour import FULL, QUICK, run_tour

    p, q = parse_law(real), parse_law(fake)
    check_output(output, "minimax.html")
    made_by = f"{shlex.join(['aigc', *sys.argv[1:]])} (aigc_lab {__version__})"
    run_tour(p, q, output, QUICK if quick else FULL, say, made_by=made_by)


def _evaluated(
    subjects: tuple[str, ...], data: str | None, config_dir: str | None, *, anew: bool
) -> tuple[list["Evaluated"], "EvaluateConfig"]:
    """What `evaluate` and `compare` have in common; everything that can be wrong is found before torch is."""
    from aigc_lab.config.compose import Composer
    from aigc_lab.evaluation.arguments import check_subjects

    named, config = check_subjects(Composer(config_dir), subjects, data)
    say("importing torch")
    from aigc_lab.evaluation.subjects import evaluate as evaluate_subjects

    return evaluate_subjects(named, config, data_given=data is not None, anew=anew, say=say), config


def _calibrations(evaluated: list["Evaluated"], folder: Path) -> list[dict[str, Any]]:
    """Print and draw the calibration of every data set that was evaluated; the pictures go into the folder."""
    from aigc_lab.evaluation import calibration

    found = []
    for harness in {id(e.harness): e.harness for e in evaluated}.values():
        say(f"scoring the controls of {harness.spec.name} at fewer samples")
        made = calibration.calibrate(harness)
        calibration.print_calibration(made)
        path = calibration.save_heat_map(made, folder)
        print(f"heat map: {path}")
        found.append(made.to_json() | {"heat_map": str(path)})
    return found


def _speaker(run: str) -> "Speaker":
    """A run that one can talk with."""
    from aigc_lab.run import Run

    opened = Run.open(run)
    opened.config()
    say(f"opening {opened.path.name} (importing torch)")
    from aigc_lab.chatting import Speaker
    from aigc_lab.generators import load

    return Speaker.of(load(opened.path), run)


def _sampling(options: dict[str, Any]) -> "Sampling":
    """What was given of `aigc_lab.decoding.Sampling`."""
    from aigc_lab.decoding import Sampling

    return Sampling(**{name: value for name, value in options.items() if value is not None})


def _ask(interactive: bool) -> str:
    """The next line of the user's; empty at the end."""
    if interactive:
        print("> ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _show(piece: str) -> None:
    print(piece, end="", flush=True)


def _tell(message: str) -> None:
    print(f"aigc: {message}", file=sys.stderr, flush=True)


def say(message: str) -> None:
    """What the program is about to do; on stderr, at once, from one process of a distributed run."""
    if global_rank() == 0:
        print(f"aigc: {message} ...", file=sys.stderr, flush=True)


def announce(path: Path) -> None:
    """The line that scripts read, from one process of a distributed run."""
    if global_rank() == 0:
        print(f"run: {path}", flush=True)


def _in_one_line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
    name = "" if category is UserWarning else f"{category.__name__}: "
    return f"aigc: {name}{message}\n"


def main(argv: list[str] | None = None) -> int:
    """Run a verb. Exit codes: 0 done, 1 failed, 2 the user's mistake, 130 interrupted."""
    warnings.formatwarning = _in_one_line
    try:
        aigc.main(args=argv, prog_name="aigc", standalone_mode=False)
    except UserError as error:
        print(f"aigc: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a folder in the place of a file, no permission, a full disk
        where = f"{error.filename}: " if error.filename else ""
        print(f"aigc: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except click.UsageError as error:
        print(f"aigc: {error.format_message()}", file=sys.stderr)
        return 2
    except click.Abort as abort:
        print(f"aigc: {abort.__cause__ or 'interrupted'}", file=sys.stderr)
        return 130
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
    return 0
