"""Kept models: write them, choose among them, load them, predict with them, export them."""
