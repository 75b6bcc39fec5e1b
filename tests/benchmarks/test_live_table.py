"""The display of runs: a table that stays in place in a terminal, plain lines elsewhere."""

import os
import re
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.launch.live_table import LiveTable, draw
from transferbench.benchmarks.launch.row_states import Row, State
from trees import TINY

CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")
BENCH = [
    "bench",
    "methods=scratch,ncm",
    *TINY,
    "source_recipe.seed=0",
    "backbone=tiny",
    "seeds=2",
    "workers=1",
]


class Screen:
    """What a terminal shows after some output: enough of one for a table that is redrawn in place."""

    def __init__(self):
        self.lines, self.row, self.column = [""], 0, 0

    def feed(self, text: str) -> list[str]:
        while text:
            if found := CONTROL.match(text):
                self.control(found[2], int(found[1] or 1) if found[1].isdigit() or not found[1] else 0)
                text = text[found.end() :]
                continue
            self.write(text[0])
            text = text[1:]
        return [line.rstrip() for line in self.lines]

    def control(self, letter: str, number: int) -> None:
        assert letter in "AKmhl", f"a control that this screen does not know: {letter}"
        if letter == "A":
            self.row = max(0, self.row - number)
        elif letter == "K":
            self.lines[self.row] = ""

    def write(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row += 1
            self.lines += [""] * (self.row == len(self.lines))
            self.column = 0
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def narrow(self, width: int) -> None:
        """Break the lines that are too long, as a terminal does that is made narrower."""
        pieces = [[line[i : i + width] for i in range(0, max(1, len(line)), width)] for line in self.lines]
        self.row = sum(map(len, pieces[: self.row + 1])) - 1
        self.lines = [piece for line in pieces for piece in line]


def a_row(label: str = "Fine-tuning", **given) -> Row:
    states = dict.fromkeys(range(5), State.waits)
    return Row(**{"label": label, "states": states, "trials": (0, 0), "mean": None, "now": "", **given})


ACTIVE = a_row(
    "L2TL",
    states={**dict.fromkeys(range(3), State.done), 3: State.runs, 4: State.failed},
    mean=94.26,
    trials=(9, 27),
    now="seed 3: first stage 120/300, 12 s left and 2 more",
)
OVER = a_row("From scratch", states=dict.fromkeys(range(5), State.done), mean=90.0)


def lines_of(rows, width: int, height: int = 30) -> list[str]:
    file = StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    console.print(draw("3 of 15 runs done", rows, width, height))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("num_seeds", [1, 5, 20, 70, 300])
def test_a_table_fits_into_its_terminal(width, num_seeds):
    states = dict.fromkeys(range(num_seeds), State.done)
    long = replace(
        ACTIVE, label="A method with a name that is much longer than those of others", states=states
    )
    lines = lines_of([ACTIVE, long, OVER], width)
    assert max(map(len, lines)) <= width
    assert sum("9/27  seed " in line for line in lines) == 2
    assert sum("94.3" in line for line in lines) == 2
    counted = sum(f"{num_seeds}/{num_seeds}" in line for line in lines)
    assert counted == (num_seeds >= width // 3)


def test_a_row_has_a_sign_for_each_seed():
    lines = lines_of([ACTIVE, OVER], 80)
    assert lines[0] == "3 of 15 runs done"
    assert lines[2].split()[:8] == ["L2TL", "●", "●", "●", "◐", "✗", "94.3", "9/27"]
    assert lines[3].split() == ["From", "scratch", *"●●●●●", "90.0"]


def test_a_low_terminal_shows_active_rows_first_and_counts_the_others():
    rows = [a_row("first"), *[replace(OVER, label=f"over {i}") for i in range(20)], ACTIVE, a_row("last")]
    lines = lines_of(rows, 80, height=8)
    assert len(lines) < 8
    shown = [line.split()[0] for line in lines[2:5]]
    assert shown == ["first", "L2TL", "last"]
    assert lines[5:] == ["20 more rows, 20 of them done", "● done  ◐ running  · waiting  ✗ failed"]


def live(width: int = 120) -> tuple[LiveTable, Console, StringIO]:
    file = StringIO()
    console = Console(file=file, width=width, height=30, force_terminal=True, color_system=None)
    return LiveTable(console), console, file


def test_a_table_is_redrawn_in_place_and_only_if_it_changed():
    table, console, file = live()
    table.start()
    table.update("1 of 2", [ACTIVE])
    before = file.tell()
    table.update("1 of 2", [ACTIVE])
    assert file.tell() == before
    console.print("a worker's message")
    table.update("2 of 2", [OVER, ACTIVE])
    table.stop()
    lines = Screen().feed(file.getvalue())
    assert lines[:2] == ["a worker's message", "2 of 2"]
    assert sum("L2TL" in line for line in lines) == 1
    assert lines[3].startswith("From scratch")


@pytest.mark.parametrize("widths", [(120, 40), (60, 200), (120, 33, 90)])
def test_a_table_survives_a_terminal_that_is_made_narrower_or_wider(widths):
    table, console, file = live(widths[0])
    screen = Screen()
    console.print("above")
    table.start()
    for number, width in enumerate(widths):
        console.size = (width, 30)
        screen.narrow(width)
        table.update(f"{number} of 15", [ACTIVE, OVER])
        lines = screen.feed(file.getvalue())
        file.seek(0)
        file.truncate()
        assert lines[:2] == ["above", f"{number} of 15"]
        assert sum(line.startswith("From scr") for line in lines) == 1
        assert sum("L2TL" in line for line in lines) == 1


def in_a_terminal(call: Callable[[], object], monkeypatch) -> str:
    """Call a function with a terminal of 80 columns as stdout; return what it wrote there."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    output = bytearray()

    def read() -> None:
        with suppress(OSError):  # Linux: the other side is closed
            while piece := os.read(master, 1 << 16):
                output.extend(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with os.fdopen(slave, "w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        call()
        monkeypatch.undo()
    reader.join()  # it ends with the other side
    os.close(master)
    return output.decode()


def test_a_bench_in_a_terminal_shows_one_table_whose_last_state_is_right(monkeypatch, results, forked):
    text = in_a_terminal(lambda: main([*BENCH, f"results={results}"]), monkeypatch)
    assert "\x1b[?25l" in text  # the cursor is hidden while the table lives
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "0 of " in text  # the table was there before the first run ended
    lines = Screen().feed(text)
    assert lines[0].startswith("2 methods, 2 seeds: glyphs → digits (10 classes, ")
    assert lines[1].startswith("page: ")
    first = next(i for i, line in enumerate(lines) if "runs to do, about" in line)
    assert first < 5  # the first three lines, some of which are broken
    titles = [line for line in lines if " runs done" in line]
    assert titles == ["5 of 5 runs done"]
    at = lines.index(titles[0])
    table = {line[:20].strip(): line[20:].split()[:2] for line in lines[at + 2 : at + 5]}
    assert table["Nearest class mean"] == table["From scratch"] == ["●", "●"]
    assert table["Source pre-training"][0] == "●"
    assert not any(line.startswith("[") for line in lines)
    assert lines.index(next(line for line in lines if line.startswith("Take "))) > at


def test_a_bench_in_a_pipe_prints_plain_lines(results, capsys, forked):
    assert main([*BENCH, f"results={results}"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith("2 methods, 2 seeds: ")
    assert lines[1].startswith(f"page: {results}")
    assert lines[2].startswith("5 runs to do, about ")
    numbered = [line for line in lines if re.match(r"\[\d/5\] ", line)]
    assert [line[:5] for line in numbered] == [f"[{i}/5]" for i in range(1, 6)]
    answer = next(i for i, line in enumerate(lines) if line.startswith("Take "))
    assert lines[answer + 1] == "Nothing is compared with fine-tuning: that takes runs of both."
