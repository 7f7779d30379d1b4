"""tso_level3: light curves from JWST imaging time series."""
