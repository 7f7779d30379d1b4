"""Pixel arithmetic: NumPy in, NumPy out."""
