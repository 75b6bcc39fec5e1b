"""Compute statistics."""
