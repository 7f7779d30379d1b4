"""The only way in: whatever holds frames becomes a `tso_level3.datatypes.Exposure`."""
