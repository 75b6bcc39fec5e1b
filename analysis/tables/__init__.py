"""Lay out tables."""
