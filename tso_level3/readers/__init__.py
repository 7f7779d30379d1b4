"""Readers: open files, data models and arrays as a `tso_level3.datatypes.Exposure`."""
