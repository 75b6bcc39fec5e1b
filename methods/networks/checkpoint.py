"""Fill a timm model from a file of weights as people have them: wrapped, prefixed, headless, of older names.

Names alone decide, never the order of the tensors in the file.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .tensor_files import misfits, some, tensors_in

State = Mapping[str, Tensor]
Convert = Callable[[State], Mapping[str, Any]]
PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.", "encoder.", "net.", "network.", "timm_model.")
AVERAGED = re.compile(r"(^|[._])(ema|teacher)([._]|$)")  # names of averaged weights, which are preferred
KEYS = re.compile(r"(^|[._])(encoder_k|key_encoder|momentum_encoder)([._]|$)")  # MoCo evaluates the other
COMPUTED = ("num_batches_tracked", "relative_position_index", "attn_mask")  # not needed, or computed anew
MOST_CLASSES = 1_000_000  # most classes of a classifier
MOST_GROUPS = 12  # groups of tensors of a file that are tried, the largest first


@dataclass(frozen=True)
class Part:
    """A part of a file that may be the weights.

    Attributes:
        place: where it lies in the file: names of mappings, and the prefix of its tensors' names.
        state: its tensors, by the names that follow the prefix.
        rest: names of the tensors of the same mapping that have another prefix.
    """

    place: str
    state: State
    rest: tuple[str, ...] = ()

    def fit(self, own: State) -> int:
        """Return how many of the model's own tensors it has, in the same shape."""
        return sum(name in self.state and self.state[name].shape == own[name].shape for name in own)

    def rank(self, own: State) -> tuple[Any, ...]:
        """Return a sort key: the best fit first; of equal ones averaged weights, then the shortest place."""
        liked = not AVERAGED.search(self.place), bool(KEYS.search(self.place))
        return -self.fit(own), *liked, self.place.count("."), self.place


def fill(model: Any, content: Any, convert: Convert | None) -> tuple[nn.Linear | None, list[str]]:
    """Fill a model from the content of a file, and remove its classifier.

    Args:
        model: a timm model.
        content: tensors, in mappings of any depth.
        convert: timm's function from published files of the model to its own names and shapes, or None.

    Returns:
        The classifier, if it is a single linear layer that the file has; and notes on the file.

    Raises:
        ValueError: the encoder has tensors that the file lacks, or has with other shapes or invalid values,
            or its blocks have other tensors in the file.
    """
    heads = classifiers(model.pretrained_cfg.get("classifier"))
    part, others = _best_part(content, _encoder_only(model.state_dict(), heads), convert)
    has_classifier = _match_classes(model, part.state, heads)
    kept = _linear(model, part.state)
    whole = model.state_dict().keys()
    model.reset_classifier(0)
    own = model.state_dict()
    needed = {name: v for name, v in own.items() if not name.endswith(COMPUTED)}
    found = {n: v for n, v in part.state.items() if n in needed or n in own and own[n].shape == v.shape}
    misfitting = misfits(needed, {n: found[n] for n in needed if n in found})
    if wrong := misfitting + _bad_values(needed, found):
        raise ValueError(some(wrong) + (_another(part.state, needed, heads) if misfitting else ""))
    model.load_state_dict(found, strict=False)
    notes = [f"read from '{part.place}'" + (f", not '{others[0]}'" if others else "")] if part.place else []
    if kept is None:
        notes.append("classifier not used: not one linear layer" if has_classifier else "no classifier in it")
    prefixes = tuple(f"{place}." for place in others)
    unused = [n for n in part.state if n not in whole and not _is_of(n, heads) and not n.endswith(COMPUTED)]
    unused += [name for name in part.rest if not name.startswith(prefixes) and not name.endswith(COMPUTED)]
    if other := _in_blocks(unused, own):
        raise ValueError(f"its blocks have other tensors, too: {some(other)}; is it of another model?")
    if unused:
        notes.append(f"{len(unused)} tensor{'s' * (len(unused) > 1)} unused: {some(sorted(unused))}")
    return kept, notes


def _another(given: State, needed: State, heads: Collection[str]) -> str:
    """Return what shows that a file is of another model: its tensors that the encoder does not need."""
    there = [n for n in given if n not in needed and not n.endswith(COMPUTED) and not _is_of(n, heads)]
    return (f"; the file has {some(sorted(there))}" if there else "") + "; backbone=NAME takes another"


def _in_blocks(unused: Collection[str], own: State) -> list[str]:
    """Return the unused tensors of the model's own blocks: a deeper network, or blocks of another kind."""
    blocks = {name.partition(".")[0] for name in own if re.match(r"[^.]+\.\d+\.", name)}
    return sorted(name for name in unused if name.partition(".")[0] in blocks)


def classifiers(names: str | Collection[str] | None) -> tuple[str, ...]:
    """Return the names of a model's classifiers, of which timm gives one, several or none."""
    return (names,) if isinstance(names, str) else tuple(names or ())


