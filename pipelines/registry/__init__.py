"""The MLflow model registry: versions of a model, its champion, and their files."""
