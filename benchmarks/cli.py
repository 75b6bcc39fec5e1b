"""The command line: what was asked for, in one line each; all the work is elsewhere."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import InputError, __version__

TRAIN = ("torch", "torchvision", "timm", "sklearn")  # of the extra `train`
EXAMPLES = """examples:
  transferbench bench                                    the embedded pair: all methods, five seeds
  transferbench bench target=../my/images source=../photos seeds=3 shots=10
  transferbench bench target=../my/images source=none pretrained=true backbone=resnet18
  transferbench bench methods=finetune,l2tl method.num_actions=21 --dry-run
  transferbench run target=digits method=l2tl seed=0 recipe.steps=500
  transferbench status results=results
  transferbench bench target=aircraft source=imagenet data.root=/datasets drop_overlap=true
  transferbench data doctor ../my/images
  transferbench report results=results
  transferbench methods results=results                  and what a step costs, as measured in these records

names of overrides: target source methods method seed seeds results shots backbone pretrained
  checkpoint protocol (holdout|trainval) tune (off|paper_grid) bn (split|shared) score preset device
  threads workers on data.root data.mirror drop_overlap recipe.<setting> source_recipe.<setting>
  method.<setting>
exit codes: 0 done, 1 some run failed, 2 the request was wrong"""

METHODS = "the methods with paper and needs, and how long their steps took in the records of results=PATH"
DATA_EXAMPLES = """examples:
  transferbench data list
  transferbench data prepare aircraft                    fetch it, if need be, and decode it
  transferbench data doctor aircraft data.root=/datasets
  transferbench data doctor ../my/images ../photos       a target, and what its source has of the same images

images are looked for in TRANSFERBENCH_DATA (data.root) first; what is fetched goes to TRANSFERBENCH_CACHE"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.function(arguments)
    except InputError as error:
        return _say(str(error))
    except ModuleNotFoundError as error:
        if error.name not in TRAIN:
            raise
        return _say(f"this command needs {error.name}: pip install 'transferbench[train]'")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where this one ended", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _say(f"{error.filename or 'disk'}: no space left; free some, or set results=PATH")
        if error.errno in (errno.EACCES, errno.EROFS):
            return _say(f"{error.filename}: cannot be written; choose another place with results=PATH")
        raise


def _say(message: str) -> int:
    """Print an error: one line; where it has more, the first stands for itself."""
    lines = [" ".join(line.split()) for line in message.splitlines()]
    print("\n  ".join((f"transferbench: {lines[0]}", *lines[1:])), file=sys.stderr)
    return 2


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
        ("status", _status, "what is done, running, failed or lost"),
        ("report", _report, "tables, figures and one HTML page from the records; needs no torch"),
        ("methods", _methods, METHODS),
    ):
        command = commands.add_parser(
            name,
            help=words,
            description=words,
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("overrides", nargs="*", metavar="name=value")
        command.set_defaults(function=function)
        if name == "bench":
            command.add_argument(
                "--dry-run", action="store_true", help="print the runs and what they may cost"
            )
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
    from .bench import bench

    return bench(arguments.overrides, dry_run=arguments.dry_run)


def _run(arguments: argparse.Namespace) -> int:
    from .bench import single

    return single(arguments.overrides)


def _status(arguments: argparse.Namespace) -> int:
    from .status import status

    return status(_results_of(arguments.overrides))


def _report(arguments: argparse.Namespace) -> int:
    from ..analysis.report import write_report

    results = _results_of(arguments.overrides)
    page = write_report(results, results / "report")
    print(f"report: {page}")
    return 0


def _methods(arguments: argparse.Namespace) -> int:
    from ..analysis.costs import step_costs
    from ..analysis.load import load, load_any
    from .listing import print_methods

    results = _results_of(arguments.overrides)
    return print_methods(step_costs(load(results) if arguments.overrides else load_any(results)))


def _data(arguments: argparse.Namespace) -> int:
    from ..datasets.obtain import places
    from . import doctor, listing

    given = [n for n in arguments.names if n.startswith(("data.root=", "data.mirror="))]
    names = [n for n in arguments.names if n not in given]
    places.use(**{key.removeprefix("data."): value for key, _, value in (g.partition("=") for g in given)})
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
    results = Path("results")
    for override in overrides:
        key, _, value = override.partition("=")
        if key != "results" or not value:
            raise InputError(f"'{override}': expected results=PATH")
        results = Path(value)
    return results


if __name__ == "__main__":
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    sys.exit(main())
