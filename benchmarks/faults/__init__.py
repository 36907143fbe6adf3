"""Faults injected into each step, and what becomes of the run."""
