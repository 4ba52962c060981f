"""What the verbs of administration work on: the data folder here, or a Homeport far away. They cannot tell which."""
