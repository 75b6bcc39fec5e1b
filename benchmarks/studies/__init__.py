"""One-off studies."""
