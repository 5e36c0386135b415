"""One module a data set, or a family of them read in one way."""
