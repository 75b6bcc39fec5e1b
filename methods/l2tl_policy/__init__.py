"""The policy of L2TL."""
