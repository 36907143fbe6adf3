"""What a workspace holds, which of it is still needed, and the deletion of the rest."""
