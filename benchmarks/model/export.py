"""Write a kept model for other programs: a state dict of timm, ONNX, or a program of torch.export.

Each writer takes a model and a path, and returns how to use the file. The file's logits are compared with the
model's before it is put in its place.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ... import InputError
from ...methods.networks.encoders import OWN
from ...methods.networks.predictor import Predictor
from .files import many_crops
from .load import Model

CLOSE = 1e-4  # largest difference of logits, relative to their size where that is above one
STEPS = (
    "upright by EXIF; the whole image resized to side x side by interpolation; from that the central box of "
    "crop_pct of the original's shorter side, resized to image_size x image_size, bilinear"
)
SUFFIX = {"timm": ".safetensors", "onnx": ".onnx", "pt2": ".pt2"}


def to_timm(model: Model, path: Path) -> str:
    """Write a state dict for `timm.create_model(..., checkpoint_path=path)`.

    Raises:
        InputError: timm has no such model, or the model is no encoder with a linear head.
    """
    import timm

    name, options = model.about["backbone"], model.about["backbone_options"]
    if name in OWN or name == "mobilenetv1_025":
        raise InputError(f"to=timm: timm has no {name}; expected to=onnx or to=pt2")
    if type(model.net) is not Predictor and model.net.options().get("taps") != 1:
        raise InputError(f"to=timm: {model.about['label']} is more than a timm model; {_others(model)}")
    if not isinstance(model.net.head, nn.Linear):
        raise InputError(f"to=timm: {model.about['label']} has no linear classifier; {_others(model)}")
    whole: Any = timm.create_model(name, num_classes=len(model.classes), **options).eval()
    head = whole.get_classifier()
    head = getattr(head, "fc", head)
    own = model.net.head
    if not isinstance(head, nn.Linear) or head.weight.shape != own.weight.shape or head.bias is None:
        raise InputError(f"to=timm: {name} has no single linear classifier in timm; {_others(model)}")
    whole.load_state_dict(model.net.encoder.state_dict(), strict=False)
    head.load_state_dict(own.state_dict())
    _check(model, whole, "timm")
    path.write_bytes(save({k: v.contiguous() for k, v in whole.state_dict().items()}, {"format": "pt"}))
    given = "".join(f", {option}={value!r}" for option, value in options.items())
    return f"timm.create_model({name!r}, num_classes={len(model.classes)}, checkpoint_path=PATH{given})"


def to_onnx(model: Model, path: Path) -> str:
    """Write an ONNX file from images [B,3,H,W] to logits [B,C], with any number of images.

    Raises:
        InputError: an operation of the model has no form in ONNX.
        ModuleNotFoundError: onnx or onnxscript is not installed.
    """
    import onnx  # noqa: F401  (the error names it)
    import onnxscript  # noqa: F401

    with _refused(model, "onnx"), redirect_stdout(StringIO()):
        program: Any = torch.onnx.export(
            model.net,
            (_images(model, 2),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            dynamo=True,
            verbose=False,
        )
        program.model.metadata_props.update({k: json.dumps(v) for k, v in facts(model).items()})
        program.save(path)
    with suppress(ModuleNotFoundError):
        import onnxruntime

        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        _check(model, lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0]), "onnx")
    return "onnxruntime.InferenceSession(PATH).run(None, {'images': images})"


def to_pt2(model: Model, path: Path) -> str:
    """Write a program of torch.export from images [B,3,H,W] to logits [B,C], with any number of images.

    Raises:
        InputError: torch.export cannot trace the model.
    """
    with _refused(model, "pt2"):
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(model.net, (_images(model, 2),), dynamic_shapes=shapes)
    _check(model, program.module(), "pt2")
    content = BytesIO()  # the name of a draft does not end as it expects
    torch.export.save(program, content, extra_files={"model.json": json.dumps(facts(model))})
    path.write_bytes(content.getbuffer())
    return "torch.export.load(PATH).module()(images)"


WRITERS: Mapping[str, Callable[[Model, Path], str]] = {"timm": to_timm, "onnx": to_onnx, "pt2": to_pt2}


def facts(model: Model) -> dict[str, Any]:
    """Return what a user of the file has to know: class names, preprocessing, and what the logits mean."""
    about = model.about
    given = {k: v for k, v in about["preprocessing"].items() if k not in ("mean_std", "hflip")}
    return {
        "classes": about["classes"],
        "preprocessing": {**given, "color": "RGB from 0 to 1, then (x - mean) / std", "steps": _steps(given)},
        "output": "logits; sigmoid of each" if about["multi_label"] else "logits; softmax over all",
        **{name: about[name] for name in ("backbone", "method", "label", "target", "digest")},
        "score": about.get("score"),
    }


def _steps(given: Mapping[str, Any]) -> str:
    """Return how an image becomes the network's input, and of which crops the score is."""
    crops = many_crops(given)
    return STEPS + (f"; the score is of the mean logits of {crops}" if crops else "")


def _images(model: Model, count: int) -> Tensor:
    side = model.augment.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def _check(model: Model, other: Callable[[Tensor], Tensor], kind: str) -> None:
    """Check that a written model gives the same logits, for other numbers of images than it was traced with.

    Raises:
        InputError: they differ.
    """
    for count in (1, 5):
        x = _images(model, count)
        with torch.no_grad():
            expected, got = model.net(x), other(x)
        far = ((expected - got).abs() / expected.abs().clamp(min=1)).max().item()
        if not far <= CLOSE:
            raise InputError(f"to={kind}: its logits differ by {far:.1e}; {_others(model, kind)}")


@contextmanager
def _refused(model: Model, kind: str) -> Any:
    """Turn an error of tracing, which is of no certain kind, into one line; hide its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, ModuleNotFoundError):
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
        label, others = model.about["label"], _others(model, kind)
        raise InputError(f"to={kind}: {label} on {model.about['backbone']}: {reason}; {others}") from error


def _others(model: Model, kind: str = "timm") -> str:
    """Return what works instead."""
    others = [f"to={other}" for other in ("onnx", "pt2") if other != kind]
    return f"expected {' or '.join(others)}, or `transferbench predict`"
