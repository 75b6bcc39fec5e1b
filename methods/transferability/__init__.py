"""Scores of frozen features for a target, one per file: arithmetic on arrays, without images or networks.

A higher score is better. Shape letters: N images, F features, C classes, S source classes.
"""
