"""Stock per store and product, reservations, stock movements."""
