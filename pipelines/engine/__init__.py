"""Engines that run maps and trainings: in this process or on a Ray cluster."""
