"""Preflight: pure judgements over samples."""
