"""Decide what runs where."""
