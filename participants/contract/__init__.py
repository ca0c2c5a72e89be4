"""What every participant shares: idempotent operations, barrier, status query, credential, faults."""
