"""Products, their prices, and whether they are still sold."""
