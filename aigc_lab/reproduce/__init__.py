"""`aigc reproduce`: an experiment with claims becomes runs, measurements, verdicts and a line in the ledger."""
