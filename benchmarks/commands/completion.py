"""`completion`: print a script that completes commands, settings, methods and data sets in a shell."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import get_args, get_type_hints

from ... import InputError
from ...datasets import catalog as datasets
from ...methods import catalog as methods
from ..config.compose import presets, suite_rows, suites
from ..config.schema import Request
from ..parser import COMMANDS, DATA, Command

BASH = r"""# transferbench in bash and zsh
_transferbench() {
  local line=${COMP_LINE:0:$COMP_POINT} words='@commands@' head= each
  local cur=${line##* } command=${line#* }
  if [[ $command == *' '* ]]; then
    case ${command%% *} in
@cases@
      *) words= ;;
    esac
  fi
  case $cur in methods=*,*) head=${cur%,*}, words='@methods@' ;; esac
  COMPREPLY=()
  for each in $words; do
    [[ $cur != *=* && $each == *=?* || $cur == *=* && $each == *= ]] && continue  # first names, then values
    [[ $head$each == "$cur"* ]] && COMPREPLY+=("$head$each")
  done
  if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
  if [[ $cur == *=* && -z ${ZSH_VERSION-} && $COMP_WORDBREAKS == *=* ]]; then
    COMPREPLY=("${COMPREPLY[@]#*=}")  # bash completes what follows the sign alone
  fi
}
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
COMPLETE = "complete -o default -F _transferbench transferbench\n"


def completion(shell: str) -> int:
    """Print the script for bash, zsh or fish; return the exit code. Raises InputError for another shell."""
    scripts = {"bash": _bash, "zsh": lambda: ZSH + _bash(), "fish": _fish}
    if shell not in scripts:
        raise InputError(f"completion: '{shell}' is not known; expected {', '.join(scripts)}")
    print(scripts[shell](), end="")
    return 0


def _bash() -> str:
    after = _words()
    cases = [f"      {name}) words='{' '.join(words)}' ;;" for name, words in after.items()]
    text = BASH.replace("@cases@", "\n".join(cases)).replace("@commands@", " ".join(after))
    return text.replace("@methods@", " ".join(_rows())) + COMPLETE


def _fish() -> str:
    lines = [
        f'complete -c transferbench -f -n __fish_use_subcommand -a {command.name} -d "{command.summary}"'
        for command in (*COMMANDS, DATA)
    ]
    lines += [
        f"complete -c transferbench -n '__fish_seen_subcommand_from {name}' -a '{' '.join(words)}'"
        for name, words in _words().items()
    ]
    return "\n".join(("# transferbench in fish", *lines, ""))


def _words() -> dict[str, list[str]]:
    """Return the words that may follow each command: its options, names, settings, and their values."""
    values = _values()
    names = {"suite": suites(), "data": ["list", "prepare", "doctor", *datasets.names()]}
    names["completion"] = ["bash", "zsh", "fish"]
    return {
        command.name: [
            *(flag for flag, _ in command.flags),
            *names.get(command.name, ()),
            *(word for setting in _settings_of(command, values) for word in setting),
        ]
        for command in (*COMMANDS, DATA)
    }


def _settings_of(command: Command, values: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Yield each setting that a command takes, followed by its values."""
    found = dict(re.findall(r"\b([a-z_.]+)=([a-z|]*)", command.arguments))
    if found.pop("name", None):  # any setting
        found = dict.fromkeys(values, "") | found
    for name, own in found.items():
        known = own.split("|") if "|" in own else values.get(name, ())
        yield [f"{name}=", *(f"{name}={value}" for value in known)]


def _rows() -> list[str]:
    """Return what `methods` may name: rows and methods."""
    return list(dict.fromkeys((*suite_rows(), *methods.names())))


def _values() -> dict[str, list[str]]:
    """Return every setting by its dotted name, with the values that have names."""
    sets = list(datasets.names())
    named = {"methods": _rows(), "method": list(methods.names()), "target": sets, "source": [*sets, "none"]}
    named |= {"preset": presets(), "on": ["local", "slurm"], "device": ["auto", "cpu", "cuda"]}
    return dict(_settings(Request, "")) | named


def _settings(cls: type, above: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the settings of a dataclass, and of those in it, with the values of an enum or a flag."""
    hints = get_type_hints(cls)
    for name in (f.name for f in fields(cls)):
        kinds = [kind for kind in (hints[name], *get_args(hints[name])) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if is_dataclass(kind)), None)
        if inner:
            yield from _settings(inner, f"{above}{name}.")
            continue
        members = [str(member) for kind in kinds if issubclass(kind, Enum) for member in kind]
        yield f"{above}{name}", members or (["true", "false"] if bool in kinds else [])
