"""Many items: what works on them in processes, and the ledger by which a batch resumes."""
