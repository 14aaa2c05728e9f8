"""Where publications go: a directory of numbered files, or an HTTP address."""
