"""The commands of the codec: compress, decompress, info and export."""
