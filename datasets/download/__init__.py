"""Download, check and unpack the files of data sets."""
