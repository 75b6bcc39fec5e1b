"""The data sets: one file is one data set or family; `base` is what methods draw from."""
