"""Networks: torch.nn and nothing else. Each file can be lifted into a notebook."""
