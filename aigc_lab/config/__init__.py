"""compose -> check -> build: from files and overrides to checked values, and from those to objects."""
