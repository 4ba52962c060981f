"""The vocabulary of images: pure, no I/O, no clock."""
