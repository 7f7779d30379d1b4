"""Search for tilts, jumps, steps and settling in a light curve."""
