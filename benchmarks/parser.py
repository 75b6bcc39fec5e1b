"""The parser of the command line: commands, arguments, and the text of every `--help`."""

import argparse
from dataclasses import dataclass

from .. import __version__

EXIT_CODES = """exit codes:
  0    success
  1    a run failed, or the command found a difference or a fault
  2    invalid request or missing data; one line says what to change
  130  stopped by Ctrl-C; the same command resumes a bench, a run, a suite or a screen

`transferbench COMMAND --help` shows the arguments and examples of a command."""

SETTINGS = """settings, as name=value:
  target=NAME|PATH        target data set: a known name, a folder, a tar, a zip or a CSV list
  source=NAME|PATH|none   source data set; default: the usual source of the target
{rows}
  shots=NUMBER            labeled target images per class; default: all
  labels=all|train        shots count training and holdout images together, or training images
                          alone, with a whole holdout
  holdout_shots=NUMBER    holdout images per class; default: a fifth of the shots, or all
  draw=holdout|test|holdout,test|folds
                          parts that the target lacks: 20 % of the training images of each class;
                          folds: each seed tests on another fifth, for very few images
  groups=folder|near|COLUMN
                          images that stay together where parts are drawn: of a folder inside a class,
                          near-identical ones, or with one value in a column of a CSV list
  backbone=NAME           small, tiny, or any model name of timm
  backbone_options.NAME=VALUE
                          arguments of the backbone's constructor
  pretrained=true|false   start from published weights of timm
  checkpoint=PATH         start from a state dict in a file
  protocol=holdout|trainval
                          trainval: train on train and holdout, after all choices are made;
                          default: trainval with shots and labels=all, else holdout
  tune=auto|off|paper_grid
                          search rates and strengths, at equal cost for every method; default: auto with
                          pre-trained weights or a target by path, else off
  tune_budget=NUMBER      cost of a method's trials, in runs; default: 6
  bn=split|shared|frozen  norm statistics: apart for source and target, shared, or as pre-trained
  score=top1|mean_per_class|auroc
                          score that is compared; default: that of the target
  on_nan=stop|skip        at a NaN or Inf: stop the run, or undo the step
  drop_overlap=true|false leave out source images that are near-identical to target images
  preset=NAME             file of benchmarks/presets; default: that of the target, own for a path
  method_defaults.METHOD.SETTING=VALUE
                          default of a setting of one method, as a preset gives it
  recipe.SETTING          training: steps, batch_size, lr, weight_decay, image_size, ...
  source_recipe.SETTING   source pre-training: steps, batch_size, lr, weight_decay, ...
  method.SETTING          settings of the method
  data.root=PATH          folder with data sets; default: $TRANSFERBENCH_DATA
  data.mirror=URL         mirror of the archives; default: $TRANSFERBENCH_MIRROR
  results=PATH            folder of the records; default: results
  device=auto|cpu|cuda|cuda:1   device of a run
  threads=NUMBER          CPU threads of one run; 0: chosen
  deterministic=true|false
                          only deterministic algorithms on a GPU: the same digits when resumed or repeated
  checkpoint_minutes=NUMBER
                          longest time between two checkpoints
  log=none|tensorboard    event files in the folder of each run, while it runs
{launch}
Every recipe.* and source_recipe.* setting with its default, and every method.* setting: `make docs`,
pages reference/settings and reference/methods."""

BENCH_ROWS = """  methods=NAME,NAME       methods or rows to compare; default: see `transferbench methods`
  seeds=NUMBER            seeds per method"""
RUN_ROWS = """  method=NAME             the method; see `transferbench methods`
  seed=NUMBER             seed of the run"""
LAUNCH = """  minutes=NUMBER          fit steps, seeds and rows to this time; default with a target by path:
                          nothing is cut, and a bench of more than 60 minutes is not started
  yes=true|false          start a bench of any length
  workers=NUMBER          runs at a time; 0: one per GPU, or one per core
  keep=best|all|none      models that stay on the disk; best: of the recommended row and of fine-tuning
  on=local|slurm          where the runs go
  cluster=NAME|PATH       cluster file, for on=slurm
"""


@dataclass(frozen=True)
class Command:
    """A command: its name, its `--help`, and the form of its arguments."""

    name: str
    summary: str  # one line, without a full stop
    arguments: str  # in the usage line
    examples: tuple[str, ...]
    details: str = ""  # after the examples
    flags: tuple[tuple[str, str], ...] = ()  # options without a value, and their help


