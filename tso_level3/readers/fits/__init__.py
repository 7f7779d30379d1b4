"""FITS files: headers, byte-range reading of images, generic and ncdhas files."""
