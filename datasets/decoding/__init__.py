"""Decoding of image files: formats, color, bit depth and orientation."""
