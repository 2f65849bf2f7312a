"""What the players want: games, controls, their data, boundaries and units."""
