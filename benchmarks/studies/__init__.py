"""Studies that were run once, for the documents."""
