"""The gate in front of everything that leaves the house, and the publishers behind it."""
