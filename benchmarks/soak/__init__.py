"""Retrain each week of a year on a changing corpus, with a fault in each week, and check what each week leaves."""