DRY_RUN = ("--dry-run", "print the runs and their estimated cost, run nothing")
COMMANDS = (
    Command(
        "bench",
        "compare methods on a target, over several seeds",
        "[name=value ...]",
        (
            "transferbench bench                            the built-in data sets, ten rows, sixteen seeds",
            "transferbench bench target=../my/images source=../photos seeds=3 shots=10",
            "transferbench bench target=../my/images source=none pretrained=true backbone=resnet18",
            "transferbench bench methods=finetune,l2tl method.num_actions=21 --dry-run",
            "transferbench bench target=aircraft source=imagenet data.root=/datasets drop_overlap=true",
            "transferbench bench on=slurm cluster=mycluster.yaml    submit the runs and return",
        ),
        "Finished runs are skipped; a larger `seeds` runs only the new ones.\n\n"
        + SETTINGS.format(rows=BENCH_ROWS, launch=LAUNCH),
        (DRY_RUN,),
    ),
    Command(
        "run",
        "run one method with one seed",
        "method=NAME [name=value ...]",
        (
            "transferbench run target=digits method=l2tl seed=0 recipe.steps=500",
            "transferbench run target=digits method=datl --dry-run",
            "torchrun --nproc-per-node 2 .venv/bin/transferbench run target=dtd method=finetune",
        ),
        "It runs in this process, or in all processes that torchrun has started.\n\n"
        + SETTINGS.format(rows=RUN_ROWS, launch=""),
        (DRY_RUN,),
    ),
    Command(
        "suite",
        "run and print a table or figure of the paper",
        "[suite] [name=value ...]",
        (
            "transferbench suite                            list the suites",
            "transferbench suite small                      the paper's tables and figures on small images",
            "transferbench suite table2 source=../photos targets=../birds,../cars recipe.steps=500",
            "transferbench suite paper --dry-run",
        ),
        "targets=NAME,NAME, source=NAME and seeds=NUMBER replace those of the suite; "
        "all other settings are those of `bench`.",
        (DRY_RUN,),
    ),
    Command(
        "screen",
        "score backbones and sources on a target in minutes, before a bench",
        "target=NAME backbones=NAME,NAME:FILE [sources=NAME,none] [source_images=NUMBER] [name=value ...]",
        (
            "transferbench screen target=dtd backbones=resnet18,vit_small_patch16_224,convnext_tiny",
            "transferbench screen target=../birds backbones=resnet50:mine.pth,resnet50,resnet50:random",
            "transferbench screen target=../birds shots=20 backbones=resnet18 sources=imagenet,../photos",
            "transferbench screen target=digits backbones=small,tiny source_images=0 sources=glyphs,none",
        ),
        "backbones: NAME takes published weights of timm, NAME:FILE those of a file, NAME:random none.\n"
        "sources: data sets whose closeness to the target is measured; default: none.\n"
        "source_images: images of a source that are compared, even over its classes; 0: all (5000).\n"
        "Other settings of images and preprocessing are those of `bench`: shots, labels, draw, groups,\n"
        "recipe.image_size, recipe.batch_size, device, threads, results. Test images are not read, and\n"
        "nothing is trained. The same command reads what is done, and goes on.",
    ),
    Command(
        "status",
        "print the state of every run",
        "[results=PATH]",
        ("transferbench status results=results",),
        "States: done, running, pending, failed (with its error) and lost (its process is gone).",
    ),
    Command(
        "watch",
        "show the state of every run until all have ended",
        "[results=PATH]",
        ("transferbench watch results=results",),
        "The exit code is 1 if a run failed or was lost.",
    ),
    Command(
        "retry",
        "resubmit failed or lost runs to SLURM",
        "[results=PATH]",
        (
            "transferbench retry                            failed and lost runs",
            "transferbench retry --failed results=results   failed runs only",
        ),
        "The jobs run the current code, not that of the first submission.",
        (("--failed", "resubmit failed runs"), ("--lost", "resubmit lost runs")),
    ),
    Command(
        "cancel",
        "cancel the SLURM jobs of runs",
        "[run ...] [results=PATH]",
        (
            "transferbench cancel                           all runs",
            "transferbench cancel l2tl/seed0 results=results",
        ),
        "A run is named by a part of its folder, such as l2tl/seed0, or by its digest.",
    ),
    Command(
        "logs",
        "print the last lines of a run's SLURM log",
        "run [results=PATH]",
        ("transferbench logs l2tl/seed0 results=results",),
        "A run is named by a part of its folder, such as l2tl/seed0, or by its digest.",
    ),
    Command(
        "report",
        "write tables and one HTML page from the records",
        "[results=PATH] [prints=true]",
        (
            "transferbench report results=results",
            "transferbench report results=results prints=true    figures as PDF and PNG files, too",
        ),
    ),
    Command(
        "reproduce",
        "repeat a run and compare it with its record",
        "run [name=value ...]",
        (
            "transferbench reproduce results/glyphs-digits/l2tl/seed0-0123456789",
            "transferbench reproduce results/cars-birds/l2tl/seed0-0123456789 target=../birds source=../cars",
        ),
        "target, source, checkpoint, device, data.root and data.mirror name places on this machine.\n"
        "results=PATH is a new folder for the repeated run.\n"
        "The exit code is 1 if any number differs; times and memory are not compared.",
    ),
    Command(
        "recommend",
        "recommend a method for a target, from the records",
        "target=NAME [seconds=NUMBER] [results=PATH]",
        (
            "transferbench recommend target=digits",
            "transferbench recommend target=digits seconds=60    at most 60 seconds of training",
            "transferbench recommend target=../my/photos         before a run: what other targets say",
        ),
    ),
    Command(
        "predict",
        "predict the classes of new images with a kept model",
        "RUN|best PATH ... [out=PATH] [top=NUMBER] [results=PATH] [device=NAME]",
        (
            "transferbench predict best ../new-photos        the model that the comparison recommends",
            "transferbench predict results/glyphs-digits/finetune/seed0-0123456789 a.jpg b.tar list.csv",
            "transferbench predict best ../new-photos top=1 out=labels.csv results=results",
        ),
        "A path is an image, a folder, a tar, a zip, or a list of images (.csv, .tsv, .jsonl).\n"
        "The table has a row for each image: class and probability, the `top` most probable ones (5), or\n"
        "why the image was not read. out=- prints it; default: predictions.csv.",
    ),
    Command(
        "export",
        "write a kept model for timm, ONNX or torch.export",
        "RUN|best to=timm|onnx|pt2 [out=PATH] [results=PATH]",
        (
            "transferbench export best to=timm              a state dict for timm.create_model",
            "transferbench export best to=onnx out=birds.onnx",
            "transferbench export results/glyphs-digits/finetune/seed0-0123456789 to=pt2",
        ),
        "Class names and preprocessing are in the file itself, or for timm only in OUT.json beside it.\n"
        "The logits are compared with the model's before the file is put in its place.",
    ),
    Command(
        "compare",
        "compare two results folders with paired statistics",
        "results results",
        ("transferbench compare results results-newer",),
        "The exit code is 1 if any score differs significantly.",
    ),
    Command(
        "open",
        "open the report page in the browser",
        "[results=PATH]",
        ("transferbench open results=results",),
        "The page's path is printed, for machines without a browser. A missing page is written first.",
    ),
    Command(
        "log",
        "send a finished run to an experiment tracker",
        "run to=tensorboard|mlflow|wandb [uri=PLACE]",
        (
            "transferbench log results/glyphs-digits/l2tl/seed0-0123456789 to=tensorboard",
            "transferbench log results/glyphs-digits/l2tl/seed0-0123456789 to=mlflow uri=sqlite:///mlflow.db",
        ),
        "uri is a folder of event files, MLflow's tracking URI, or the address of a W&B server.",
    ),
    Command(
        "completion",
        "print a script that completes commands and settings in a shell",
        "bash|zsh|fish",
        (
            "transferbench completion bash > ~/.local/share/bash-completion/completions/transferbench",
            "transferbench completion zsh > ~/.transferbench.zsh    then `source` it in ~/.zshrc",
            "transferbench completion fish > ~/.config/fish/completions/transferbench.fish",
        ),
    ),
    Command(
        "methods",
        "list the methods with paper, kind and requirements",
        "[results=PATH]",
        (
            "transferbench methods",
            "transferbench methods results=results          with the measured cost of a step",
        ),
    ),
)
DATA = Command(
    "data",
    "list, prepare or check data sets",
    "list|prepare|doctor [name ...] [data.root=PATH] [draw=holdout|test] [groups=near]",
    (
        "transferbench data list                        known data sets, and whether they are here",
        "transferbench data prepare aircraft            download if needed, then decode into the cache",
        "transferbench data doctor aircraft data.root=/datasets",
        "transferbench data doctor ../my/images ../photos    also compare a target with its source",
        "transferbench data doctor ../my/images draw=test    with a test part drawn from train",
        "transferbench data doctor photos.csv groups=patient    with parts that share no patient",
    ),
    "Images are looked for in TRANSFERBENCH_DATA (data.root) first. Downloads go to TRANSFERBENCH_CACHE.\n"
    "The exit code of `data doctor` is 1 if it finds a fault. A set that serves only as a source has none.",
)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; the parsed namespace holds `command` and its arguments.

    `overrides` holds the positional words of all commands but `data`, which has `action` and `names`.
    """
    listing = "\n".join(("commands:", *(f"  {c.name:12} {c.summary}" for c in (*COMMANDS, DATA))))
    parser = argparse.ArgumentParser(
        prog="transferbench",
        description="Compare transfer-learning methods on your images: accuracy, significance and cost.",
        usage="transferbench [-h] [--version] COMMAND ...",
        epilog=f"{listing}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="command", prog="transferbench", help=argparse.SUPPRESS
    )
    for command in COMMANDS:
        added = _add(commands, command)
        added.add_argument("overrides", nargs="*", metavar="name=value", help=argparse.SUPPRESS)
    data = _add(commands, DATA)
    data.add_argument("action", choices=("list", "prepare", "doctor"), help=argparse.SUPPRESS)
    data.add_argument("names", nargs="*", metavar="name", help=argparse.SUPPRESS)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Command
) -> argparse.ArgumentParser:
    """Add a command with its options and its own `--help`."""
    options = "".join(f" [{flag}]" for flag, _ in command.flags)
    examples = "\n".join(("examples:", *(f"  {line}" for line in command.examples)))
    added = commands.add_parser(
        command.name,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        usage=f"transferbench {command.name} [-h]{options} {command.arguments}",
        epilog="\n\n".join(filter(None, (examples, command.details))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, text in command.flags:
        added.add_argument(flag, action="store_true", help=text)
    return added
