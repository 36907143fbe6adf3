"""Pictures for the codec: split into what a file stores, read and written by strips."""
