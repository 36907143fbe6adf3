"""Baseline codecs for comparisons, behind one interface."""
