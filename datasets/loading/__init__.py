"""Load a data set: an official one, a generated one, or a folder of images."""
