"""Helpers without astronomy: statistics, cache, atomic files, progress bars, threads."""
