"""The administration API below `/api/v1/`: what runs, what happened, who was told, and which secrets can be read."""
