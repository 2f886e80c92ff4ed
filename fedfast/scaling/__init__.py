"""How cost grows with clients, cohort and ranks: measured, fitted, predicted."""
