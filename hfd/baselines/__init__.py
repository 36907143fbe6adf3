"""The codecs that we compare with, behind one small interface."""
