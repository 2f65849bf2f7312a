"""What came out, and an honest report of it."""
