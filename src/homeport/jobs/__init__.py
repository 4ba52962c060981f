"""What runs by itself or because somebody asked: a queue in the database, its workers, and its schedule."""
