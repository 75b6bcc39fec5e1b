"""Measure speed with pytest-benchmark."""
