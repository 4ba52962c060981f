"""Who somebody is and what they may do. No HTTP in here: `server/` asks, and turns the errors into answers."""
