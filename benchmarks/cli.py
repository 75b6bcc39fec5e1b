"""The command line: parse the arguments, call the command, turn errors into exit codes."""

import argparse
import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import InputError, RunFailed, install_command, printable
from ..home import provide_home
from ..terminal import configure_output, output_error, use_utf8
from ..user_text import user_path
from .parser import build_parser

EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "safetensors", "sklearn"), "train"),
    "submitit": "slurm",
    "yaml": "slurm",
    **dict.fromkeys(("onnx", "onnxscript"), "onnx"),
}
FULL = (errno.ENOSPC, errno.EDQUOT)
LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)  # possible with any file
RESUMING = ("bench", "run", "suite", "screen", "reproduce", "data")  # keep what they have done
EXAMPLE = {
    "results": "results=PATH",
    "target": "target=NAME",
    "seconds": "seconds=60",
    "prints": "prints=true",
    "out": "out=PATH",
    "top": "top=5",
    "device": "device=cpu",
    "to": "to=FORMAT",
    "uri": "uri=PLACE",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    if argv is None:
        use_utf8()
    configure_output()
    os.environ["PYTHONSAFEPATH"] = "1"  # no further process imports a select.py of the working folder
    try:
        code = _answer(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:  # from argparse: help, or a wrong option; from rich: the pipe's reader is gone
        is_closed = isinstance(end.__context__, BrokenPipeError)
        sys.exit(_end_output(0 if is_closed else int(end.code or 0)))
    return _end_output(code)


def _answer(words: list[str]) -> int:
    """Run a command; return its exit code, also for errors that need one line and no traceback."""
    words[1:] = sorted(words[1:], key=lambda word: not word.startswith("-"))  # options may be anywhere
    arguments = build_parser().parse_args(words)
    try:
        Path.cwd()  # fails without a working folder: libraries would end the process
        provide_home()
        return COMMANDS[arguments.command](arguments)
    except InputError as error:
        return _print_error(str(error))
    except RunFailed as error:
        return _print_error(str(error), code=1)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        return _print_error(f"this command needs {error.name}: {install_command(EXTRAS[error.name])}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the exit short
        goes_on = arguments.command in RESUMING and not getattr(arguments, "dry_run", False)
        print("\nstopped; the same command resumes" if goes_on else "\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        return 0
    except OSError as error:
        if error.errno not in (*DISK, *FULL, *LIMITS, errno.ENOENT) and error.filename is None:
            raise
        return _print_error(_disk_message(error))


def _end_output(code: int) -> int:
    """Write what is left of the output; return the exit code, which is 1 instead of 0 if some is lost."""
    try:
        failed = output_error()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    if failed is None:
        return code
    return _print_error(f"standard output: cannot be written ({failed.strerror})", code or 1)


def _disk_message(error: OSError) -> str:
    """Return one line for an error of the disk: the file, the cause, and what to do."""
    if error.errno in FULL:
        return f"{error.filename or 'disk'}: no space left; free some, or set results=PATH"
    if error.errno in LIMITS:
        what = f"{error.filename}: " if error.filename else ""
        return f"{what}a limit of this machine is reached ({error.strerror}); see `ulimit -a`"
    if error.errno == errno.ENOENT and error.filename is None:
        return "the working folder no longer exists; change to another folder and repeat the command"
    if error.errno not in DISK:
        return f"{error.filename}: {error.strerror}"
    return (
        f"{error.filename or 'disk'}: cannot be read or written ({error.strerror}); fix that and repeat "
        "the command, or choose another place with results=PATH"
    )


def _print_error(message: str, code: int = 2) -> int:
    """Print an error to stderr and return the exit code; the first line is complete by itself."""
    lines = [" ".join(printable(line).split()) for line in message.splitlines()]
    print("\n  ".join((f"transferbench: {lines[0]}", *lines[1:])), file=sys.stderr)
    return code


@contextmanager
def _fast_imports() -> Iterator[None]:
    """Disable garbage collection during imports, then freeze: modules stay until the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _bench(arguments: argparse.Namespace) -> int:
    with _fast_imports():
        from .commands.bench import bench

    return bench(arguments.overrides, dry_run=arguments.dry_run)


def _run(arguments: argparse.Namespace) -> int:
    with _fast_imports():
        from .commands.run import run_single

    return run_single(arguments.overrides, dry_run=arguments.dry_run)


def _suite(arguments: argparse.Namespace) -> int:
    with _fast_imports():
        from .commands.suite import print_suites, suite

    if not arguments.overrides:
        return print_suites()
    name, *overrides = arguments.overrides
    return suite(name, overrides, dry_run=arguments.dry_run)


def _screen(arguments: argparse.Namespace) -> int:
    with _fast_imports():
        from .commands.screen import screen

    return screen(arguments.overrides)


def _status(arguments: argparse.Namespace) -> int:
    from .commands.status import status

    return status(_results_of(arguments.overrides))


def _watch(arguments: argparse.Namespace) -> int:
    from .commands.status import watch

    return watch(_results_of(arguments.overrides))


def _retry(arguments: argparse.Namespace) -> int:
    from .commands.slurm_jobs import retry

    words = [word for word in ("failed", "lost") if getattr(arguments, word)]
    return retry(_results_of(arguments.overrides), words or ("failed", "lost"))


def _cancel(arguments: argparse.Namespace) -> int:
    from .commands.slurm_jobs import cancel

    names, overrides = _names_and_overrides(arguments.overrides)
    return cancel(_results_of(overrides), names)


def _logs(arguments: argparse.Namespace) -> int:
    from .commands.slurm_jobs import logs

    names, overrides = _names_and_overrides(arguments.overrides)
    if len(names) != 1:
        raise InputError(f"logs: {len(names)} runs; expected one, as `transferbench logs l2tl/seed0`")
    return logs(_results_of(overrides), names[0])


def _report(arguments: argparse.Namespace) -> int:
    from ..analysis.report import write_report

    given = _named(arguments.overrides, ("results", "prints"))
    results = Path(given.get("results", "results"))
    if given.get("prints", "false") not in ("true", "false"):
        raise InputError(f"prints={given['prints']}: expected true or false")
    page = write_report(results, results / "report", prints=given.get("prints") == "true")
    print(f"report: {page}")
    return 0


def _open(arguments: argparse.Namespace) -> int:
    from .commands.open import open_report

    return open_report(_results_of(arguments.overrides))


def _log(arguments: argparse.Namespace) -> int:
    from .commands.log import log

    runs, overrides = _names_and_overrides(arguments.overrides)
    given = _named(overrides, ("to", "uri"))
    if len(runs) != 1 or "to" not in given:
        raise InputError("log: expected one run's folder, and to=tensorboard, to=mlflow or to=wandb")
    return log(Path(user_path(runs[0])), given["to"], given.get("uri"))


def _completion(arguments: argparse.Namespace) -> int:
    from .commands.completion import completion

    if len(arguments.overrides) != 1:
        raise InputError("completion: expected one shell: bash, zsh or fish")
    return completion(arguments.overrides[0])


def _reproduce(arguments: argparse.Namespace) -> int:
    from .commands.reproduce import reproduce

    runs, overrides = _names_and_overrides(arguments.overrides)
    if len(runs) != 1:
        raise InputError(
            f"reproduce: {len(runs)} runs; expected one folder, as results/glyphs-digits/l2tl/seed0-*"
        )
    given = dict(word.split("=", 1) for word in overrides)
    results = given.pop("results", None)
    given |= {name: user_path(given[name]) for name in ("target", "source", "checkpoint") if name in given}
    return reproduce(Path(user_path(runs[0])), given, Path(user_path(results)) if results else None)


def _recommend(arguments: argparse.Namespace) -> int:
    from ..analysis.recommend import recommend
    from .config.labeled_images import labeled_images

    given = _named(arguments.overrides, ("results", "target", "seconds"))
    if "target" not in given:
        raise InputError(
            "target: not given; expected target=NAME, as `transferbench recommend target=digits`"
        )
    try:
        seconds = float(given["seconds"]) if "seconds" in given else None
    except ValueError:
        raise InputError(f"seconds={given['seconds']}: expected a number") from None
    results = Path(given.get("results", "results"))
    is_first = "results" not in given and not results.exists()
    print(recommend(None if is_first else results, given["target"], seconds, labeled_images))
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from .commands.predict import predict

    names, overrides = _names_and_overrides(arguments.overrides)
    if not names:
        raise InputError(
            "predict: no model; expected `best` or a run's folder, as `transferbench predict best photos/`"
        )
    run, *paths = map(user_path, names)
    return predict(run, list(map(Path, paths)), _named(overrides, ("out", "top", "results", "device")))


def _export(arguments: argparse.Namespace) -> int:
    from .commands.export import export

    names, overrides = _names_and_overrides(arguments.overrides)
    if len(names) != 1:
        raise InputError(
            f"export: {len(names)} models; expected `best` or a run's folder, as "
            "`transferbench export best to=onnx`"
        )
    return export(user_path(names[0]), _named(overrides, ("to", "out", "results")))


def _compare(arguments: argparse.Namespace) -> int:
    from ..analysis.compare import compare_results

    if len(arguments.overrides) != 2:
        raise InputError(f"compare: {len(arguments.overrides)} names; expected two results folders")
    compared = compare_results(*map(Path, map(user_path, arguments.overrides)))
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
    known = ("draw", "groups")
    drawn = dict(n.split("=", 1) for n in arguments.names if n.startswith(tuple(f"{k}=" for k in known)))
    names = [user_path(n) for n in arguments.names if n not in given and n.partition("=")[0] not in known]
    locate.set_places(
        **{key.removeprefix("data."): value for key, _, value in (g.partition("=") for g in given)}
    )
    if arguments.action == "list":
        return listing.print_datasets()
    if not names:
        raise InputError(f"data {arguments.action}: no data set; expected a name or a path")
    if arguments.action == "prepare":
        return listing.prepare(names, **drawn)
    if len(names) > 2:
        raise InputError(
            f"data doctor: {len(names)} names; expected one data set, or a target and its source"
        )
    return doctor.doctor(*names, **drawn)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "bench": _bench,
    "run": _run,
    "suite": _suite,
    "screen": _screen,
    "status": _status,
    "watch": _watch,
    "retry": _retry,
    "cancel": _cancel,
    "logs": _logs,
    "report": _report,
    "open": _open,
    "log": _log,
    "completion": _completion,
    "reproduce": _reproduce,
    "recommend": _recommend,
    "compare": _compare,
    "predict": _predict,
    "export": _export,
    "methods": _methods,
    "data": _data,
}


def _names_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into names and `name=value` pairs; a path that exists is a name."""
    pairs = [w for w in words if re.match(r"\w+(\.\w+)*=", w) and not os.path.lexists(w)]
    return [w for w in words if w not in pairs], pairs


def _results_of(overrides: Sequence[str]) -> Path:
    """Return the folder of `results=PATH`, the only override that is allowed here."""
    return Path(_named(overrides, ("results",)).get("results", "results"))


def _named(overrides: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Parse `name=value` pairs of commands that train nothing. Raises InputError for an unknown name."""
    given = dict(o.partition("=")[::2] for o in overrides)
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{name}={value}: not known; expected {', '.join(EXAMPLE[k] for k in known)}")
        if not value:
            raise InputError(f"{name}=: no value; expected one, as {EXAMPLE[name]}")
    return {name: user_path(value) for name, value in given.items()}


if __name__ == "__main__":
    sys.exit(main())
