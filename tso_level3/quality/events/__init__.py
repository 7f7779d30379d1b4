"""Search for tilts, jumps, disturbances and settling in a measured exposure."""
