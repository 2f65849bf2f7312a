"""How certain a solution is: what its policy costs in truth, and what finitely many players do."""
