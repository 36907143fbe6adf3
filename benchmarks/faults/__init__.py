"""Inject faults into each step and check the outcome of the run."""
