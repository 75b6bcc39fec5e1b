"""The data sets. One file is one data set or family; `base` holds the splits and streams that methods use."""
