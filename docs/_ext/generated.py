"""Fill the reference from the source: a line `{{ generated: NAME }}` of a page becomes Markdown.

Nothing of the reference is written twice: settings come from the dataclasses and the comments beside
their fields, methods from their files, commands from the parser, presets from their files.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import network_matrix
import notebook
from decoding_samples import SAMPLES, Sample
from settings_source import Setting, sentence, settings, value_text
from transferbench.analysis.records import schema as record_schema
from transferbench.benchmarks.config import compose
from transferbench.benchmarks.config.schema import DataPlaces, Request, SourceRecipe
from transferbench.benchmarks.parser import COMMANDS, DATA, Command
from transferbench.datasets import catalog as datasets
from transferbench.datasets.decoding.formats import FORMATS
from transferbench.datasets.decoding.rgb import upright_rgb
from transferbench.datasets.pixels import open_image
from transferbench.methods import catalog as methods
from transferbench.methods.base import Method
from transferbench.methods.l2tl_policy.settings import PRESETS, Preset
from transferbench.methods.recipe import Recipe
from transferbench.plain_yaml import read_yaml
from transferbench.slurm.cluster import Cluster

MARK = re.compile(r"^\{\{ generated: ([\w-]+) \}\}$", re.MULTILINE)
GROUPS = {"recipe": Recipe, "source_recipe": SourceRecipe, "data": DataPlaces}
TRAINED, JUDGED = 3, 1  # passes of an image: forward and backward, or forward alone
BATCH = 64  # to compare costs at
PARTS_OF_DATA = ("train", "holdout", "test")
PART_NAMES = ("Use when", "Source", "Departs from", "Not here", "Not followed")
PARTS = re.compile(rf"\n\s*\n|\n(?=(?:{'|'.join(PART_NAMES)}): )")  # paragraphs of a docstring


def request_settings() -> list[Setting]:
    """Return the settings of a request that belong to no group."""
    return [s for s in settings(Request) if s.name not in GROUPS]


def grouped_settings() -> dict[str, list[Setting]]:
    """Return the settings of `recipe`, `source_recipe` and `data`."""
    return {name: settings(cls, f"{name}.") for name, cls in GROUPS.items()}


def method_settings(name: str) -> list[Setting]:
    """Return a method's own settings; what L2TL leaves to its preset has the default of that preset."""
    found = settings(methods.load(name).Config, "method.")
    if name != "l2tl":
        return found
    paper = {f"method.{key}": value_text(value) for key, value in PRESETS[Preset.paper].items()}
    note = " Default: that of `method.preset`."
    return [
        replace(s, type=s.type.removesuffix(" or null"), default=paper[s.name], meaning=s.meaning + note)
        if s.default == "null"
        else s
        for s in found
    ]


