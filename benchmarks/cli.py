"""The command line: what was asked for, in one line each; all the work is elsewhere."""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import InputError, RunFailed, __version__, printable
from .importing import importing

EXTRAS = {**dict.fromkeys(("torch", "torchvision", "timm", "sklearn"), "train"), "submitit": "slurm"}
FULL = (errno.ENOSPC, errno.EDQUOT)
DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)  # what may fail in any file
EXAMPLE = {
    "results": "results=PATH",
    "target": "target=NAME",
    "seconds": "seconds=60",
    "prints": "prints=true",
}
EXAMPLES = """examples:
  transferbench bench                                    the embedded pair: all methods, five seeds
  transferbench bench target=../my/images source=../photos seeds=3 shots=10
  transferbench bench target=../my/images source=none pretrained=true backbone=resnet18
  transferbench bench methods=finetune,l2tl method.num_actions=21 --dry-run
  transferbench run target=digits method=l2tl seed=0 recipe.steps=500
  transferbench suite small                              the paper's tables and figures, in minutes
  transferbench suite table2 source=../photos targets=../birds,../cars recipe.steps=500
  transferbench recommend target=digits seconds=60       which method, by the records that there are
  transferbench compare results results-newer            exit code 1 where scores are told apart
  transferbench reproduce results/glyphs-digits/l2tl/seed0-0123456789
  transferbench status results=results
  transferbench bench on=slurm cluster=mycluster.yaml    queue the runs, and return
  transferbench watch results=results                    until all have ended
  transferbench retry --failed results=results
  transferbench logs l2tl/seed0 results=results
  transferbench bench target=aircraft source=imagenet data.root=/datasets drop_overlap=true
  transferbench data doctor ../my/images
  transferbench report results=results prints=true
  transferbench methods results=results                  and what a step costs, as measured in these records

names of overrides: target source methods method seed seeds results shots backbone pretrained
  checkpoint protocol (holdout|trainval) tune (off|paper_grid) bn (split|shared) on_nan (stop|skip) score
  preset device threads workers on (local|slurm) cluster data.root data.mirror drop_overlap recipe.<setting>
  source_recipe.<setting> method.<setting>
exit codes: 0 done, 1 some run failed or scores differ, 2 the request was wrong"""

