"""Store pixels and indexes, and read tars."""
