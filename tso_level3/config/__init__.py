"""What a user can set: parameters and their fields, defaults by observing mode."""
