"""Turn a request into run configurations."""
