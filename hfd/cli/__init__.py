"""The codec's command line: compress, decompress, info and export; batches, progress, exit codes."""
