"""Boxes, tiles and the order in which the parts of a picture are sampled. Pure geometry."""
