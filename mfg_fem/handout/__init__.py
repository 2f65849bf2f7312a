"""One report of a solution for those who decide: numbers, tables, pictures, on one page."""
