"""The cache of pixels, the index of images, and readers of tars."""
