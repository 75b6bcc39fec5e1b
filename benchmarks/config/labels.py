"""The labeled target images of a run: how many of each class, and what follows from that for the protocol."""

from ... import InputError
from .schema import Labels, Protocol, Request


def usual_holdout_shots(labels: Labels, shots: int | None) -> int | None:
    """Return the labels per class of the holdout where none are given; None: all."""
    return max(1, shots // 5) if shots and labels is Labels.all else None


def usual_protocol(labels: Labels, shots: int | None) -> Protocol:
    """Return the protocol where none is given.

    Where every label counts, a method that needs no rewards trains on what the others hold out.
    """
    return Protocol.trainval if shots and labels is Labels.all else Protocol.holdout


def holdout_shots(request: Request) -> int | None:
    """Return the labels per class of the holdout; None: all.

    Raises:
        InputError: with `labels=all`, shots for the training or the holdout images are missing.
    """
    shots, given = request.shots, request.holdout_shots
    if shots is None or request.labels is Labels.train:
        return given
    if shots == 1:
        raise InputError(
            "shots=1: with labels=all a class needs one image to train on and one for the holdout; "
            "expected shots=2 or more, or labels=train"
        )
    held = given or usual_holdout_shots(request.labels, shots)
    assert held is not None
    if held >= shots:
        raise InputError(
            f"holdout_shots={held}: with labels=all they are part of shots={shots}; "
            f"expected 1 to {shots - 1}, or labels=train"
        )
    return held
