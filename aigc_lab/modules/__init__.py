"""Lightning modules: objectives applied to networks. Thin."""
