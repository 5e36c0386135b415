"""What is measured: the four detectors (Eq. 1), brittleness (Eq. 2), and how well scores separate."""
