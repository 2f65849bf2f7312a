"""Newton, what it starts from, what it needs, and how it goes on after a stop."""
