"""One table in four formats; no name breaks any of them."""

import re

import pandas as pd
import pytest
from paper_records import cell, read, write_plan, write_run
from transferbench.analysis.tables.formats import (
    latex_text,
    markdown_text,
    to_latex,
    to_markdown,
    write_numbers,
)
from transferbench.analysis.tables.paper_tables import to_text, write_section
from transferbench.analysis.tables.table import Cell, Table
from transferbench.analysis.views import suite_section

HOSTILE = [
    r"a_b & 50% of $x$ #1 {c} ~d ^e \f",
    "<script>alert(1)</script>",
    "<!-- no --> &lt; &#60;",
    "a | b || c",
    "*[link](http://x) `code` **bold** ~~gone~~",
    "[0] first",
    "* starred",
    "a -- b --- c",
    r"\\ \& \end{tabular} \input{/etc/passwd}",
    "line\nbreak\rand\ttab\0",
    "naïve café, “quoted” \"x\" 'y'",
    "",
]
FROM_LATEX = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", "{[}": "[", "{*}": "*", "-{}": "-",
    **{f"\\{sign}": sign for sign in "&%$#_{}"},
}  # fmt: skip


def printed_by_latex(source):
    """Return what LaTeX prints of a source made of the known commands; any other special sign is an error."""
    pattern = "|".join(re.escape(name) for name in sorted(FROM_LATEX, key=len, reverse=True))
    rest = re.sub(pattern, "", source)
    assert not re.search(r"[\\&%$#_{}~^<>|]", rest)
    assert "--" not in source
    return re.sub(pattern, lambda found: FROM_LATEX[found[0]], source)


def table_of(names):
    rows = [[Cell(name), Cell("−1.5", -1.5, ("d",))] for name in names]
    numbers = pd.DataFrame({"class": names, "weight": [-1.5] * len(names)})
    return Table("Title with 100 % & more_", ["class_<b>", "weight, %"], rows, numbers)


def seen(name):
    return "".join(sign if sign.isprintable() else " " for sign in name)


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_prints_the_name_itself(name):
    assert printed_by_latex(latex_text(name)) == seen(name)


def test_latex_is_a_booktabs_table():
    text = to_latex(table_of(["b", "[a]"]), "table 4/x")
    assert text == (
        r"""% \usepackage{booktabs}
\begin{table}
  \centering
  \caption{Title with 100 \% \& more\_}
  \label{tab:table-4-x}
  \begin{tabular}{lr}
    \toprule
    class\_\textless{}b\textgreater{} & weight, \% \\
    \midrule
    b & $-$1.5 \\
    {[}a] & $-$1.5 \\
    \bottomrule
  \end{tabular}
\end{table}
"""
    )


def test_every_row_of_latex_has_as_many_cells():
    lines = to_latex(table_of(HOSTILE), "x").splitlines()
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len(rows) == len(HOSTILE) + 1
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {1}


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_the_name_itself(name):
    text = markdown_text(name)
    assert re.sub(r"\\([\\`*_\[\]<>~$&])", r"\1", text) == seen(name)
    bare = re.sub(r"\\.", "", text)
    assert not re.search(r"[*`\[\]~$]|<[a-z/!]|&#?\w+;", bare)
    assert not re.search(r"(?<![^\W_])_|_(?![^\W_])", re.sub(r"\\.", ".", text))


def test_a_name_with_an_underscore_inside_is_not_escaped_in_markdown():
    assert markdown_text("L2TL (num_actions=2), _private_") == r"L2TL (num_actions=2), \_private\_"


def test_every_row_of_markdown_has_as_many_cells():
    lines = to_markdown(table_of(HOSTILE)).splitlines()
    assert len(lines) == len(HOSTILE) + 2
    bars = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}
    assert bars == {3}


def test_csv_and_parquet_hold_the_names_as_they_are(tmp_path):
    table = table_of(HOSTILE[:-1])
    write_numbers(table, tmp_path / "x.y")
    for frame in (pd.read_csv(tmp_path / "x.y.csv"), pd.read_parquet(tmp_path / "x.y.parquet")):
        assert frame["class"].tolist() == HOSTILE[:-1]
        assert frame["weight"].tolist() == [-1.5] * (len(HOSTILE) - 1)


def test_hostile_names_pass_through_a_whole_section(results, tmp_path):
    weights = {name: 1 - i / 20 for i, name in enumerate(HOSTILE[:-1])}
    runs = [write_run(results, "L2TL", seed, class_weights=weights) for seed in (0, 1)]
    evil = "x`y`` | <b>"
    cells = [
        cell("L2TL", "birds", [*runs, {"record": "none"}], command=evil),
        cell("<i>", "|", [], reason="<u>"),
    ]
    write_plan(results, "mine", "", "<script>_&", "classes", cells, notes=["<note> & _"], command="a`b")
    suite = read(results)["mine"]
    section = suite_section(suite)
    assert section.tables[0].rows[1][2].text == "<script>alert(1)</script>"
    text = to_text(section)
    spans = re.sub(r"(`+) .*? \1", "", text)  # in a span of code nothing is read as HTML
    assert not re.search(r"(?<!\\)<[a-z]", spans)
    assert f"``` {evil} ```" in text
    write_section(suite_section(suite), tmp_path)
    assert (tmp_path / "mine.tex").read_text().count(r"\begin{tabular}") == 2
