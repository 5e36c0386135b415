"""Synthetic parcels: solids of known materials, packed into a cardboard box, as a dual-energy scanner sees them."""
