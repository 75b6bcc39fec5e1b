"""Source classes by weight, and images of them, on small tables and images made here."""

import base64
import json
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imsave
from transferbench import InputError
from transferbench.analysis.figures import class_images, class_weights
from transferbench.analysis.figures.inline_svg import inline_svg
from transferbench.analysis.figures.style import PAPER

WEIGHTS = {"bee": [0.9, 1.0], "cup": [0.2, 0.4], "oak": [0.5, 0.7], "sea": [0.1, 0.0], "urn": [0.5, 0.7]}


def weights_of(weights=WEIGHTS):
    return pd.DataFrame(weights.values(), index=weights.keys()).rename_axis(index="class", columns="seed")


def png(shape=(8, 8, 3), value=0.5):
    pixels = np.full(shape, value)
    pixels[0, 0] = 1 - value
    drawn = BytesIO()
    imsave(drawn, pixels, format="png", cmap="gray", vmin=0, vmax=1)
    return base64.b64encode(drawn.getvalue()).decode()


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "imagenet-birds.json"
    classes = {name: [png(value=0.1 * i) for i in range(4)] for name in ("bee", "oak", "sea")}
    pictures = {"source": "imagenet", "target": "birds", "classes": classes, "target_images": [png()] * 5}
    path.write_text(json.dumps(pictures))
    return path


def test_weights_figure_shows_each_seed_of_the_first_and_the_last_classes():
    (axes,) = class_weights.weights_figure(weights_of(), 2).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["bee", "oak", "cup", "sea"]
    points = [group.get_offsets() for group in axes.collections]
    assert [sorted(group[:, 0]) for group in points] == [[0.9, 1.0], [0.5, 0.7], [0.2, 0.4], [0.0, 0.1]]
    rows = axes.get_yticks()
    assert all(abs(group[:, 1] - row).max() < 0.5 for group, row in zip(points, rows, strict=True))
    assert "1 class between" in [text.get_text() for text in axes.texts]


def test_weights_in_words_say_how_stable_they_are():
    assert class_weights.weights_alternative(weights_of(), 2) == (
        "Weights of 5 source classes from 2 seeds. Highest: bee 0.95 ± 0.07, oak 0.60 ± 0.14; lowest: sea"
        " 0.05 ± 0.07, cup 0.30 ± 0.14. Rank correlation between seeds, on average: 1.00."
    )
    alone = class_weights.weights_alternative(weights_of({"a": [0.25], "b": [0.75]}))
    assert alone == (
        "Weights of 2 source classes from 1 seed. Highest: b 0.75; lowest: a 0.25. One seed alone does not"
        " show how stable the ranking is."
    )


def test_pictures_are_read_as_they_were_written(written):
    pictures = class_images.read_pictures(written)
    assert (pictures.source, pictures.target) == ("imagenet", "birds")
    assert len(pictures.target_images) == 5
    assert list(pictures.classes) == ["bee", "oak", "sea"]
    image = pictures.classes["oak"][2]
    assert image.shape[:2] == (8, 8)
    assert image[1, 1, 0] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"target_images": ["no picture"]},
        {"target_images": [base64.b64encode(b"no picture").decode()]},
        {"target_images": [png()[:60]]},
        {"target_images": None},
        {"classes": ["bee"]},
        {"classes": {"bee": [3]}},
    ],
)
def test_a_broken_file_of_pictures_is_named(written, change):
    written.write_text(json.dumps(json.loads(written.read_text()) | change))
    with pytest.raises(InputError, match="no valid file of images") as caught:
        class_images.read_pictures(written)
    assert str(written) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_file_of_pictures_is_named(written):
    written.write_text(written.read_text()[:100])
    with pytest.raises(InputError, match=r"imagenet-birds.json: no valid file of images"):
        class_images.read_pictures(written)


@pytest.mark.parametrize("columns", [1, 3])
def test_images_stand_beside_their_class_and_on_no_other(written, columns):
    pictures = class_images.read_pictures(written)
    figure = class_images.class_pictures_figure(pictures, weights_of(), 2, columns)
    (axes,) = figure.axes
    boxes = [(*image.get_extent(), image.get_array()) for image in axes.images]
    assert len(boxes) == 5 + 3 * 4  # the target's, and four of each class that has some
    places = {text.get_text().split("\n")[0]: text.get_position() for text in axes.texts}
    assert list(places) == [
        "Target: birds", "Highest weights in imagenet", "bee", "oak", "Lowest weights in imagenet", "cup",
        "no image", "sea",
    ]  # fmt: skip
    assert places["no image"][1] == places["cup"][1]
    for i, (left, right, bottom, top, _) in enumerate(boxes):
        assert 0 <= left < right <= axes.get_xlim()[1]
        assert 0 <= top < bottom <= axes.get_ylim()[0]
        for other_left, other_right, other_bottom, other_top, _ in boxes[:i]:
            apart = left >= other_right or right <= other_left or top >= other_bottom or bottom <= other_top
            assert apart
    oak = [box for box in boxes[5:] if box[3] < places["oak"][1] < box[2] and box[0] > places["oak"][0]][:4]
    assert [round(float(array[1, 1, 0]), 1) for *_, array in sorted(oak, key=lambda box: box[0])] == [
        0.0, 0.1, 0.2, 0.3,
    ]  # fmt: skip


def test_an_image_keeps_its_proportions_and_its_upper_side(written):
    stored = json.loads(written.read_text())
    stored["target_images"] = [png((8, 16, 3)), png((16, 8))]
    written.write_text(json.dumps(stored))
    (axes,) = class_images.class_pictures_figure(class_images.read_pictures(written), weights_of(), 1).axes
    wide, high = (image.get_extent() for image in axes.images[:2])
    assert (wide[1] - wide[0]) / (wide[2] - wide[3]) == pytest.approx(2)
    assert (high[1] - high[0]) / (high[2] - high[3]) == pytest.approx(0.5)
    assert wide[2] > wide[3]  # the axis goes down, and so do the image's rows
    assert axes.images[0].origin == "upper"


def test_each_image_goes_into_the_page_by_itself(written):
    figure = class_images.class_pictures_figure(class_images.read_pictures(written), weights_of(), 2)
    page = inline_svg(figure)
    assert page.count("<image") == 17
    assert page.count("data:image/png;base64") == 17
    assert PAPER not in page


def test_class_pictures_in_words(written):
    text = class_images.class_pictures_alternative(class_images.read_pictures(written), weights_of(), 2)
    assert text == (
        "5 images of the target birds next to images of classes of imagenet. Highest weights: bee 0.95 ±"
        " 0.07, oak 0.60 ± 0.14; lowest: sea 0.05 ± 0.07, cup 0.30 ± 0.14."
    )
