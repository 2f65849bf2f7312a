"""The Newton equation of all time levels: Krylov formulations and their preconditioners."""
