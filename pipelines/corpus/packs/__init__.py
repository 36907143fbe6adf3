"""Packs, which hold many pictures in one file: WebDataset tars."""
