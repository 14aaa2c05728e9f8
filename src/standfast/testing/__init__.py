"""Contracts that every adapter must pass, shipped for those who add one."""
