"""Measure speed, by pytest-benchmark."""
