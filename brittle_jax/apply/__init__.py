"""What a run leaves to be used: trained detectors."""
