"""CIFAR-100: 60,000 photographs of 32 px in 100 classes, with an official test set; the holdout is drawn."""

from pathlib import Path

from .about import About, Archive, Listing, Torchvision
from .cifar10 import batch, names
from .reading.arrays import split_arrays

ABOUT = About(
    title="CIFAR-100 (Krizhevsky 2009)",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    license="none stated",
    num_classes=100,
    sizes={"train": 45_000, "holdout": 5_000, "test": 10_000},
    probes=("meta",),
    folders=("cifar-100-python",),
    archives=(
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            169_001_437,
        ),
    ),
    torchvision=Torchvision("CIFAR100"),
    preset="small",
    in_arrays=True,
)


def read(root: Path) -> Listing:
    """Read the training and the test batch; use the fine labels, not the 20 coarse ones."""
    train, test = (batch(root / part, b"fine_labels") for part in ("train", "test"))
    return Listing(
        names(root / "meta", b"fine_label_names"), split_arrays("cifar100", train, test, ABOUT.sizes)
    )
