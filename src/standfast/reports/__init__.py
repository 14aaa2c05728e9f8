"""Facts in, Markdown and JSON out; a claim without evidence cannot be made."""
