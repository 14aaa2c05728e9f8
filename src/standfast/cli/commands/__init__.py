"""The commands, one module per subject; each adds its own to the group that it is given."""
