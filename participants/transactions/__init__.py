"""Sales and returns, and the balances that in-store sales are paid from."""
