"""Supervisors beside each other: the same toy services, the same measures, one run."""