def settings_table(found: Iterable[Setting], anchor: str = "") -> str:
    """Return settings as a Markdown table; each row has an anchor, as `setting-recipe-lr`."""
    rows = []
    for s in found:
        place = f"setting-{anchor}{s.name}".replace(".", "-")
        default = f"`{s.default}`" if s.default else "empty"
        rows.append([f"[`{s.name}`]{{#{place}}}", s.type, default, _escaped(s.meaning)])
    return _table(["Setting", "Type", "Default", "Meaning"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def request_text() -> str:
    """Return the table of the general settings."""
    return settings_table(request_settings())


def groups_text() -> str:
    """Return the tables of the grouped settings."""
    return "\n\n".join(
        f"## `{name}.*`\n\n{sentence(_summary(GROUPS[name]))}\n\n{settings_table(found)}"
        for name, found in grouped_settings().items()
    )


def presets_text() -> str:
    """Return what each preset overrides, with the comment at the head of its file."""
    return "\n\n".join(_preset_text(name) for name in compose.presets())


def _preset_text(name: str) -> str:
    path = compose.HERE / "presets" / f"{name}.yaml"
    lines = [
        line.removeprefix("# ")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("# ")
    ]
    words = _escaped(" ".join(line for line in lines if "@package" not in line))
    overrides = "\n".join(f"{key}={value_text(value)}" for key, value in _flat(read_yaml(path)))
    return f"### Preset `{name}`\n\n{words}\n\n```text\n{overrides}\n```"


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def l2tl_presets_text() -> str:
    """Return the constants that each preset of L2TL sets."""
    keys = dict.fromkeys(key for values in PRESETS.values() for key in values)
    rows = [
        [f"`method.{key}`", *(f"`{value_text(values.get(key))}`" for values in PRESETS.values())]
        for key in keys
    ]
    return _table(["Setting", *(f"`{preset.value}`" for preset in PRESETS)], rows)


def method_names() -> list[str]:
    """Return the methods, without the shared source pre-training."""
    return [name for name in methods.names() if name != "pretrain"]


def methods_overview_text() -> str:
    """Return one line for each method."""
    rows = []
    for name in method_names():
        cls = methods.load(name)
        link = f"[{cls.title}](#{_slug(f'{cls.title} ({name})')})"
        rows.append([link, f"`{name}`", cls.kind, _needs(cls), _cost(cls)])
    return _table(["Method", "Name", "Kind", "Needs", "Passes per step, × fine-tuning"], rows)


def methods_text() -> str:
    """Return a section for each method: paper, summary, departures, costs and settings."""
    return "\n\n".join(method_text(name) for name in [*method_names(), "pretrain"])


def method_text(name: str) -> str:
    """Return the section of one method."""
    cls = methods.load(name)
    own = method_settings(name)
    facts = [
        f"- **Kind:** {cls.kind}. **Paper:** {_paper(cls.paper)}. **Needs:** {_needs(cls)}.",
        f"- **Cost per step:** {_cost_words(cls)}",
        f"- **Several processes per run:** {'yes' if cls.data_parallel else 'no'}. "
        f"**`recipe.micro_batch`:** {'yes' if cls.trains_in_parts else 'no'}.",
    ]
    table = settings_table(own, f"{name}-") if own else "This method has no settings of its own."
    return "\n\n".join([f"## {cls.title} (`{name}`)", *docstring_parts(cls), "\n".join(facts), table])


def docstring_parts(cls: type[Method]) -> list[str]:
    """Return the paragraphs of the docstring of a method's file as Markdown."""
    text = inspect.getdoc(importlib.import_module(cls.__module__)) or ""
    first, _, rest = text.partition("\n")
    parts = [_escaped(first.partition(": ")[2] or first)]
    parts[0] = parts[0][:1].upper() + parts[0][1:]
    for paragraph in PARTS.split(rest):
        words = " ".join(paragraph.split())
        if not words or words.startswith("Shape letters"):
            continue
        name, colon, body = words.partition(": ")
        is_part = colon and name in PART_NAMES
        parts.append(f"**{name}:** {_escaped(body)}" if is_part else _escaped(words))
    return parts


def _needs(cls: type[Method]) -> str:
    if cls.needs_source or cls.pretrains:
        return "source images"
    return "pre-trained weights" if cls.uses_pretraining else "nothing"


def _images(cls: type[Method]) -> tuple[int, int]:
    config = cls.Config()
    own = config.resolved() if hasattr(config, "resolved") else config
    return cls.images_per_step(own, Recipe(batch_size=BATCH))


def _cost(cls: type[Method]) -> str:
    trained, judged = _images(cls)
    return f"{(TRAINED * trained + JUDGED * judged) / (TRAINED * BATCH):.2f}"


def _cost_words(cls: type[Method]) -> str:
    trained, judged = _images(cls)
    words = f"{trained / BATCH:g} B images forward and backward"
    words += f", {judged / BATCH:g} B images forward only" if judged else ""
    return f"{words} (B: batch size), {_cost(cls)} times the passes of fine-tuning."


def _paper(text: str) -> str:
    """Link the arXiv numbers and the pages of the docs that a text names."""
    text = re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"\bdocs/([\w/-]+\.md)\b", lambda m: f"[{_page_name(m[1])}](../{m[1]})", text)


def _page_name(path: str) -> str:
    """Return the name of a page in words."""
    return Path(path).stem.replace("-", " ")


def commands() -> dict[str, Command]:
    """Return the commands by name."""
    return {command.name: command for command in (*COMMANDS, DATA)}


def commands_text() -> str:
    """Return a section for each command: usage, options, examples."""
    return "\n\n".join(map(_command_text, commands().values()))


def _command_text(command: Command) -> str:
    options = "".join(f" [{flag}]" for flag, _ in command.flags)
    usage = f"transferbench {command.name}{options} {command.arguments}"
    details = command.details.partition("settings, as name=value:")[0].replace("\n", " ").strip()
    lines = "\n".join(re.sub(r"\s{2,}(\S.*)$", r"    # \1", line) for line in command.examples)
    parts = [f"## `transferbench {command.name}`", sentence(_escaped(command.summary))]
    parts += [f"```text\n{usage}\n```", _escaped(details)]
    parts += ["\n".join(f"- `{flag}`: {_escaped(sentence(text))}" for flag, text in command.flags)]
    parts += [f"Examples:\n\n```sh\n{lines}\n```"]
    return "\n\n".join(filter(None, parts))


def record_fields() -> dict[str, str]:
    """Return the fields of a record that are checked, and which records have them."""
    every = dict.fromkeys(("format", "role", "status", "metric", *record_schema.FORM), "every record")
    return every | dict.fromkeys(record_schema.OF_A_RUN, "records of runs")


def cluster_settings() -> list[Setting]:
    """Return the settings of a cluster file; its name is that of the file."""
    return [s for s in settings(Cluster) if s.name != "name"]


def cluster_text() -> str:
    """Return the table of the settings of a cluster file."""
    return settings_table(cluster_settings(), "cluster-")


def data_sets_text() -> str:
    """Return the known data sets with their published sizes."""
    rows = []
    for name in datasets.names():
        about = datasets.about(name)
        assert about is not None
        sizes = [f"{about.sizes[part]:,}" if part in about.sizes else "" for part in PARTS_OF_DATA]
        terms = about.license
        cells = [f"`{name}`", _escaped(about.title), str(about.num_classes), *sizes, f"`{about.score}`"]
        rows.append([*cells, _escaped(terms)])
    return _table(["Name", "Data set", "Classes", "Train", "Holdout", "Test", "Score", "License"], rows)


def decoding_text() -> str:
    """Return what becomes of each kind of image, with the values of one pixel."""
    rows = [[s.format, s.samples, _escaped(s.tag), *_pixel(s), _escaped(s.outcome)] for s in SAMPLES]
    return _table(["Format", "Samples", "Tag", "In the file", "RGB", "Rule"], rows)


def _pixel(sample: Sample) -> tuple[str, str]:
    """Return the values of the pixel in the middle of the file, and what is decoded in the same place."""
    with open_image(sample.encode()) as image:
        decoded = upright_rgb(image).image
    row, column = (n // 2 for n in sample.stored.shape[:2])
    given = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(int(value))
                      for value in sample.stored[row, column].ravel().tolist())  # fmt: skip
    return given, ", ".join(map(str, decoded.getpixel((decoded.width // 2, decoded.height // 2))))


def image_suffixes_text() -> str:
    """Return the suffixes of each format; formats whose reader is missing here are listed too."""
    reader = {"HEIF": "`pip install -e '.[heic]'`"}
    rows = [[f, " ".join(f"`{s}`" for s in own), reader.get(f, "Pillow")] for f, own in FORMATS.items()]
    return _table(["Format", "Suffixes", "Reader"], rows)


def suites_text() -> str:
    """Return the suites with their titles and rows."""
    rows = []
    for name in compose.suites():
        suite = compose.read_suite(name)
        given = suite.get("rows") or suite.get("parts", {})
        shown = given if isinstance(given, str) else ", ".join(given)
        rows.append([f"`{name}`", suite.get("element", ""), suite.get("title", ""), shown])
    return _table(["Suite", "In the paper", "Title", "Rows or parts"], rows)


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").split("\n\n")[0]


def _slug(text: str) -> str:
    """Return the anchor of a heading, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def _escaped(text: str) -> str:
    """Return plain text for Markdown; what is in backquotes stays."""
    parts = re.split(r"(`[^`]*`)", text)
    escaped = [p if p.startswith("`") else re.sub(r"([*_<>\[\]$|{}\\])", r"\\\1", p) for p in parts]
    return _paper("".join(escaped))


TEXTS: dict[str, Callable[[], str]] = {
    "request": request_text,
    "groups": groups_text,
    "presets": presets_text,
    "l2tl-presets": l2tl_presets_text,
    "methods-overview": methods_overview_text,
    "methods": methods_text,
    "commands": commands_text,
    "cluster": cluster_text,
    "data-sets": data_sets_text,
    "decoding": decoding_text,
    "image-suffixes": image_suffixes_text,
    "suites": suites_text,
    "network-matrix": network_matrix.table,
    "notebook": notebook.markdown,
}


def filled(text: str) -> str:
    """Return a page with its generated parts."""
    return MARK.sub(lambda found: TEXTS[found[1]](), text)


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""

    def read(app: Any, name: str, source: list[str]) -> None:
        source[0] = filled(source[0])

    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
