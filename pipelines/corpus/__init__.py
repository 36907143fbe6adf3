"""List and fetch photographs from folders and S3."""
