"""Use transferbench from Python: `bench`, `load` and `load_model`, as `transferbench.bench` and so on.

The command line calls the same functions. What reads records needs no torch.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from . import InputError, RunFailed

if TYPE_CHECKING:
    import pandas as pd

    from .analysis.figures.drawing import Drawing
    from .analysis.records.comparison import Comparison
    from .benchmarks.model.load import Model

Value = str | int | float | bool | None | Path | Sequence[str | int | float]


def bench(
    target: str | Path | None = None,
    methods: str | Sequence[str] | None = None,
    *,
    source: str | Path | None = None,
    seeds: int | None = None,
    results: str | Path = "results",
    settings: Mapping[str, Value] | None = None,
    quiet: bool = False,
    **more: Value,
) -> "Results":
    """Compare methods on a target: do the runs without a record, and write the report.

    Args:
        target: a known name, a folder or a tar; default: the embedded digits.
        methods: methods or rows to compare; default: the rows of `transferbench bench`.
        source: source data set, or "none"; default: the usual source of the target.
        seeds: number of seeds.
        results: folder of the records.
        settings: settings with a dot in their name, as `{"recipe.steps": 100}`.
        quiet: print no progress.
        **more: settings without a dot, as `shots=10`.

    Returns:
        The results folder, with this comparison chosen.

    Raises:
        InputError: the request is invalid; no run was started.
        RunFailed: a run failed; the others are done, and `load` reads them.
    """
    from rich.console import Console

    from .benchmarks.commands.bench import after_runs, before_runs
    from .benchmarks.launch.start import run_missing
    from .benchmarks.model.keep import keep_models
    from .home import provide_home

    if methods is not None and not methods:
        raise InputError(f"methods={methods!r}: names no method; expected names, or None for all rows")
    named = {"target": target, "methods": methods, "source": source, "seeds": seeds}
    given = {name: value for name, value in named.items() if value is not None}
    overrides = _overrides({**given, "results": results, **more, **(settings or {})})
    if "slurm" in (more.get("on"), (settings or {}).get("on")):
        raise InputError("on=slurm: jobs are for `transferbench bench on=slurm`; expected on=local")
    provide_home()
    console = Console(
        highlight=False, soft_wrap=True, quiet=quiet, force_jupyter=False, force_terminal=False
    )  # plain lines, in a notebook too
    planned = before_runs(overrides, console)
    assert planned.estimate is not None  # none for SLURM only
    failed = run_missing(planned.configs, planned.results, console, planned.estimate)
    after_runs(planned)
    keep_models(planned.configs, planned.results, console)
    if failed:
        reasons = "; ".join(f"{digest}: {reason}" for digest, reason in failed.items())
        raise RunFailed(f"{len(failed)} of {len(planned.configs)} runs failed: {reasons}")
    return Results(planned.results, planned.configs[0].comparison_id)


def load(results: str | Path = "results") -> "Results":
    """Return the results of finished runs.

    Raises:
        InputError: the folder holds no run.
    """
    loaded = Results(results)
    loaded.records  # noqa: B018  (reads them)
    return loaded


def load_model(run: "Results | str | Path" = "best", results: str | Path = "results") -> "Model":
    """Return a kept model, whose `predict` takes images.

    Args:
        run: the folder of a run, as in `Results.records`; `Results`, for its recommended model; or best.
        results: the results folder, for best.

    Raises:
        InputError: there is no model, or several are the best of something.
    """
    from .benchmarks.model.best import folder_of
    from .benchmarks.model.load import load_model
    from .user_text import user_path

    if isinstance(run, Results):
        return load_model(run._recommended())
    return load_model(folder_of(user_path(str(run)), Path(user_path(str(results)))))


class Results:
    """A results folder, and one comparison in it: runs in which only the method and the seed differ.

    Attributes:
        path: the folder.
        comparison_id: the comparison of `bench`, or the only one; None if there are several.
    """

    def __init__(self, path: str | Path, comparison_id: str | None = None) -> None:
        from .user_text import user_path

        self.path = Path(user_path(str(path)))
        self._comparison_id = comparison_id

    @cached_property
    def _comparisons(self) -> "list[Comparison]":
        from .analysis.records.comparison import comparisons
        from .analysis.records.load import load_records

        records = load_records(self.path)
        return comparisons(records.runs, records.skipped)

    @property
    def comparison_id(self) -> str | None:
        """The comparison of `bench`, or the only one; None if there are several."""
        known = {item.comparison_id for item in self._comparisons}
        return self._comparison_id or (known.pop() if len(known) == 1 else None)

    @cached_property
    def records(self) -> "pd.DataFrame":
        """One row per finished run, of all comparisons; docs/reference/python.md describes the columns."""
        from .analysis.records.load import runs_frame

        runs = [run for item in self._comparisons for run in item.runs]
        frame = runs_frame(runs)
        return frame.assign(folder=[str(run.path.parent) for run in runs])

    @property
    def pair(self) -> Path:
        """The folder of this comparison's source and target; its `best.json` names the recommended run."""
        return self._chosen().runs[0].path.parents[2]

    def table(self, comparison_id: str | None = None, *, numbers: bool = False) -> "pd.DataFrame":
        """Return a comparison, one row per method, the best first.

        Args:
            comparison_id: of `records`; default: that of this object.
            numbers: numbers in full precision, as the report writes them, and not the text of the terminal.

        Raises:
            InputError: no such comparison, or several and none named.
        """
        import pandas as pd

        from .analysis.tables.comparison_table import comparison_table, method_table

        chosen = self._chosen(comparison_id)
        frame = comparison_table(chosen)
        if numbers:
            return frame
        table = method_table(chosen, frame)
        return pd.DataFrame([[cell.text for cell in row] for row in table.rows], columns=list(table.columns))

    def recommend(self, target: str | Path | None = None, seconds: float | None = None) -> str:
        """Return which method to take, with the evidence for it.

        Args:
            target: of the folder, as `transferbench recommend` takes it; default: this object's comparison.
            seconds: longest training of a run.

        Raises:
            InputError: several comparisons, and no target named.
        """
        from .analysis.recommend import recommend, recommend_within
        from .benchmarks.config.labeled_images import labeled_images

        if target is None:
            return recommend_within(self._chosen(), seconds)
        return recommend(self.path, str(target), seconds, labeled_images)

    def figure(self, name: str = "accuracy", comparison_id: str | None = None) -> "Drawing":
        """Return a figure of a comparison, which a notebook shows.

        Its `figure` is a matplotlib Figure, `data` a DataFrame of what is drawn; `save(stem)` writes files.

        Args:
            name: accuracy, cost or curves.
            comparison_id: of `records`; default: that of this object.

        Raises:
            InputError: no such figure, or its runs lack the data.
        """
        from .analysis.figures.style import styles
        from .analysis.views import comparison_drawings

        look = styles(run.label for item in self._comparisons for run in item.runs)
        drawn = dict(comparison_drawings(self._chosen(comparison_id), look))
        if name not in drawn:
            raise InputError(f"figure {name!r}: not there; expected one of {', '.join(drawn)}")
        return drawn[name]

    def report(self) -> Path:
        """Write the tables and the page of the whole folder; return the path of the page."""
        from .analysis.report import write_report

        return write_report(self.path, self.path / "report")

    def _recommended(self) -> Path:
        """Return the folder of the model of the row that is recommended.

        Raises:
            InputError: no row is, or none of its models is kept.
        """
        from .analysis.choice import choose
        from .benchmarks.model.files import again
        from .benchmarks.model.keep import chosen, ordered

        comparison = self._chosen()
        if (taken := choose(comparison).taken) is None:
            raise InputError(
                f"comparison {comparison.comparison_id}: no row is recommended, so none has the model"
            )
        if run := chosen(taken.runs):
            return run.path.parent
        raise InputError(f"no model of {taken.label} is here: {again(ordered(taken.runs)[0].path.parent)}")

    def _chosen(self, comparison_id: str | None = None) -> "Comparison":
        """Return a comparison, the one of this object by default."""
        wanted = comparison_id or self.comparison_id
        for item in self._comparisons:
            if item.comparison_id == wanted:
                return item
        known = ", ".join(f"{item.comparison_id} ({item.target})" for item in self._comparisons)
        raise InputError(f"comparison_id={wanted}: expected one of {known}")

    def __repr__(self) -> str:
        from .analysis.wording import counted

        runs, known = counted(len(self.records), "run"), counted(len(self._comparisons), "comparison")
        return f"Results({str(self.path)!r}): {runs}, {known}"

    def _repr_html_(self) -> str:
        """Return the tables of this object's comparison, or of all, for a notebook."""
        from html import escape

        from .analysis.tables.comparison_table import title

        known = [item for item in self._comparisons if self.comparison_id in (None, item.comparison_id)]
        parts = [
            f"<h4>{escape(title(item))}</h4>{self.table(item.comparison_id).to_html(index=False)}"
            for item in known
        ]
        return "".join(parts)


def _overrides(given: Mapping[str, Value]) -> list[str]:
    """Return settings as the command line has them, `name=value`."""
    return [f"{name}={_written(name, value)}" for name, value in given.items()]


def _written(name: str, value: Value) -> str:
    """Return a value as the command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        words = ",".join(map(str, value))
        return words if name in ("methods", "draw") else f"[{words}]"
    return str(value)
