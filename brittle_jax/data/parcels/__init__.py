"""Synthetic parcels: solids of known materials, packed into a cardboard box, as a dual-energy scanner sees them."""

VERSION = "4.0.0"  # of the data set; whatever changes a parcel changes it, too