METHODS = "the methods with paper and needs, and how long their steps took in the records of results=PATH"
DATA_EXAMPLES = """examples:
  transferbench data list
  transferbench data prepare aircraft                    fetch it, if need be, and decode it
  transferbench data doctor aircraft data.root=/datasets
  transferbench data doctor ../my/images ../photos       a target, and what its source has of the same images

images are looked for in TRANSFERBENCH_DATA (data.root) first; what is fetched goes to TRANSFERBENCH_CACHE"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    words[1:] = sorted(words[1:], key=lambda word: not word.startswith("-"))  # options may stand anywhere
    arguments = _parser().parse_args(words)
    try:
        return arguments.function(arguments)
    except InputError as error:
        return _say(str(error))
    except RunFailed as error:
        return _say(str(error), code=1)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        return _say(f"this command needs {error.name}: pip install 'transferbench[{EXTRAS[error.name]}]'")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already
        print("\nstopped; the same command goes on where this one ended", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in (*DISK, *FULL) and error.filename is None:
            raise
        return _say(_of_disk(error))


def _of_disk(error: OSError) -> str:
    """Say what the disk refused."""
    if error.errno in FULL:
        return f"{error.filename or 'disk'}: no space left; free some, or set results=PATH"
    if error.errno not in DISK:
        return f"{error.filename}: {error.strerror}"
    return (
        f"{error.filename or 'disk'}: cannot be read or written ({error.strerror}); once mended, the "
        "same command goes on, or choose another place with results=PATH"
    )


def _say(message: str, code: int = 2) -> int:
    """Print an error: one line; where it has more, the first stands for itself."""
    lines = [" ".join(printable(line).split()) for line in message.splitlines()]
    print("\n  ".join((f"transferbench: {lines[0]}", *lines[1:])), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="transferbench",
        description="Which transfer method should I use, what does it gain, and what does it cost?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, function, words in (
        ("bench", _bench, "compare methods on a target, over seeds; runs only what has no record"),
        ("run", _run, "one run of one method"),
        ("suite", _suite, "all runs of a table or figure of the paper, then the table or figure itself"),
        ("status", _status, "what is done, running, pending, failed or lost"),
        ("watch", _watch, "status, until nothing waits or runs"),
        ("retry", _retry, "give SLURM what failed or was lost once more, with the code as it is now"),
        ("cancel", _cancel, "take runs out of SLURM's queue: all, or those named"),
        ("logs", _logs, "the end of what a run's job wrote"),
        (
            "report",
            _report,
            "tables and one HTML page from the records; with prints=true figures as files too",
        ),
        ("reproduce", _reproduce, "one run again from its record: equal, or what differs and by how much"),
        ("recommend", _recommend, "which method for a target and a budget, by the evidence in the records"),
        ("compare", _compare, "what changed between two results folders, by paired statistics"),
        ("methods", _methods, METHODS),
    ):
        command = commands.add_parser(
            name,
            help=words,
            description=words,
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        first = {"suite": "[suite] ", "cancel": "[run] ", "logs": "run ", "reproduce": "run "}.get(name, "")
        command.add_argument("overrides", nargs="*", metavar=f"{first}name=value")
        command.set_defaults(function=function)
        if name in ("bench", "suite"):
            command.add_argument(
                "--dry-run", action="store_true", help="print the runs and what they may cost"
            )
        if name == "retry":
            for word in ("failed", "lost"):
                command.add_argument(f"--{word}", action="append_const", dest="words", const=word)
    data = commands.add_parser(
        "data",
        help="data sets: list them, fetch and prepare one, check one",
        description="what there is and whether it is here; fetch and decode; check sizes, images, overlap",
        epilog=DATA_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data.add_argument("action", choices=("list", "prepare", "doctor"))
    data.add_argument(
        "names", nargs="*", metavar="name", help="a known name, a folder or a tar; data.root=PATH"
    )
    data.set_defaults(function=_data)
    return parser


def _bench(arguments: argparse.Namespace) -> int:
    with importing():
        from .commands.bench import bench

    return bench(arguments.overrides, dry_run=arguments.dry_run)


def _run(arguments: argparse.Namespace) -> int:
    with importing():
        from .commands.bench import single

    return single(arguments.overrides)


def _suite(arguments: argparse.Namespace) -> int:
    with importing():
        from .commands.suite import print_suites, suite

    if not arguments.overrides:
        return print_suites()
    name, *overrides = arguments.overrides
    return suite(name, overrides, dry_run=arguments.dry_run)


def _status(arguments: argparse.Namespace) -> int:
    from .commands.status import status

    return status(_results_of(arguments.overrides))


def _watch(arguments: argparse.Namespace) -> int:
    from .commands.status import watch

    return watch(_results_of(arguments.overrides))


def _retry(arguments: argparse.Namespace) -> int:
    from .commands.slurm_jobs import retry

    return retry(_results_of(arguments.overrides), arguments.words or ("failed", "lost"))


def _cancel(arguments: argparse.Namespace) -> int:
    from .commands.slurm_jobs import cancel

    names = [word for word in arguments.overrides if "=" not in word]
    return cancel(_results_of([w for w in arguments.overrides if "=" in w]), names)


def _logs(arguments: argparse.Namespace) -> int:
    from .commands.slurm_jobs import logs

    names = [word for word in arguments.overrides if "=" not in word]
    if len(names) != 1:
        raise InputError("logs: of which run? give one name, as `transferbench logs l2tl/seed0`")
    return logs(_results_of([w for w in arguments.overrides if "=" in w]), names[0])


def _report(arguments: argparse.Namespace) -> int:
    from ..analysis.report import write_report

    given = _named(arguments.overrides, ("results", "prints"))
    results = Path(given.get("results", "results"))
    if given.get("prints", "false") not in ("true", "false"):
        raise InputError(f"prints={given['prints']}: expected true or false")
    page = write_report(results, results / "report", prints=given.get("prints") == "true")
    print(f"report: {page}")
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from .commands.reproduce import reproduce

    runs = [word for word in arguments.overrides if "=" not in word]
    if len(runs) != 1:
        raise InputError(
            f"reproduce: {len(runs)} runs; expected one folder, as results/glyphs-digits/l2tl/seed0-*"
        )
    given = dict(word.split("=", 1) for word in arguments.overrides if "=" in word)
    results = given.pop("results", None)
    return reproduce(Path(runs[0]), given, Path(results) if results else None)


def _recommend(arguments: argparse.Namespace) -> int:
    from ..analysis.recommend import recommend

    given = _named(arguments.overrides, ("results", "target", "seconds"))
    if "target" not in given:
        raise InputError("target: not given; as in `transferbench recommend target=digits seconds=60`")
    try:
        seconds = float(given["seconds"]) if "seconds" in given else None
    except ValueError:
        raise InputError(f"seconds={given['seconds']}: expected a number") from None
    print(recommend(Path(given.get("results", "results")), given["target"], seconds))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from ..analysis.compare import compare_results

    if len(arguments.overrides) != 2:
        raise InputError(f"compare: {len(arguments.overrides)} names; expected two results folders")
    compared = compare_results(*map(Path, arguments.overrides))
    print(compared.text)
    return 1 if compared.differs else 0


def _methods(arguments: argparse.Namespace) -> int:
    from ..analysis.records.load import load, load_any
    from ..analysis.tables.step_costs import step_costs
    from .commands.listing import print_methods

    results = _results_of(arguments.overrides)
    return print_methods(step_costs(load(results) if arguments.overrides else load_any(results)))


def _data(arguments: argparse.Namespace) -> int:
    from ..datasets.download import locate
    from .commands import doctor, listing

    given = [n for n in arguments.names if n.startswith(("data.root=", "data.mirror="))]
    names = [n for n in arguments.names if n not in given]
    locate.set_places(
        **{key.removeprefix("data."): value for key, _, value in (g.partition("=") for g in given)}
    )
    if arguments.action == "list":
        return listing.print_datasets()
    if not names:
        raise InputError(f"data {arguments.action}: which data set? give a name or a path")
    if arguments.action == "prepare":
        return listing.prepare(names)
    if len(names) > 2:
        raise InputError(
            f"data doctor: {len(names)} names; expected one data set, or a target and its source"
        )
    return doctor.doctor(*names)


def _results_of(overrides: Sequence[str]) -> Path:
    """Read `results=PATH`, the only override of commands that train nothing."""
    return Path(_named(overrides, ("results",)).get("results", "results"))


def _named(overrides: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Read name=value pairs of commands that train nothing. Raises: InputError for another name."""
    given = dict(o.partition("=")[::2] for o in overrides)
    for name, value in given.items():
        if name not in known or not value:
            wrong = f"{name}={value}" if value else name
            raise InputError(f"'{wrong}': expected {', '.join(EXAMPLE[k] for k in known)}")
    return given


if __name__ == "__main__":
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    sys.exit(main())
