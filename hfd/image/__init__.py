"""Read picture files as sRGB pixels, and write them."""
