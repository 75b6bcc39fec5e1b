"""Turn what was asked for into run configurations."""
