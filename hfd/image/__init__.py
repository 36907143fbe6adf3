"""Pictures: encoded files in, sRGB pixels out, and back."""
