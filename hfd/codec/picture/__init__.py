"""Pictures for the codec: colours, transparency and metadata, read and written by strips."""
