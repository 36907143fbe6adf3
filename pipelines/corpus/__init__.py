"""Photographs: listed and fetched, from folders and S3."""
