"""Point-spread functions: computed from the telescope's pupil, empirical, or analytic."""
