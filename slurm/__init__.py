"""Where runs are executed on a cluster; knows nothing of learning and imports no torch."""
