"""The benchmark: the same work here and on distribution, side by side, printed beside the bar (`make bench`)."""
