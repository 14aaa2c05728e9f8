"""Claims and reports in the words of each dialect."""
