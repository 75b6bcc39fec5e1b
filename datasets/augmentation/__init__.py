"""Augmentation of training batches beyond crops and flips."""
