"""Draw the rows of a running comparison as one table that stays in place on a terminal."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from ...analysis.wording import counted
from .row_states import Row, State

# one sign per seed, in colors that a light and a dark background show
SIGNS = {
    State.waits: ("·", "dim"),
    State.runs: ("◐", "bold"),
    State.done: ("●", "green"),
    State.failed: ("✗", "bold red"),
}
LEGEND = {State.done: "done", State.runs: "running", State.waits: "waiting", State.failed: "failed"}
SHARE = 3  # the seeds have at most this part of the width, and so have the names
PADDING = 2  # spaces between two columns
AROUND = 5  # lines that are not rows: the title, the headings, the rest, the legend, and the cursor's


class LiveTable:
    """A table that is redrawn in place if it has changed; lines that are printed meanwhile go above it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown: object = None
        self._width = console.width
        self._widths: list[int] = []  # of the lines on the screen

    def start(self) -> None:
        """Take the lines below the cursor."""
        self._live.start()

    def update(self, title: str, rows: Sequence[Row]) -> None:
        """Draw the table, if it or the size of the terminal has changed."""
        shown = (title, rows, self.console.size)
        if shown == self._shown:
            return
        self._shown = shown
        if (width := self.console.width) < self._width:
            self.console.control(_up(sum((before - 1) // width for before in self._widths if before)))
        self._width = self.console.width
        lines = self._lines(draw(title, rows, *self.console.size))
        self._widths = [line.cell_len for line in lines]
        self._live.update(Text("\n").join(lines), refresh=True)

    def stop(self) -> None:
        """Leave the last state of the table on the screen."""
        self._live.stop()
        self.console.print(self._live.renderable)

    def _lines(self, table: Table) -> list[Text]:
        """Return the lines of a table without spaces at their ends, which a narrower terminal would break."""
        lines = []
        for segments in self.console.render_lines(table, pad=False):
            line = Text.assemble(*((segment.text, segment.style or "") for segment in segments))
            line.rstrip()
            lines.append(line)
        return lines


def draw(title: str, rows: Sequence[Row], width: int, height: int) -> Table:
    """Return the table of some rows, which fits into a terminal.

    Args:
        title: the line above it.
        rows: all rows; if there are too many lines, active ones are shown first, then unfinished ones.
        width: characters of a line.
        height: lines.
    """
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, PADDING, 0, 0),
    )
    seeds = sorted({seed for row in rows for seed in row.states})
    space = " " * (2 * len(seeds) < width // SHARE)
    signs = len(seeds) < width // SHARE
    shown = _most_wanted(rows, max(1, height - AROUND))
    present = {state for row in rows for state in row.states.values()}
    shown_states = [state for state in LEGEND if state is not State.failed or state in present]
    named = [f"{SIGNS[state][0]} {LEGEND[state]}" for state in shown_states]
    below = ["  ".join(named)] if signs else []
    if len(shown) < len(rows):
        over = sum(row.is_over for row in rows) - sum(row.is_over for row in shown)
        below.insert(0, f"{counted(len(rows) - len(shown), 'more row')}, {over} of them done")
    table.caption, table.caption_justify, table.caption_style = "\n".join(below) or None, "left", "dim"
    states = [_signs(row, seeds, space) if signs else _numbers(row) for row in shown]
    names = [Text(row.label, style="bold" if row.runs else "") for row in shown]
    means = [Text("" if row.mean is None else f"{row.mean:.1f}") for row in shown]
    tried = [Text("/".join(map(str, row.trials)) if row.trials[1] else "") for row in shown]
    columns = [("method", names), ("seeds", states), ("mean, %", means)]
    columns += [("trials", tried)] if any(row.trials[1] for row in rows) else []
    columns.append(("now", [Text(row.now) for row in shown]))
    left, cells_of = width, list[list[Text]]()
    for name, cells in columns:
        longest = max(map(cell_len, [name, *(cell.plain for cell in cells)]))
        wanted = min(longest, left if name == "now" else width // SHARE)
        if wanted > left or wanted < len(name):
            break
        table.add_column(name, no_wrap=True, overflow="ellipsis", width=wanted)
        table.columns[-1].justify = "right" if name in ("mean, %", "trials") else "left"
        left -= wanted + PADDING
        cells_of.append(cells)
    for row_cells in zip(*cells_of, strict=True):
        table.add_row(*row_cells)
    return table


def _most_wanted(rows: Sequence[Row], number: int) -> list[Row]:
    """Return at most a number of rows in their order: active ones, then unfinished ones, then others."""
    ranked = sorted(range(len(rows)), key=lambda i: (not rows[i].runs, rows[i].is_over, i))
    return [rows[i] for i in sorted(ranked[:number])]


def _signs(row: Row, seeds: Sequence[int], space: str) -> Text:
    """Return a sign for each seed, with a space between them; none for a seed that the row has not."""
    signs = [SIGNS[row.states[seed]] if seed in row.states else (" ", "") for seed in seeds]
    return Text(space).join(Text(*sign) for sign in signs)


def _numbers(row: Row) -> Text:
    """Return how many seeds are done, for more seeds than a line takes."""
    states = list(row.states.values())
    failed = states.count(State.failed)
    text = Text(f"{states.count(State.done)}/{len(states)}")
    return text.append(f", {failed} failed", "bold red") if failed else text


def _up(lines: int) -> Control:
    """Return the way up over some lines, which are erased: a narrower terminal has broken others."""
    erase = (ControlType.ERASE_IN_LINE, 2)
    return Control(ControlType.CARRIAGE_RETURN, erase, *((ControlType.CURSOR_UP, 1), erase) * lines)
