"""Train and record one run."""
