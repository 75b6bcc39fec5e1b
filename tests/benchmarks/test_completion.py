"""Completion in bash, zsh and fish: commands, settings, and the names of methods and data sets."""

import shutil
import subprocess

import pytest
from transferbench import InputError
from transferbench.benchmarks.commands.completion import completion

TYPED = {
    "be": ["bench"],
    "bench recipe.ste": ["recipe.steps="],
    "bench target=dig": ["target=digits"],
    "bench tune=of": ["tune=off"],
    "bench tune=": ["tune=off", "tune=paper_grid", "tune=auto"],
    "bench methods=l2s": ["methods=l2sp"],
    "bench --d": ["--dry-run"],
    "data doc": ["doctor"],
    "log to=ml": ["to=mlflow"],
    "status results": ["results="],
    "status recipe": [],
}
SEVERAL = {"bench methods=finetune,l2s": ["methods=finetune,l2sp"]}
TRY = 'try() { COMP_LINE=$1 COMP_POINT=${#1}; _transferbench; echo "${COMPREPLY[*]}"; }'


def said(shell: str, lines: list[str], capsys) -> list[str]:
    """Source the script in a shell, and return what the lines print."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    assert completion(shell) == 0
    begin = "autoload -Uz compinit && compinit -u -D" if shell == "zsh" else ""
    script = "\n".join((begin, capsys.readouterr().out, *lines))
    done = subprocess.run([shell], input=script, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("shell", "before"),
    [("bash", ["COMP_WORDBREAKS=' '"]), ("zsh", ["emulate sh"])],
)
def test_what_is_typed_is_completed(shell, before, capsys):
    typed = TYPED | SEVERAL
    lines = [*before, TRY, *(f"try 'transferbench {text}'" for text in typed)]
    assert said(shell, lines, capsys) == [" ".join(words) for words in typed.values()]


def test_bash_splits_words_at_the_sign(capsys):
    assert said("bash", [TRY, "try 'transferbench bench methods=l2s'"], capsys) == ["l2sp"]


def test_fish_completes_the_same(capsys):
    lines = [f"complete -C 'transferbench {text}'; echo ." for text in TYPED]
    parts = "\n".join(said("fish", lines, capsys)).split("\n.")
    shown = [{line.partition("\t")[0] for line in part.splitlines()} for part in parts]
    lacking = {
        text: words
        for (text, words), found in zip(TYPED.items(), shown[:-1], strict=True)
        if not found >= set(words)
    }
    assert not lacking


def test_another_shell_is_refused():
    with pytest.raises(InputError, match="'tcsh' is not known; expected bash, zsh, fish"):
        completion("tcsh")
