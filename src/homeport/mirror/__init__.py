"""The mirror: upstream images, here before anyone asks, and fetched when somebody does."""
