"""Lint: what is wrong with declared stacks, said with file and line before anything runs."""
