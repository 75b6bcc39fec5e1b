"""Choose the number of steps and the batch size of a recipe by the number of training images."""

from dataclasses import replace

from ...datasets.base import Dataset
from ...methods.recipe import Recipe

MOST_BATCH = 64  # images
FEWEST_STEPS, MOST_STEPS = 300, 20_000
IMAGES_OF_FEWEST = 1000  # training images up to which the fewest steps are taken


def length(num_images: int) -> tuple[int, int]:
    """Return the number of steps and the batch size for a number of training images.

    The idea is the hyper-rule of BiT (Kolesnikov et al., arXiv 1912.11370): the number of images alone sets
    the length. Departs from it: BiT has batches of 512 and 500 steps for fewer than 20,000 images, 10,000
    below 500,000, and 20,000 above. Here a batch is at most 64 images and never larger than the training set
    (two images at least, which batch norms need), and the steps grow in proportion to the images, without
    jumps, to the same 20,000.
    """
    batch_size = min(MOST_BATCH, 1 << max(1, num_images.bit_length() - 1))
    steps = round(FEWEST_STEPS * num_images / IMAGES_OF_FEWEST)
    return min(max(steps, FEWEST_STEPS), MOST_STEPS), batch_size


def sized(recipe: Recipe, num_images: int) -> Recipe:
    """Return a recipe with numbers in place of 0 steps and a batch size of 0."""
    steps, batch_size = length(num_images)
    return replace(recipe, steps=recipe.steps or steps, batch_size=recipe.batch_size or batch_size)


def num_training_images(target: Dataset, shots: int | None) -> int:
    """Return the number of training images of a target, at most `shots` times the classes."""
    num_images = len(target.parts["train"].labels)
    return min(num_images, shots * len(target.classes)) if shots else num_images
