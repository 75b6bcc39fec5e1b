"""Oxford 102 Flowers: 8,189 photographs with official lists for all three parts."""

from pathlib import Path

from .about import About, Archive, Hub, Listing, Torchvision
from .reading import matlab
from .storage.table import Row

BASE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
ABOUT = About(
    title="Oxford 102 Flowers (Nilsback & Zisserman 2008)",
    homepage=f"{BASE}/",
    license="none stated",
    num_classes=102,
    sizes={"train": 1_020, "holdout": 1_020, "test": 6_149},
    probes=("jpg",),  # not the lists, which may lie beside the packed images
    folders=("flowers-102",),
    archives=(
        Archive(
            f"{BASE}/102flowers.tgz",
            "sha256:2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
            344_862_509,
        ),
        Archive(
            f"{BASE}/imagelabels.mat",
            "sha256:4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
            502,
            unpack=False,
        ),
        Archive(
            f"{BASE}/setid.mat",
            "sha256:46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
            14_989,
            unpack=False,
        ),
    ),
    torchvision=Torchvision("Flowers102"),
    hub=Hub("Donghyun99/Oxford-Flower-102", {"train": "train", "holdout": "validation", "test": "test"}),
)
SETS = {"train": "trnid", "holdout": "valid", "test": "tstid"}
# No official file has the class names; these are torchvision's.
NAMES = """
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily,
moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea,
spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon flower,
giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape hyacinth, corn poppy,
prince of wales feathers, stemless gentian, artichoke, sweet william, carnation, garden phlox,
love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya, cape flower, great masterwort,
siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia, bolero deep blue, wallflower,
marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula, sunflower, pelargonium,
bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia?, cautleya spicata, japanese anemone,
black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris, windflower,
tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus, toad lily,
anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen,
watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, camellia, mallow,
mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily
"""
CLASSES = tuple(NAMES.strip().replace(",\n", ", ").split(", "))


def read(root: Path) -> Listing:
    """Read the image numbers of each part, and the label of each image; both start at 1."""
    with matlab.variables(root / "imagelabels.mat", "the labels of 102 Flowers") as content:
        labels = [matlab.label_of(number, ABOUT.num_classes) for number in content["labels"].ravel()]
    with matlab.variables(root / "setid.mat", "the numbers of each part's images") as content:
        parts = {
            part: [Row(f"jpg/image_{i:05}.jpg", labels[i - 1]) for i in content[key].ravel().tolist()]
            for part, key in SETS.items()
        }
    return Listing(CLASSES, parts)
