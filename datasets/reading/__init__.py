"""Read image folders and official layouts."""
