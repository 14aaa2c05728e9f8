"""Evaluation of subjects in environments: lists, seeds, episodes, rounds, scores."""
