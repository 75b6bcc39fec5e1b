"""Encoders, heads and weight files."""
