"""Decide which runs to do, in which order, and where; then start them."""
