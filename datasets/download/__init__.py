"""Bring the files of a data set to this machine: fetched, checked and unpacked."""
