"""The Newton equation of all time levels: Krylov forms and their preconditioners."""