def num_classes(content: Any, heads: Collection[str]) -> int:
    """Return the number of classes in a file, by the names of the model's classifiers; 0 without one."""
    ends = tuple(f".{head}.weight" for head in heads)
    return max((len(v) for name, v in tensors_in(content) if v.ndim and f".{name}".endswith(ends)), default=0)


def _is_of(name: str, heads: Collection[str]) -> bool:
    return name.startswith(tuple(f"{head}." for head in heads))


def _encoder_only(state: State, heads: Collection[str]) -> dict[str, Tensor]:
    return {name: v for name, v in state.items() if not _is_of(name, heads) and not name.endswith(COMPUTED)}


def _best_part(content: Any, own: State, convert: Convert | None) -> tuple[Part, list[str]]:
    """Return the part of a file that fits best, and the places of others that fit as well."""
    parts = [part for group in _groups(content) for part in _parts(group, own)]
    if not parts:
        raise ValueError("it holds no tensors with names")
    best = min(parts, key=lambda part: part.rank(own))
    if convert and best.fit(own) < len(own):
        converted = [done for part in parts if (done := _converted(part, convert))]
        parts += [again for done in converted for again in _parts(done, own)]
        best = min(parts, key=lambda part: part.rank(own))
    equal = {part.place for part in parts if part.fit(own) == best.fit(own)} - {best.place}
    return best, sorted(equal)


def _groups(content: Any, place: str = "") -> list[Part]:
    """Return the mappings in a file that hold tensors, in float32, the largest first."""

    def found(content: Any, place: str) -> Iterator[Part]:
        if not isinstance(content, Mapping):
            return
        tensors = {str(k): _widened(v) for k, v in content.items() if isinstance(v, Tensor)}
        if tensors:
            yield Part(place, tensors)
        for key, value in content.items():
            yield from found(value, f"{place}.{key}" if place else str(key))

    return sorted(found(content, place), key=lambda part: (-len(part.state), part.place))[:MOST_GROUPS]


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _parts(group: Part, own: State) -> list[Part]:
    """Return a group of tensors without each prefix that its names may have before the model's own names."""
    votes: Counter[str] = Counter()
    for name in group.state:
        votes.update(name[: -len(end)] for end in _ends(name) if end in own)
    prefixes = {"", *(prefix for prefix, _ in votes.most_common(4))}
    known = ""
    while longer := [p for p in PREFIXES if 2 * _count(group.state, known + p) > len(group.state)]:
        known += longer[0]
        prefixes.add(known)
    return [_without(group, prefix) for prefix in sorted(prefixes)]


def _ends(name: str) -> Iterator[str]:
    """Yield the name, and all of it that follows one of its dots."""
    yield name
    for dot in re.finditer(r"\.", name):
        yield name[dot.end() :]


def _count(state: State, prefix: str) -> int:
    return sum(name.startswith(prefix) for name in state)


def _without(group: Part, prefix: str) -> Part:
    place = ".".join(filter(None, (group.place, prefix.rstrip("."))))
    state = {n[len(prefix) :]: v for n, v in group.state.items() if n.startswith(prefix)}
    rest = [".".join(filter(None, (group.place, n))) for n in group.state if not n.startswith(prefix)]
    return Part(place, state, (*group.rest, *rest))


def _converted(part: Part, convert: Convert) -> Part | None:
    """Return a part by timm's own names, or None: a converter may fail in any way on another model's file."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of timm's code on later versions of torch
            done = convert(dict(part.state))
        return Part(part.place, {n: v for n, v in done.items() if isinstance(v, Tensor)}, part.rest)
    except Exception:
        return None


def _match_classes(model: Any, state: State, heads: Collection[str]) -> bool:
    """Resize the model's classifier to the classes of the file; return whether the file has one."""
    classes = next((len(state[f"{h}.weight"]) for h in heads if f"{h}.weight" in state), 0)
    if classes > MOST_CLASSES:
        raise ValueError(f"its classifier has {classes:,} classes; {MOST_CLASSES:,} at most")
    if classes != model.num_classes:
        model.reset_classifier(classes)
    return classes > 0


def _linear(model: Any, state: State) -> nn.Linear | None:
    """Return the classifier with the file's weights; None if it is not a single linear layer in both."""
    head = model.get_classifier()
    head = getattr(head, "fc", head)
    name = next((n for n, module in model.named_modules() if module is head), "")
    if not isinstance(head, nn.Linear):
        return None
    given = {key: state[f"{name}.{key}"] for key in head.state_dict() if f"{name}.{key}" in state}
    if misfits(head.state_dict(), given) or _bad_values(head.state_dict(), given):
        return None
    head.load_state_dict(given)
    return head


def _bad_values(own: State, given: State) -> list[str]:
    """Return which tensors have values that the model cannot take."""
    words = []
    for name, tensor in given.items():
        if name in own and own[name].is_floating_point() and not tensor.is_floating_point():
            words.append(
                f"{name} has values of type {str(tensor.dtype).removeprefix('torch.')}, expected float"
            )
        elif tensor.is_floating_point() and not torch.isfinite(tensor).all():
            words.append(f"{name} has values that are NaN or infinite")
    return words
