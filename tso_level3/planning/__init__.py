"""What is settled once per exposure, on a sample of its integrations."""
