"""Judging a whole light curve: noise, the choice of the aperture, events, detrending."""
