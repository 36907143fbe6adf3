"""The page that compares finished evaluations: its content, plots and rendering."""
