"""Helpers that know nothing of astronomy."""
