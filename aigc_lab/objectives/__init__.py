"""Equations: one class or function each, torch and nothing else."""
