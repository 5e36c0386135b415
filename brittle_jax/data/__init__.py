"""Data sets, which of their images are normal, train and test, and how they reach the devices."""
