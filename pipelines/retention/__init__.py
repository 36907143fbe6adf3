"""Contents of a workspace, the outputs that are still needed, and the deletion of the others."""
