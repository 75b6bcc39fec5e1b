"""Run jobs on a SLURM cluster. This package imports neither torch nor the other packages."""
