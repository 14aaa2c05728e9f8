"""Stacks that others declared: compose files and pm2 ecosystem files, read as they are."""
