"""Where bytes live: the contract in `blobstore`, and the stores that keep it."""
