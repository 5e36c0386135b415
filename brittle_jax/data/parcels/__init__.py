"""Synthetic parcels: solids of known materials, packed into a cardboard box, and what a dual-energy scanner sees."""
