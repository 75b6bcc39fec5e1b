"""Official layouts of the known data sets, made small: one module a set.

A module offers `write(folder)`, which makes the archives under their official names, and
`lists(root)`, which makes the unpacked lists at their published sizes, without images.
"""
