"""Newton: its start, its continuation, its memory, and how a solve is resumed."""
